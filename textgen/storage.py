"""Folders and files that are complete or absent, and checked to the last byte before use.

A folder is filled under another name, flushed, and renamed, so that a kill at any instant leaves
the old folder or the new one. Its ``manifest.json`` has the SHA-256 of every file, and of itself.
JSON is read strictly, and equal values are written as equal bytes.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import stat
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, TypeVar

from textgen.config import Config, Count
from textgen.errors import CheckpointError, LockedError, ResourceError, UsageError

MANIFEST, LOCK = "manifest.json", ".lock"
_MANIFEST_FORMAT = 1
_LARGEST_JSON, _LARGEST_MANIFEST, _LONGEST_LINE = 64 * 2**20, 2**20, 2**20
_LONGEST_REASON = 400
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

_INVALID = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    UsageError,
)

T = TypeVar("T")


# Folders


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``target`` when the block ends.

    If the block or the writing fails, the new folder is removed and ``target`` stays as it was;
    an OSError becomes a ResourceError.
    """
    begun, previous = _beside(target, ".new"), _beside(target, ".old")
    with _refusing(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(begun)
            begun.mkdir()
            yield begun
            write_manifest(begun)
            if target.exists():
                _remove(previous)
                target.rename(previous)
            try:
                begun.rename(target)
            except OSError:
                if previous.exists() and not target.exists():
                    previous.rename(target)
                raise
            _flush_folder(target.parent)
            _remove(previous)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(begun)
            raise


def find_complete(target: Path) -> Path | None:
    """The folder with the newest complete version of ``target``, or None.

    A kill between the two renames of ``new_folder`` leaves only ``target.old``.
    """
    candidates = (target, _beside(target, ".old"))
    return next((folder for folder in candidates if folder.is_dir()), None)


def clear_leftovers(target: Path) -> None:
    """Remove what a killed writer of ``target`` left, but nothing that a reader may need."""
    with contextlib.suppress(OSError):
        _remove(_beside(target, ".new"))
        if target.is_dir():
            _remove(_beside(target, ".old"))


def discard(target: Path) -> None:
    """Remove a folder and its older version, so that no reader finds a part of one."""
    begun = _beside(target, ".new")
    for folder in (_beside(target, ".old"), target):
        with contextlib.suppress(OSError):
            _remove(begun)
            if folder.exists():
                folder.rename(begun)
            _remove(begun)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for one writer, until the process ends at most. Raises LockedError."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        fix = "wait for it to end, or choose another --out"
        raise LockedError("in use by another run", where=folder, fix=fix) from error
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        # Removed before it is released, while it is ours; Windows cannot remove open files.
        if os.name == "posix":
            _remove_if_only_lock(folder)
        lock.release()
        if os.name != "posix":
            _remove_if_only_lock(folder)


def _remove_if_only_lock(folder: Path) -> None:
    """Remove a folder that was made for the lock alone."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


# Manifests


def write_manifest(folder: Path) -> None:
    files = {}
    (folder / MANIFEST).touch()
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)
    for path in sorted(each for each in folder.iterdir() if each.name != MANIFEST):
        path.chmod(mode)  # safetensors lets only the owner read its files, whatever the umask
        with path.open("rb+") as stream:
            _flush(stream)
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {"format": _MANIFEST_FORMAT, "files": files}
    manifest["sha256"] = _manifest_sha256(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as text:
        text.write(json_text(manifest))
        _flush(text)
    _flush_folder(folder)


def verified(folder: Path) -> dict[str, Path]:
    """The files of a folder by name, after checking every byte against its manifest.

    Raises CheckpointError if something is damaged, ResourceError if it cannot be read.
    """
    try:
        files = _listed_files(folder / MANIFEST)
        for name, file in files.items():
            _check_file(folder / name, file)
    except FileNotFoundError as error:
        if not folder.exists():
            raise ResourceError("no such folder", where=folder) from error
        if Path(error.filename).name != MANIFEST:
            why = "the file is missing"
            raise CheckpointError("incomplete", where=error.filename, why=why) from error
        raise CheckpointError(
            "not a textgen folder",
            where=folder,
            why=f"it has no {MANIFEST}",
            fix="give the folder that textgen wrote",
        ) from error
    except OSError as error:
        where = error.filename or folder
        raise ResourceError("cannot read", where=where, why=error.strerror) from error
    return {name: folder / name for name in files}


@dataclass(frozen=True)
class _File:
    sha256: str
    bytes: Count


@dataclass(frozen=True)
class _Manifest:
    files: Mapping[str, _File]
    sha256: str


def _listed_files(where: Path) -> Mapping[str, _File]:
    raw = read_object(where, _MANIFEST_FORMAT, _LARGEST_MANIFEST)
    with reading(where):
        manifest = from_json(_Manifest, raw)
    if not _is_as_written(where, raw) or manifest.sha256 != _manifest_sha256(raw):
        raise CheckpointError("damaged", where=where, why="its checksum differs")
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError("refused", where=where, why=f"it names the file {name!r}")
    return manifest.files


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_as_written(path: Path, value: Any) -> bool:
    """Whether a file is exactly what ``write_json`` writes for its value."""
    try:
        return path.read_bytes() == json_text(value).encode()
    except (ValueError, RecursionError):
        return False


def _check_file(path: Path, written: _File) -> None:
    _check_regular(path)
    found, size = path.stat().st_size, written.bytes
    if found == size and sha256_of(path) == written.sha256:
        return
    with path.open("rb") as stream:
        foreign = foreign_kind(stream.read(512))
    why = f"{found} bytes where {size} were written" if found != size else "its checksum differs"
    fix = "copy the whole folder again"
    raise CheckpointError("damaged", where=path, why=foreign or why, fix=fix)


def require(files: Mapping[str, Path], name: str) -> Path:
    """The path of one of the files of a folder. Raises CheckpointError if it is not there."""
    if name not in files:
        folder = next((path.parent for path in files.values()), None)
        raise CheckpointError("incomplete", where=folder, why=f"there is no {name}")
    return files[name]


# JSON


@contextlib.contextmanager
def reading(where: object, fix: str | None = None) -> Iterator[None]:
    """Turn whatever is wrong with a value that is read into a CheckpointError that names its file.

    Args:
        where: The file, and the place in it.
    """
    try:
        yield
    except _INVALID as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError("damaged", where=where, why=why[:_LONGEST_REASON], fix=fix) from error


def read_json(path: Path, largest: int = _LARGEST_JSON) -> Any:
    """Read a JSON value, but only from a regular file of limited size in which no key is twice."""
    _check_regular(path)
    if path.stat().st_size > largest:
        raise CheckpointError("not read", where=path, why="no header of textgen's is this large")
    data = path.read_bytes()
    with reading(path):
        return _parsed(data)


def read_object(path: Path, current: int, largest: int = _LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object whose ``format`` is ``current``."""
    value = read_json(path, largest)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why="not a JSON object")
    check_format(value.get("format"), current, path)
    return value


def read(hint: type[T], path: Path, current: int, fix: str | None = None) -> T:
    """Read a value of a type from a JSON object whose ``format`` is ``current``."""
    value = read_object(path, current)
    with reading(path, fix):
        return from_json(hint, value)


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The place and the JSON value of each line; a last line that is not complete is skipped."""
    with path.open("rb") as stream:
        for number in itertools.count(1):
            line, where = stream.readline(_LONGEST_LINE), f"{path}, line {number}"
            try:
                value = _parsed(line)
            except ValueError as error:
                if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                    break
                fix = "remove the damaged line"
                raise CheckpointError("damaged", where=where, why=str(error), fix=fix) from error
            yield where, value


def _parsed(data: bytes) -> Any:
    if (foreign := foreign_kind(data)) is not None:
        raise ValueError(foreign)
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def check_format(found: object, current: int, where: Path) -> None:
    """Raise CheckpointError for every format version but the current one."""
    if type(found) is not int or found < 1:
        raise CheckpointError("damaged", where=where, why=f"format {found!r:.40}")
    if found != current:
        age = "newer" if found > current else "older"
        fix = "upgrade textgen" if found > current else "make it again with this textgen"
        what = f"format {found} is {age} than this textgen reads ({current})"
        raise CheckpointError(what, where=where, fix=fix)


def from_json(hint: type[T], value: Any, name: str = "") -> T:
    """Read a value of a type from JSON, in which everything must be of its type and range.

    The type is a dataclass of such types, a configuration, a tuple of one type, a mapping from
    text, a choice (``Literal``), text, a number or None. ``Annotated[float, Bounds(0, 1)]`` has a
    range. A field with a default may be missing, because an older textgen did not write it. A
    dataclass may also be a list of the values of its fields.

    Args:
        name: What the value is, for messages.

    Raises:
        TypeError, ValueError, UsageError: The value is anything else.
    """
    return _typed(hint, value, name)  # type: ignore[no-any-return]


def _typed(hint: Any, value: Any, name: str) -> Any:
    if hint is str and type(value) is str:
        value.encode()  # refuses lone surrogates, which no file has
        return value
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        hint, bounds = arguments
        if (number := _typed(hint, value, name)) not in bounds:
            raise ValueError(f"{name} is {number:g}, not within {bounds}")
        return number
    if kind in (typing.Union, types.UnionType):
        (hint,) = (each for each in arguments if each is not type(None))
        return None if value is None else _typed(hint, value, name)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict | list):
        return _dataclass_of(hint, value, name)
    if kind is tuple and isinstance(value, list):
        return tuple(_typed(arguments[0], each, f"{name}[{at}]") for at, each in enumerate(value))
    if kind in (Mapping, dict) and isinstance(value, dict):
        return {
            _typed(str, key, name): _typed(arguments[1], each, f"{name}.{key:.40}")
            for key, each in value.items()
        }
    if hint is Any:
        json_text(value).encode()  # refuses what could not be written again
        return value
    if kind is typing.Literal and value in arguments:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        wanted = hint.__name__ if isinstance(hint, type) and kind is None else hint
        raise TypeError(f"{name} is {_brief(value)}, not {wanted}")
    return value


def _dataclass_of(cls: Any, value: Any, name: str) -> Any:
    if isinstance(value, list):
        value = dict(zip((each.name for each in dataclasses.fields(cls)), value, strict=True))
    if issubclass(cls, Config):
        return cls.from_options(value)
    values = {}
    for field, hint in _fields(cls):
        whole = f"{name}.{field.name}".lstrip(".")
        if field.name in value:
            values[field.name] = _typed(hint, value[field.name], whole)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{whole} is missing")
    return cls(**values)


@functools.cache
def _fields(cls: Any) -> list[tuple["dataclasses.Field[Any]", Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _brief(value: Any) -> str:
    """A value of JSON in an error message."""
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."


def write_json(path: Path, value: Any) -> None:
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


# Single files


class NewFile:
    """A context manager: a file that ``finish`` renames to ``target``.

    Until then, and if the block ends without it, ``target`` stays as it was. A link is followed.
    An OSError becomes a ResourceError; if ``target`` cannot be written, on entering the block.

    Attributes:
        stream: For a writer of another package; its OSErrors are that package's.
    """

    stream: BinaryIO

    def __init__(self, target: Path) -> None:
        self._named, self._target = target, Path(os.path.realpath(target))
        # Two processes that write the same file must not write into the same temporary one.
        self._begun = self._target.with_name(f"{self._target.name}.{os.getpid()}.new")

    def __enter__(self) -> Self:
        with _refusing(self._named):
            if self._target.exists() and not self._target.is_file():
                why = "it is a folder" if self._target.is_dir() else "it is not a regular file"
                raise ResourceError("cannot write", where=self._named, why=why, fix="name a file")
            # A rename would ignore the write protection of the file itself.
            if self._target.exists() and not os.access(self._target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self.stream = self._begun.open("wb")
        return self

    def write(self, data: bytes) -> None:
        with _refusing(self._named):
            self.stream.write(data)

    def tell(self) -> int:
        """How many bytes have been written."""
        return self.stream.tell()

    def overwrite(self, position: int, data: bytes) -> None:
        """Write over bytes written before; the position stays at the end."""
        with _refusing(self._named):
            self.stream.seek(position)
            self.stream.write(data)
            self.stream.seek(0, os.SEEK_END)

    def finish(self) -> None:
        """Flush the file to disk and rename it."""
        with _refusing(self._named):
            _flush(self.stream)
            self.stream.close()
            self._begun.replace(self._target)
            _flush_folder(self._target.parent)

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            self._begun.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> ResourceError:
    """The ResourceError for a write to ``path`` that failed."""
    full = error.errno in (None, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
    fix = "free space, or choose another folder" if full else "choose another folder"
    return ResourceError("cannot write", where=path, why=error.strerror or str(error), fix=fix)


def foreign_kind(data: bytes) -> str | None:
    """What a file that textgen did not write seems to be, by its first bytes."""
    head = data[:512].lstrip().lower()
    for start, kind in (
        (b"version https://git-lfs", "a Git LFS pointer, not the file: run 'git lfs pull'"),
        ((b"<!doctype html", b"<html"), "an HTML page, not the file: download it again"),
        (b"pk\x03\x04", "a zip archive (or a PyTorch pickle), which is never opened"),
        (b"\x80", "a Python pickle, which is never opened"),
    ):
        if head.startswith(start):
            return kind
    return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CheckpointError("refused", where=path, why="not a regular file")


def _flush(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the renames inside ``folder`` durable, on systems that can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
