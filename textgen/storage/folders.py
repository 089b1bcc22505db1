"""Folders and files written completely or not at all, and read only after every byte is checked.

A folder is filled beside its place, flushed, and put there by renames, so that a kill at any
instant leaves the old folder or the new one. Its ``manifest.json`` holds the SHA-256 of every
other file and of itself. A lock allows one writer per folder.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from filelock import FileLock, Timeout

from textgen.errors import LockedError, ResourceError
from textgen.storage.files import flush_folder
from textgen.storage.manifest import write_manifest


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
        write_manifest(begun)
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


def discard(target: Path) -> None:
    """Remove a folder and its older version so that no reader ever meets the half of one."""
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


class NewFile:
    """A file filled beside its place and put there by ``finish``; a context manager.

    Until then, and for good where the block ends without it, what was at ``target`` stays as it
    was. A link is followed. Raises ResourceError where the system refuses; that comes with
    entering the block, before any work, where the place cannot be written at all.
    """

    def __init__(self, target: Path) -> None:
        self._named, self._target = target, Path(os.path.realpath(target))
        # Two that write the same file at once must not write into each other.
        self._begun = self._target.with_name(f"{self._target.name}.{os.getpid()}.new")
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        with self._refusals():
            if self._target.exists() and not self._target.is_file():
                why = "it is a folder" if self._target.is_dir() else "it is no ordinary file"
                raise ResourceError("cannot write", where=self._named, why=why, fix="name a file")
            # Writing beside and renaming would get round the protection of the file itself.
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
        """Write over bytes written before, and go on at the end."""
        with self._refusals():
            self._open.seek(position)
            self._open.write(data)
            self._open.seek(0, os.SEEK_END)

    def finish(self) -> None:
        """Put the file in its place, whole and on disk."""
        with self._refusals():
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()
            self._begun.replace(self._target)
            self._stream = None
            flush_folder(self._target.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            raise unwritable(self._named, error) from error
