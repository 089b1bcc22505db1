"""One writer a folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from textgen.errors import LockedError
from textgen.storage.folders import unwritable

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
