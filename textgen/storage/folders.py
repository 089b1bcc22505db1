"""Folders and files that are written completely or not at all; one writer per folder.

A folder is filled under another name, flushed, and renamed, so that a kill at any instant leaves
the old folder or the new one. Its ``manifest.json`` has the SHA-256 of every file.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from filelock import FileLock, Timeout

from textgen.errors import LockedError, ResourceError
from textgen.storage.files import flush_folder
from textgen.storage.manifest import write_manifest


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``target`` when the block ends.

    If the block or the writing fails, the new folder is removed and ``target`` stays as it was;
    an OSError becomes a ResourceError.
    """
    begun, previous = _beside(target, ".new"), _beside(target, ".old")
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
        flush_folder(target.parent)
        _remove(previous)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _remove(begun)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise


def write_error(path: Path, error: OSError) -> ResourceError:
    """The ResourceError for a write to ``path`` that failed."""
    full = error.errno in (None, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
    fix = "free space, or choose another folder" if full else "choose another folder"
    return ResourceError("cannot write", where=path, why=error.strerror or str(error), fix=fix)


def find_complete(target: Path) -> Path | None:
    """The folder with the newest complete version of ``target``, or None.

    A kill between the two renames of ``new_folder`` leaves only ``target.old``.
    """
    for candidate in (target, _beside(target, ".old")):
        if candidate.is_dir():
            return candidate
    return None


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


LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for one writer, until the process ends at most. Raises LockedError."""
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


class NewFile:
    """A context manager: a file that ``finish`` renames to ``target``.

    Until then, and if the block ends without it, ``target`` stays as it was. A link is followed.
    An OSError becomes a ResourceError; if ``target`` cannot be written, on entering the block.
    """

    def __init__(self, target: Path) -> None:
        self._named, self._target = target, Path(os.path.realpath(target))
        # Two processes that write the same file must not write into the same temporary one.
        self._begun = self._target.with_name(f"{self._target.name}.{os.getpid()}.new")
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        with self._refusals():
            if self._target.exists() and not self._target.is_file():
                why = "it is a folder" if self._target.is_dir() else "it is not a regular file"
                raise ResourceError("cannot write", where=self._named, why=why, fix="name a file")
            # A rename would ignore the write protection of the file itself.
            if self._target.exists() and not os.access(self._target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._stream = self._begun.open("wb")
        return self

    def write(self, data: bytes) -> None:
        with self._refusals():
            self._open.write(data)

    def tell(self) -> int:
        """How many bytes have been written."""
        return self._open.tell()

    def overwrite(self, position: int, data: bytes) -> None:
        """Write over bytes written before; the position stays at the end."""
        with self._refusals():
            self._open.seek(position)
            self._open.write(data)
            self._open.seek(0, os.SEEK_END)

    def finish(self) -> None:
        """Flush the file to disk and rename it."""
        with self._refusals():
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()
            self._begun.replace(self._target)
            self._stream = None
            flush_folder(self._target.parent)

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            with contextlib.suppress(OSError):
                self._begun.unlink()

    @property
    def _open(self) -> BinaryIO:
        assert self._stream is not None, "outside its block, or finished"
        return self._stream

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._named, error) from error
