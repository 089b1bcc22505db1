"""Folders and files are written completely or not at all, by one writer at a time."""

import contextlib
import errno
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textgen import storage
from textgen.errors import LockedError, ResourceError, TextgenError

POSIX = os.name == "posix"
Write = Callable[[Path, str], None]


def content_of(target: Path) -> str | None:
    """The content of the newest complete version, every byte checked; None if there is none."""
    folder = storage.find_complete(target)
    if folder is None:
        return None
    files = storage.verified(folder)
    content = str(storage.read_json(files["config.json"])["content"])
    assert files["data.bin"].read_bytes() == content.encode() + bytes(range(40))
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing: the old or the new, whole


def test_a_folder_takes_the_place_of_the_old_when_its_block_ends(
    target: Path, write: Write
) -> None:
    with storage.new_folder(target) as begun:
        (begun / "config.json").write_text("half")
        assert content_of(target) == "old"
    write(target, "new")
    assert content_of(target) == "new"
    assert names(target.parent) == ["last"]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (ValueError("no"), ValueError, "no"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (SystemExit(1), SystemExit, "1"),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceError, r"last.*No space left"),
    ],
)
def test_a_block_that_fails_leaves_the_old_and_its_own_error(
    target: Path, error: BaseException, raised: type[BaseException], message: str
) -> None:
    with pytest.raises(raised, match=message), storage.new_folder(target) as begun:
        (begun / "config.json").write_text("half")
        raise error
    assert content_of(target) == "old"
    assert names(target.parent) == ["last"]


WRITING_CALLS = [
    *((os, name) for name in ("fsync", "open")),
    *((pathlib.Path, name) for name in ("rename", "mkdir", "write_text", "write_bytes")),
    (shutil, "rmtree"),
]


def fail_at(monkeypatch: pytest.MonkeyPatch, failing: int) -> Iterator[int]:
    """Make one of the system's writing calls fail; counts them."""
    calls = itertools.count(1)

    def patched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **kwargs)

        return call

    for owner, name in WRITING_CALLS:
        monkeypatch.setattr(owner, name, patched(getattr(owner, name)))
    return calls


@pytest.mark.parametrize("existing", [None, "last", "last.old", "both"])
def test_whichever_call_fails_the_old_or_the_new_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, existing: str | None
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
        with monkeypatch.context() as patched, contextlib.suppress(ResourceError):
            calls = fail_at(patched, k)
            write(target, "new")
        if next(calls) <= k:
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


# Leftovers


def test_leftovers_are_cleared_and_nothing_else(target: Path) -> None:
    for name in ("last.new", "last.old"):
        shutil.copytree(target, target.with_name(name))
    (target.parent / "metrics.jsonl").touch()
    storage.clear_leftovers(target)
    assert names(target.parent) == ["last", "metrics.jsonl"]


# Locks


def test_a_locked_folder_is_refused_with_its_own_exit_code(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            storage.locked(tmp_path / "run"),
            pytest.raises(LockedError, match="in use by another run") as refused,
            storage.locked(tmp_path / "run"),
        ):
            pytest.fail("two at once")
        assert refused.value.exit_code == 5


LOCK = """
import sys
from pathlib import Path
from textgen import storage
with storage.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not POSIX, reason="kills by signal")
def test_a_lock_of_another_process_ends_when_it_is_killed(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", LOCK, tmp_path / "run"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        for _ in range(2):
            with pytest.raises(LockedError), storage.locked(tmp_path / "run"):
                pytest.fail("two at once")
        process.kill()
    assert (tmp_path / "run" / storage.LOCK).exists()
    with storage.locked(tmp_path / "run"):
        pass


def test_a_folder_made_for_the_lock_alone_goes_with_it_and_one_that_holds_something_stays(
    tmp_path: Path,
) -> None:
    with contextlib.suppress(TextgenError), storage.locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
        raise TextgenError("nothing was written")
    assert names(tmp_path) == []
    with storage.locked(tmp_path / "run"):
        (tmp_path / "run" / "metrics.jsonl").touch()
    assert "metrics.jsonl" in names(tmp_path / "run")


@pytest.mark.skipif(not POSIX, reason="Windows removes no file that is held")
def test_the_lock_is_removed_while_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed after its release, it might by then be the lock of the next run."""
    taken = []
    original = storage._remove_if_only_lock

    def removing(folder: Path) -> None:
        with contextlib.suppress(LockedError), storage.locked(folder):
            taken.append(folder)
        original(folder)

    context = storage.locked(tmp_path / "run")
    context.__enter__()
    with monkeypatch.context() as patched:
        patched.setattr(storage, "_remove_if_only_lock", removing)
        context.__exit__(None, None, None)
    assert not taken


def test_a_place_that_cannot_be_locked_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ResourceError, match="cannot write"),
        storage.locked(tmp_path / "file" / "x"),
    ):
        pytest.fail("there is no such folder")


# Single files


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
    with pytest.raises(ResourceError, match="not a regular"), storage.NewFile(Path("/dev/null")):
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
