"""Folders written whole or not at all, and read only when every byte is as it was written.

A folder is filled beside its place, flushed, and put there by renames, so that a kill at any
instant leaves the old folder or the new one. Its ``manifest.json`` holds the SHA-256 of every
other file and of itself; nothing in a folder is used before all of that has been checked.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from textgen.errors import CheckpointError, LockedError, ResourceError

MANIFEST = "manifest.json"
LOCK = ".lock"
_MANIFEST_FORMAT = 1
_LARGEST_JSON = 64 * 2**20
_LARGEST_MANIFEST = 2**20
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; when the block ends it has become ``target``, whole.

    Where the block or the writing fails, what was begun is removed and ``target`` stays as
    it was; an OSError becomes a ResourceError.
    """
    begun, previous = _beside(target, ".new"), _beside(target, ".old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(begun)
        begun.mkdir()
        yield begun
        _write_manifest(begun)
        if target.exists():
            _remove(previous)
            target.rename(previous)
        _put_in_place(begun, target, previous)
        flush_folder(target.parent)
        _remove(previous)
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove(begun)
        raise unwritable(target, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(begun)
        raise


def _put_in_place(begun: Path, target: Path, previous: Path) -> None:
    try:
        begun.rename(target)
    except OSError:
        if previous.exists() and not target.exists():
            previous.rename(target)
        raise


def unwritable(path: Path, error: OSError) -> ResourceError:
    """The ResourceError for a write to ``path`` that the system refused."""
    full = error.errno in (None, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
    fix = "free space, or choose another folder" if full else "choose another folder"
    return ResourceError("cannot write", where=path, why=error.strerror or str(error), fix=fix)


def whole(target: Path) -> Path | None:
    """Where the newest whole version of ``target`` is, or None.

    A kill between the two renames of ``new_folder`` leaves only ``target.old``.
    """
    for candidate in (target, _beside(target, ".old")):
        if candidate.is_dir():
            return candidate
    return None


def clear_leftovers(target: Path) -> None:
    """Remove what a killed writer of ``target`` left, and nothing that a reader may need."""
    with contextlib.suppress(OSError):
        _remove(_beside(target, ".new"))
        if target.is_dir():
            _remove(_beside(target, ".old"))


def verified(folder: Path) -> dict[str, Path]:
    """The files of a folder by name, every byte of them checked against its manifest.

    Raises CheckpointError naming the file, ResourceError where something cannot be read.
    """
    try:
        files = _listed_files(folder / MANIFEST)
        for name, (sha256, size) in files.items():
            _check_file(folder / name, sha256, size)
    except FileNotFoundError as error:
        raise _missing(folder, error) from error
    except OSError as error:
        raise ResourceError(
            "cannot read", where=error.filename or folder, why=error.strerror
        ) from error
    return {name: folder / name for name in files}


def read_json(path: Path, largest: int = _LARGEST_JSON) -> Any:
    """A JSON value, read strictly: a regular file of sane size, UTF-8, no key twice."""
    _check_regular(path)
    if path.stat().st_size > largest:
        raise CheckpointError("not read", where=path, why="no header of textgen's is this large")
    data = path.read_bytes()
    try:
        return json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        why = what_it_is(data) or f"not valid JSON ({error})"
        raise CheckpointError("damaged", where=path, why=why) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, the same bytes for the same value."""
    path.write_text(json_text(value), encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one writer. The lock is the system's: it dies with the process.

    Raises LockedError where another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            "in use by another run",
            where=folder,
            fix="wait for it to end, or choose another --out",
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        # Removed while held, so that it is nobody else's; Windows removes no file that is held.
        if os.name == "posix":
            _remove_if_only_lock(folder)
        lock.release()
        if os.name != "posix":
            _remove_if_only_lock(folder)


def _remove_if_only_lock(folder: Path) -> None:
    """A folder that was made for the lock alone goes with it."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


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


def flush_folder(folder: Path) -> None:
    """Make the renames inside ``folder`` durable, on systems that have a way to say so."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _write_manifest(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {"format": _MANIFEST_FORMAT, "files": files}
    manifest["sha256"] = _manifest_sha256(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(json_text(manifest))
        stream.flush()
        os.fsync(stream.fileno())
    flush_folder(folder)


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _listed_files(where: Path) -> dict[str, tuple[str, int]]:
    manifest = read_json(where, _LARGEST_MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError("damaged", where=where, why="no list of files")
    check_format(manifest.get("format"), _MANIFEST_FORMAT, where)
    written = _is_as_written(where, manifest)
    if not written or manifest.get("sha256") != _manifest_sha256(manifest):
        raise CheckpointError("damaged", where=where, why="its checksum differs")
    files = {}
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError("refused", where=where, why=f"it names the file {name!r}")
        try:
            files[name] = (str(entry["sha256"]), int(entry["bytes"]))
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError("damaged", where=where, why=f"no checksum of {name}") from error
    return files


def _is_as_written(path: Path, value: Any) -> bool:
    """Whether a file is what ``write_json`` makes of its value, to the last byte."""
    try:
        return path.read_bytes() == json_text(value).encode()
    except (ValueError, RecursionError):
        return False


def check_format(found: object, newest: int, where: Path) -> None:
    """Refuse a format version that this textgen does not know."""
    if isinstance(found, int) and not isinstance(found, bool) and found > newest:
        raise CheckpointError(
            f"format {found} is newer than this textgen reads ({newest})",
            where=where,
            fix="upgrade textgen",
        )
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise CheckpointError("damaged", where=where, why=f"format {found!r}")


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CheckpointError("refused", where=path, why="not a regular file")


def _check_file(path: Path, sha256: str, size: int) -> None:
    _check_regular(path)
    found = path.stat().st_size
    if found == size and sha256_of(path) == sha256:
        return
    with path.open("rb") as stream:
        foreign = what_it_is(stream.read(512))
    why = f"{found} bytes where {size} were written" if found != size else "its checksum differs"
    raise CheckpointError(
        "damaged", where=path, why=foreign or why, fix="copy the whole folder again"
    )


def _missing(folder: Path, error: FileNotFoundError) -> Exception:
    if not folder.exists():
        return ResourceError("no such folder", where=folder)
    if error.filename and Path(error.filename).name == MANIFEST:
        return CheckpointError(
            "not a textgen folder",
            where=folder,
            why=f"it has no {MANIFEST}",
            fix="give the folder that textgen wrote",
        )
    return CheckpointError("incomplete", where=error.filename, why="the file is missing")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values
