"""Single files written whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from textgen.errors import ResourceError
from textgen.storage.files import flush_folder
from textgen.storage.folders import unwritable


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
