"""Single files: JSON, read strictly and written reproducibly; what a foreign file is."""

import dataclasses
import hashlib
import json
import os
import stat
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from textgen.errors import CheckpointError

_LARGEST_JSON = 64 * 2**20

T = TypeVar("T")


def read_json(path: Path, largest: int = _LARGEST_JSON) -> Any:
    """Read a JSON value, but only from a regular file of limited size in which no key is twice."""
    check_regular(path)
    if path.stat().st_size > largest:
        raise CheckpointError("not read", where=path, why="no header of textgen's is this large")
    data = path.read_bytes()
    try:
        return json.loads(
            data, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        why = foreign_kind(data) or f"not valid JSON ({error})"
        raise CheckpointError("damaged", where=path, why=why) from error


def read_object(path: Path, what: str, current: int) -> dict[str, Any]:
    """Read a JSON object whose ``format`` is ``current``; ``what`` it is, for messages."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why=f"not {what}")
    check_format(value.get("format"), current, path)
    return value


def from_json(cls: type[T], value: Any) -> T:
    """Read a dataclass from a JSON object, in which every field must be there and of its type.

    Fields may be dataclasses, numbers, strings, tuples of one type, choices (``Literal``) and None.

    Raises:
        KeyError, TypeError, ValueError: The value is anything else.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: _of_type(hints[name], value[name]) for name in names})


def _of_type(hint: Any, value: Any) -> Any:
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if kind is tuple and isinstance(value, list):
        return tuple(_of_type(arguments[0], each) for each in value)
    if kind in (typing.Union, types.UnionType):
        (hint,) = (each for each in arguments if each is not type(None))
        return None if value is None else _of_type(hint, value)
    if kind is typing.Literal and value in arguments:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise TypeError(f"{value!r} is not {hint}")
    return value


def require(files: Mapping[str, Path], name: str) -> Path:
    """The path of one of the files of a folder. Raises CheckpointError if it is not there."""
    if name not in files:
        folder = next((path.parent for path in files.values()), None)
        raise CheckpointError("incomplete", where=folder, why=f"there is no {name}")
    return files[name]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value: equal values give equal bytes."""
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def check_format(found: object, current: int, where: Path) -> None:
    """Raise CheckpointError for every format version but the current one."""
    if type(found) is not int or found < 1:
        raise CheckpointError("damaged", where=where, why=f"format {found!r}")
    if found > current:
        what = f"format {found} is newer than this textgen reads ({current})"
        raise CheckpointError(what, where=where, fix="upgrade textgen")
    if found < current:
        what = f"format {found} is older than this textgen reads ({current})"
        raise CheckpointError(what, where=where, fix="make it again with this textgen")


def foreign_kind(data: bytes) -> str | None:
    """What a file that textgen did not write seems to be, by its first bytes."""
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
    """Make the renames inside ``folder`` durable, on systems that can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
