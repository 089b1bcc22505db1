"""Single files: JSON written the same for the same value and read strictly, foreign files told."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from textgen.errors import CheckpointError

_LARGEST_JSON = 64 * 2**20


def read_json(path: Path, largest: int = _LARGEST_JSON) -> Any:
    """A JSON value, read strictly: a regular file of sane size, UTF-8, no key twice."""
    check_regular(path)
    if path.stat().st_size > largest:
        raise CheckpointError("not read", where=path, why="no header of textgen's is this large")
    data = path.read_bytes()
    try:
        return json.loads(
            data, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        why = what_it_is(data) or f"not valid JSON ({error})"
        raise CheckpointError("damaged", where=path, why=why) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, the same bytes for the same value."""
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def check_format(found: object, current: int, where: Path) -> None:
    """Refuse every format version but the current one.

    Raises:
        CheckpointError: The version is newer or older, or no version at all.
    """
    if type(found) is not int or found < 1:
        raise CheckpointError("damaged", where=where, why=f"format {found!r}")
    if found > current:
        what = f"format {found} is newer than this textgen reads ({current})"
        raise CheckpointError(what, where=where, fix="upgrade textgen")
    if found < current:
        what = f"format {found} is older than this textgen reads ({current})"
        raise CheckpointError(what, where=where, fix="make it again with this textgen")


def what_it_is(data: bytes) -> str | None:
    """What a file that is not textgen's looks to be, from its first bytes."""
    head = data[:512].lstrip().lower()
    for start, name in (
        (b"version https://git-lfs", "a Git LFS pointer, not the file: run 'git lfs pull'"),
        (b"<!doctype html", "an HTML page, not the file: download it again"),
        (b"<html", "an HTML page, not the file: download it again"),
        (b"pk\x03\x04", "a zip archive (or a PyTorch pickle), which is never opened"),
        (b"\x80", "a Python pickle, which is never opened"),
    ):
        if head.startswith(start):
            return name
    return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CheckpointError("refused", where=path, why="not a regular file")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def flush_folder(folder: Path) -> None:
    """Make the renames inside ``folder`` durable, on systems that have a way to say so."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
