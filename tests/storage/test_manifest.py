"""Folders are read only if every byte is as it was written."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textgen import storage
from textgen.errors import CheckpointError, ResourceError

Write = Callable[[Path, str], None]
each_file = pytest.mark.parametrize("name", ["data.bin", "config.json", storage.MANIFEST])


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        storage.verified(folder)
    assert refused.value.exit_code == 3
    return str(refused.value)


def write_manifest(folder: Path, text: str) -> None:
    """Write a manifest as this text, as an attacker would: SELF becomes its own checksum."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        rest = {key: value for key, value in json.loads(text).items() if key != "sha256"}
        own = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
        text = text.replace("SELF", own)
    (folder / storage.MANIFEST).write_text(text, encoding="utf-8")


def change_manifest(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest; files are added to those in it."""
    manifest = json.loads((folder / storage.MANIFEST).read_text())
    files = manifest["files"] | changes.pop("files", {})
    changed = manifest | changes | {"files": files, "sha256": "SELF"}
    write_manifest(folder, storage.json_text(changed))


@each_file
def test_a_file_of_any_other_length_is_refused(target: Path, name: str) -> None:
    data = (target / name).read_bytes()
    for more in (b"\0", b"\n", b" ", b"{}"):
        (target / name).write_bytes(data + more)
        refusal(target)
    for length in reversed(range(len(data))):
        os.truncate(target / name, length)
        refusal(target)
    (target / name).write_bytes(data)
    assert storage.verified(target)


@each_file
def test_every_flipped_bit_is_refused(target: Path, name: str) -> None:
    data = (target / name).read_bytes()
    with (target / name).open("rb+", buffering=0) as stream:
        for place, byte in enumerate(data):
            for bit in range(8):
                stream.seek(place)
                stream.write(bytes([byte ^ 1 << bit]))
                refusal(target)
            stream.seek(place)
            stream.write(bytes([byte]))
    assert storage.verified(target)


def test_files_of_two_saves_are_not_mixed(target: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path / "other", "new")
    shutil.copy(tmp_path / "other" / "data.bin", target / "data.bin")
    assert "data.bin" in refusal(target)


@pytest.mark.parametrize(
    ("name", "message"), [("data.bin", "data.bin"), (storage.MANIFEST, "not a textgen folder")]
)
def test_what_is_missing_is_named(target: Path, name: str, message: str) -> None:
    (target / name).unlink()
    assert message in refusal(target)


def test_no_folder_is_an_error_of_input_not_of_data(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such folder"):
        storage.verified(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "C:x", "~x", ".hidden", "a\n", "é"],
)
def test_a_manifest_names_only_plain_files_of_its_own_folder(target: Path, name: str) -> None:
    secret = target.parent / "x"
    secret.write_text("secret")
    change_manifest(target, files={name: {"sha256": storage.sha256_of(secret), "bytes": 6}})
    assert "it names the file" in refusal(target)


def test_a_file_that_is_not_listed_is_not_read(target: Path) -> None:
    (target / "more.bin").write_text("unlisted")
    assert set(storage.verified(target)) == {"config.json", "data.bin"}


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and pipes")
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
        assert "not a regular file" in refusal(target)
        path.rmdir() if path.is_dir() else path.unlink()
    kept.rename(path)
    assert storage.verified(target)


@pytest.mark.parametrize(
    "entry",
    [
        *(None, [], {}, "x", {"sha256": "x"}, {"bytes": 3}),
        {"sha256": None, "bytes": None},
        {"sha256": "x", "bytes": "many"},
        {"sha256": "x", "bytes": -1},
        {"sha256": "x", "bytes": 2**70},
        {"sha256": [[]], "bytes": 3},
    ],
    ids=repr,
)
def test_an_entry_that_is_no_checksum_is_refused(target: Path, entry: Any) -> None:
    change_manifest(target, files={"data.bin": entry})
    refusal(target)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "7", '"x"', "{}", "\ufeff{}", "{} {}"),
        *('{"files": []}', '{"files": {}}'),
        '{"format": 1, "files": {}}',
        '{"format": 1, "files": {}, "sha256": "SELF"}',
        '{"format": 1, "files": {"a": {"sha256": "x", "bytes": 1e999}}, "sha256": "SELF"}',
        '{"format": 0, "files": {}, "sha256": "SELF"}',
        '{"format": 1, "files": {}, "sha256": "SELF", "x": "\\ud800"}',
    ],
    ids=lambda text: text[:60],
)
def test_json_that_is_no_manifest_is_refused(target: Path, text: str) -> None:
    write_manifest(target, text)
    refusal(target)


def test_no_depth_of_nesting_gets_past_the_reader(target: Path) -> None:
    for depth in [10, 100, *range(300, 1100, 97)]:
        nested = "[" * depth + "]" * depth
        write_manifest(target, f'{{"format": 1, "files": {{}}, "x": {nested}, "sha256": "SELF"}}')
        refusal(target)


def test_a_huge_manifest_is_refused_before_it_is_read(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (target / storage.MANIFEST).open("wb") as stream:
        stream.truncate(2**33)  # sparse
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: pytest.fail("it was read"))
    assert "large" in refusal(target)


def test_a_newer_format_says_upgrade(target: Path) -> None:
    change_manifest(target, format=2)
    assert refusal(target).endswith("upgrade textgen")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "Git LFS pointer"),
        (b"\n <!DOCTYPE html>\n<html><body>404", "HTML page"),
        (b"<html>404", "HTML page"),
        (b"PK\x03\x04rest of an archive", "zip archive"),
        (b"\x80\x04\x95\x0b\x00\x00\x00", "pickle"),
    ],
)
@pytest.mark.parametrize("name", ["data.bin", storage.MANIFEST])
def test_a_file_of_another_kind_is_named(target: Path, name: str, data: bytes, kind: str) -> None:
    (target / name).write_bytes(data)
    assert kind in refusal(target)
    assert name in refusal(target)
