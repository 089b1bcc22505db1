import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textgen import storage
from textgen.errors import CheckpointError, LockedError, ResourceError, TextgenError
from textgen.storage import folders as lock

POSIX = os.name == "posix"


def write(target: Path, content: str) -> None:
    with storage.new_folder(target) as begun:
        (begun / "data.bin").write_bytes(content.encode() + bytes(range(40)))
        storage.write_json(begun / "config.json", {"format": 1, "content": content})


def content_of(target: Path) -> str | None:
    """What the newest whole version holds, every byte of it checked; None where there is none."""
    folder = storage.whole(target)
    if folder is None:
        return None
    files = storage.verified(folder)
    content = str(storage.read_json(files["config.json"])["content"])
    assert files["data.bin"].read_bytes() == content.encode() + bytes(range(40))
    return content


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "last"
    write(folder, "old")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make its own checksum right again, as an attacker would."""
    path = folder / storage.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    manifest["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    path.write_text(storage.json_text(manifest), encoding="utf-8")


# Writing: the old or the new, whole


def test_a_folder_is_written_and_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "best", "new")
    assert content_of(tmp_path / "a" / "b" / "best") == "new"
    assert names(tmp_path / "a" / "b") == ["best"]


def test_a_new_folder_takes_the_place_of_the_old(target: Path) -> None:
    write(target, "new")
    assert content_of(target) == "new"
    assert names(target.parent) == ["last"]


def test_the_target_stays_while_the_new_is_being_written(target: Path) -> None:
    with storage.new_folder(target) as begun:
        (begun / "config.json").write_text("half")
        assert content_of(target) == "old"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_a_block_that_fails_leaves_the_old_and_its_own_error(
    target: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)), storage.new_folder(target) as begun:
        (begun / "config.json").write_text("half")
        raise error
    assert content_of(target) == "old"
    assert names(target.parent) == ["last"]


def test_a_full_disk_in_the_block_is_a_resource_error_that_names_the_folder(target: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"last.*No space left") as refused,
        storage.new_folder(target) as begun,
    ):
        (begun / "config.json").write_text("half")
        raise OSError(28, "No space left on device")
    assert refused.value.exit_code == 1
    assert content_of(target) == "old"
    assert names(target.parent) == ["last"]


class FailAt:
    """Makes the k-th of the system's writing calls fail; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
        self.k, self.calls = k, 0
        for owner, name in (
            (os, "fsync"),
            (os, "open"),
            (pathlib.Path, "rename"),
            (pathlib.Path, "mkdir"),
            (pathlib.Path, "write_text"),
            (pathlib.Path, "write_bytes"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self.failing(getattr(owner, name)))

    def failing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self.k:
                raise OSError(28, "No space left on device")
            return original(*args, **kwargs)

        return call


@pytest.mark.parametrize("existing", [None, "last", "last.old", "both"])
def test_whichever_call_fails_the_old_or_the_new_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: str | None
) -> None:
    reached = set()
    for k in range(1, 60):
        target = tmp_path / str(k) / "last"
        if existing is not None:
            write(target, "old")
        if existing == "last.old":
            target.rename(target.with_name("last.old"))
        if existing == "both":
            shutil.copytree(target, target.with_name("last.old"))
        with monkeypatch.context() as patched:
            failing = FailAt(patched, k)
            with contextlib.suppress(ResourceError):
                write(target, "new")
        if failing.calls < k:
            break
        found = content_of(target)
        assert found in (("new", None) if existing is None else ("old", "new")), k
        reached.add(found)
        storage.clear_leftovers(target)
        assert content_of(target) == found
        assert not target.with_name("last.new").exists()
        assert len(names(target.parent) if target.parent.exists() else []) <= 1
        write(target, "newer")
        assert content_of(target) == "newer"
        assert names(target.parent) == ["last"]
    else:
        pytest.fail("the calls do not end")
    assert k > 8
    assert "new" in reached
    assert len(reached) == 2, "some failures come before the new is in place, some after"


@pytest.mark.skipif(not POSIX, reason="kills by signal")
def test_a_kill_at_any_call_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    program = """
import os, pathlib, shutil, signal, sys
from pathlib import Path
from textgen import storage
for base in range(1, 25):
    target = Path(sys.argv[1]) / str(base) / "last"
    with storage.new_folder(target) as begun:
        (begun / "config.json").write_text("{}")
    if os.fork():
        os.wait()
        continue
    calls = 0
    def killing(original):
        def call(*args, **kwargs):
            global calls
            calls += 1
            if calls == base:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        return call
    for owner, name in ((os, "fsync"), (pathlib.Path, "rename"), (pathlib.Path, "mkdir"),
                        (shutil, "rmtree"), (os, "unlink"), (os, "rmdir")):
        setattr(owner, name, killing(getattr(owner, name)))
    with storage.new_folder(target) as begun:
        (begun / "config.json").write_bytes(b'{"new": 1}')
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=60)
    found = []
    for base in range(1, 25):
        target = tmp_path / str(base) / "last"
        folder = storage.whole(target)
        assert folder is not None
        found.append(storage.read_json(storage.verified(folder)["config.json"]))
        storage.clear_leftovers(target)
        assert len(names(target.parent)) == 1
    assert found[0] == {}
    assert found[-1] == {"new": 1}


def test_every_byte_is_flushed_before_the_folder_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, pathlib.Path.rename

    def flushed(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        events.append(f"{path.name}->{to.name}")
        return rename(path, to)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is flushed")
    write(tmp_path / "last", "old")
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(pathlib.Path, "rename", renamed)
    write(tmp_path / "last", "new")
    files = ["config.json", "data.bin", "manifest.json", "last.new"]
    assert events == [*files, "last->last.old", "last.new->last", tmp_path.name]


# Leftovers


def test_what_a_kill_between_the_renames_left_is_read(target: Path) -> None:
    target.rename(target.with_name("last.old"))
    assert content_of(target) == "old"
    storage.clear_leftovers(target)
    assert content_of(target) == "old"


def test_leftovers_are_cleared_and_nothing_else(target: Path) -> None:
    for name in ("last.new", "last.old"):
        shutil.copytree(target, target.with_name(name))
    (target.parent / "metrics.jsonl").touch()
    storage.clear_leftovers(target)
    assert names(target.parent) == ["last", "metrics.jsonl"]


def test_there_is_no_whole_version_of_nothing(tmp_path: Path) -> None:
    assert storage.whole(tmp_path / "last") is None
    (tmp_path / "last.new").mkdir()
    assert storage.whole(tmp_path / "last") is None


# Reading: every byte as it was written


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as refused:
        storage.verified(folder)
    assert refused.value.exit_code == 3
    return refused.value


@pytest.mark.parametrize("name", ["data.bin", "config.json", storage.MANIFEST])
def test_every_truncation_is_refused(target: Path, name: str) -> None:
    whole = (target / name).read_bytes()
    for length in range(len(whole)):
        (target / name).write_bytes(whole[:length])
        refusal(target)
    (target / name).write_bytes(whole)
    assert content_of(target) == "old"


@pytest.mark.parametrize("name", ["data.bin", "config.json", storage.MANIFEST])
def test_every_flipped_bit_is_refused(target: Path, name: str) -> None:
    whole = (target / name).read_bytes()
    with (target / name).open("rb+", buffering=0) as stream:
        for place, byte in enumerate(whole):
            for bit in range(8):
                stream.seek(place)
                stream.write(bytes([byte ^ 1 << bit]))
                refusal(target)
            stream.seek(place)
            stream.write(bytes([byte]))
    assert content_of(target) == "old"


@pytest.mark.parametrize("name", ["data.bin", "config.json", storage.MANIFEST])
@pytest.mark.parametrize("extra", [b"\x00", b"\n", b" ", b"{}"])
def test_trailing_bytes_are_refused(target: Path, name: str, extra: bytes) -> None:
    (target / name).write_bytes((target / name).read_bytes() + extra)
    refusal(target)


def test_files_of_two_saves_are_not_mixed(target: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", "new")
    shutil.copy(tmp_path / "other" / "data.bin", target / "data.bin")
    assert "data.bin" in str(refusal(target))


def test_a_missing_file_is_named(target: Path) -> None:
    (target / "data.bin").unlink()
    assert "data.bin" in str(refusal(target))


def test_a_folder_without_manifest_is_not_textgens(target: Path) -> None:
    (target / storage.MANIFEST).unlink()
    assert "not a textgen folder" in str(refusal(target))


def test_no_folder_is_a_matter_of_input_not_of_data(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such folder"):
        storage.verified(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        "~x",
        ".hidden",
        "a\n",
        "é",
        "x" * 200,
    ],
)
def test_a_manifest_names_only_plain_files_of_its_own_folder(target: Path, name: str) -> None:
    secret = target.parent / "x"
    secret.write_text("secret")
    entry = {"sha256": storage.sha256_of(secret), "bytes": 6}
    rewrite_manifest(target, lambda manifest: manifest["files"].update({name: entry}))
    assert "it names the file" in str(refusal(target))


def test_a_file_that_is_not_listed_is_not_read(target: Path) -> None:
    (target / "more.bin").write_text("unlisted")
    assert set(storage.verified(target)) == {"config.json", "data.bin"}


@pytest.mark.skipif(not POSIX, reason="symbolic links and pipes")
@pytest.mark.parametrize("name", ["data.bin", storage.MANIFEST])
def test_links_pipes_folders_and_devices_are_refused_without_being_opened(
    target: Path, name: str
) -> None:
    path, kept = target / name, target.parent / "kept"
    path.rename(kept)
    for make in (
        lambda: path.symlink_to(kept),
        lambda: path.symlink_to("/dev/zero"),
        lambda: os.mkfifo(path),
        lambda: path.mkdir(),
    ):
        make()
        assert "not a regular file" in str(refusal(target))
        path.rmdir() if path.is_dir() else path.unlink()
    kept.rename(path)
    assert content_of(target) == "old"


HOSTILE_ENTRIES: list[Any] = [
    None,
    [],
    {},
    "x",
    {"sha256": "x"},
    {"bytes": 3},
    {"sha256": None, "bytes": None},
    {"sha256": "x", "bytes": "many"},
    {"sha256": "x", "bytes": -1},
    {"sha256": "x", "bytes": 2**70},
    {"sha256": [[]], "bytes": 3},
]


@pytest.mark.parametrize("entry", HOSTILE_ENTRIES, ids=repr)
def test_an_entry_that_is_no_checksum_is_refused(target: Path, entry: Any) -> None:
    rewrite_manifest(target, lambda manifest: manifest["files"].update({"data.bin": entry}))
    refusal(target)


def with_own_checksum(folder: Path, text: str) -> None:
    """Write a manifest as this text; SELF in it becomes the checksum of the rest."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        rest = {key: value for key, value in json.loads(text).items() if key != "sha256"}
        own = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
        text = text.replace("SELF", own)
    (folder / storage.MANIFEST).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"x"',
        "{}",
        '{"files": []}',
        '{"files": {}}',
        '{"format": 1, "files": {}}',
        '{"format": 1, "files": {}, "sha256": "SELF"}',
        '{"format": 1, "files": {"a": {"sha256": "x", "bytes": 1e999}}, "sha256": "SELF"}',
        '{"format": 1, "files": {"a": {"sha256": "x", "bytes": NaN}}, "sha256": "SELF"}',
        '{"format": 1, "files": {"a": {"sha256": "x", "bytes": 1' + "0" * 5000 + "}}}",
        '{"format": 1, "format": 1, "files": {}, "sha256": "SELF"}',
        '{"format": true, "files": {}, "sha256": "SELF"}',
        '{"format": 0, "files": {}, "sha256": "SELF"}',
        '{"format": "1", "files": {}, "sha256": "SELF"}',
        '{"format": 1, "files": {}, "sha256": "SELF", "x": "\\ud800"}',
        "\ufeff{}",
        "{} {}",
        "[" * 10**6,
        '{"a":' * 10**5,
    ],
    ids=lambda text: text[:60],
)
def test_json_that_is_no_manifest_is_refused(target: Path, text: str) -> None:
    with_own_checksum(target, text)
    refusal(target)


def test_no_depth_of_nesting_gets_past_the_reader(target: Path) -> None:
    for depth in [10, 100, *range(300, 1100, 23)]:
        nested = "[" * depth + "]" * depth
        text = '{"format": 1, "files": {}, "x": ' + nested + ', "sha256": "SELF"}'
        with_own_checksum(target, text)
        refusal(target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1, "a": 1}',
        '{"x": {"a": 1, "b": 2, "a": 3}}',
        '{"a": 1' + "0" * 5000 + "}",
        "[" * 10**6,
        '{"a":' * 10**5,
        "{} {}",
        "\x00",
    ],
    ids=lambda text: text[:30],
)
def test_json_that_is_not_strict_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        storage.read_json(tmp_path / "config.json")


def test_json_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(CheckpointError, match="not valid JSON"):
        storage.read_json(tmp_path / "config.json")


def test_a_huge_manifest_is_refused_before_it_is_read(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (target / storage.MANIFEST).open("wb") as stream:
        stream.truncate(2**33)  # sparse
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: pytest.fail("it was read"))
    assert "large" in str(refusal(target))


def test_a_newer_format_says_upgrade(target: Path) -> None:
    rewrite_manifest(target, lambda manifest: manifest.update(format=2))
    assert str(refusal(target)).endswith("upgrade textgen")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "Git LFS pointer"),
        (b"\n <!DOCTYPE html>\n<html><body>404", "HTML page"),
        (b"<html>404", "HTML page"),
        (b"PK\x03\x04rest of an archive", "zip archive"),
        (b"\x80\x04\x95\x0b\x00\x00\x00", "pickle"),
    ],
)
@pytest.mark.parametrize("name", ["data.bin", storage.MANIFEST])
def test_a_file_of_another_kind_is_named(target: Path, name: str, data: bytes, named: str) -> None:
    (target / name).write_bytes(data)
    message = str(refusal(target))
    assert named in message
    assert name in message


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a", {"b": [1, 0.1, "é\u2028"], "a": None})
    storage.write_json(tmp_path / "b", {"b": [1, 0.1, "é\u2028"], "a": None})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert storage.read_json(tmp_path / "a") == {"b": [1, 0.1, "é\u2028"], "a": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "c", {"a": float("nan")})


# Locks


def run_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
import sys
from pathlib import Path
from textgen import storage
with storage.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder ``run``."""
    with run_python(HOLD, tmp_path / "run") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_held_folder_is_refused_with_its_own_exit_code(tmp_path: Path) -> None:
    with storage.locked(tmp_path / "run"):
        with (
            pytest.raises(LockedError, match="in use by another run") as refused,
            storage.locked(tmp_path / "run"),
        ):
            pytest.fail("two at once")
        assert refused.value.exit_code == 5
    with storage.locked(tmp_path / "run"):
        pass


def test_another_process_is_kept_out_and_disturbs_nothing(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    for _ in range(2):
        with pytest.raises(LockedError), storage.locked(tmp_path / "run"):
            pytest.fail("two at once")
    assert (tmp_path / "run").is_dir()


@pytest.mark.skipif(not POSIX, reason="kills by signal")
def test_a_killed_holder_does_not_block(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / storage.LOCK).exists()
    with storage.locked(tmp_path / "run"):
        pass


def test_a_folder_made_for_the_lock_alone_goes_with_it(tmp_path: Path) -> None:
    with contextlib.suppress(TextgenError), storage.locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
        raise TextgenError("nothing was written")
    assert names(tmp_path) == []


def test_a_folder_that_holds_something_stays(tmp_path: Path) -> None:
    with storage.locked(tmp_path / "run"):
        (tmp_path / "run" / "metrics.jsonl").touch()
    assert "metrics.jsonl" in names(tmp_path / "run")


@pytest.mark.skipif(not POSIX, reason="Windows removes no file that is held")
def test_the_lock_is_removed_while_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed after its release, it might by then be the lock of the next run."""
    taken = []
    original = lock._remove_if_only_lock

    def removing(folder: Path) -> None:
        with contextlib.suppress(LockedError), storage.locked(folder):
            taken.append(folder)
        original(folder)

    context = storage.locked(tmp_path / "run")
    context.__enter__()
    with monkeypatch.context() as patched:
        patched.setattr(lock, "_remove_if_only_lock", removing)
        context.__exit__(None, None, None)
    assert not taken


def test_a_place_that_cannot_be_locked_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ResourceError, match="cannot write"),
        storage.locked(tmp_path / "file" / "x"),
    ):
        pytest.fail("there is no such folder")


def test_a_new_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"old")
    with storage.NewFile(path) as file:
        file.write(b"..., rest")
        file.overwrite(0, b"new")
        file.write(b", more")
        assert path.read_bytes() == b"old"
        file.finish()
    assert path.read_bytes() == b"new, rest, more"
    with storage.NewFile(path) as file:
        file.write(b"half")
    assert path.read_bytes() == b"new, rest, more"
    assert names(tmp_path) == ["page"]


@pytest.mark.skipif(not POSIX, reason="links")
def test_a_new_file_follows_a_link_and_replaces_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "page")
    with storage.NewFile(tmp_path / "link") as file:
        file.write(b"new")
        file.finish()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "page").read_bytes() == b"new"


@pytest.mark.skipif(not POSIX, reason="/dev")
def test_a_new_file_never_takes_the_place_of_a_device() -> None:
    with pytest.raises(ResourceError, match="no ordinary file"), storage.NewFile(Path("/dev/null")):
        pass


def test_a_new_file_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(ResourceError, match=r"cannot write .*: No space left on device; free space"),
        storage.NewFile(tmp_path / "page") as file,
    ):
        file.finish()
    assert names(tmp_path) == []
