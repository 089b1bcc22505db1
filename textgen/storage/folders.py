"""Folders written whole or not at all, and read only when every byte is as it was written.

A folder is filled beside its place, flushed, and put there by renames, so that a kill at any
instant leaves the old folder or the new one. Its ``manifest.json`` holds the SHA-256 of every
other file and of itself; nothing in a folder is used before all of that has been checked.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from textgen.errors import ResourceError
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
