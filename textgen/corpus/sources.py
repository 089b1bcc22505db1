"""Where a corpus comes from: files, folders, gzip, pipes and stdin, to be read again and again."""

import contextlib
import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from textgen import storage
from textgen.corpus import recognition
from textgen.errors import DataError, ResourceError, UsageError

BLOCK_BYTES = 2**20
_GZIP = b"\x1f\x8b"


class Source:
    """One stream of bytes, unpacked where it is gzip, that can be read again and again.

    name: how it is called in messages. spool: a temporary file to read in place of ``path``,
    with what was said by something that can be read only once.
    """

    def __init__(self, name: str, path: Path, spool: IO[bytes] | None = None) -> None:
        self.name = name
        self._path = path
        self._spool = spool
        self._as_first_read: tuple[int, int] | None = None
        if spool is not None:
            weakref.finalize(self, spool.close)

    def blocks(self) -> Generator[bytes]:
        """The bytes in order. Raises DataError where they changed since they were first read."""
        try:
            with self._opened() as raw:
                self._check_unchanged(raw)
                yield from self._unpacked(raw)
                self._check_unchanged(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                "damaged gzip", where=self.name, why=str(error), fix="copy or download it again"
            ) from error
        except OSError as error:
            raise unreadable(self.name, error) from error

    def head(self) -> bytes:
        """The first bytes, unpacked."""
        with contextlib.closing(self.blocks()) as blocks:
            return next(blocks, b"")[: recognition.HEAD_BYTES]

    def changed(self) -> DataError:
        return DataError(
            "changed while it was read", where=self.name, fix="wait until nothing writes to it"
        )

    def _opened(self) -> io.BufferedReader:
        if self._spool is not None:
            return io.BufferedReader(_View(self._spool), BLOCK_BYTES)
        return io.BufferedReader(io.FileIO(self._path), BLOCK_BYTES)

    def _unpacked(self, raw: io.BufferedReader) -> Generator[bytes]:
        if raw.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
        else:
            # What has come: of a pipe the next line need not be waited for.
            yield from iter(lambda: raw.read1(BLOCK_BYTES), b"")

    def _check_unchanged(self, raw: io.BufferedReader) -> None:
        if self._spool is not None:
            return
        status = os.fstat(raw.fileno())
        now = status.st_size, status.st_mtime_ns
        if self._as_first_read is None:
            self._as_first_read = now
        if now != self._as_first_read:
            raise self.changed()


class PassingSource(Source):
    """A stream that is read once, as it comes."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        super().__init__(name, Path(name))
        self._stream = stream

    def _opened(self) -> io.BufferedReader:
        return io.BufferedReader(_Borrowed(self._stream), BLOCK_BYTES)

    def _check_unchanged(self, raw: io.BufferedReader) -> None:
        pass


def find_sources(
    paths: Sequence[str | Path], *, once: bool = False
) -> tuple[list[Source], list[str]]:
    """The sources that these paths name, in order, and what there is to note about them.

    ``-`` is stdin. A folder gives every text file below it, by relative path; hidden ones and
    files that are no text are left out. once: nothing is read twice, so that pipes need not be
    spooled. Raises ResourceError where a path leads to no text.
    """
    if [str(path) for path in paths].count("-") > 1:
        raise UsageError("stdin (-) can be read only once", fix="give - once")
    sources: list[Source] = []
    notes: list[str] = []
    for path in paths:
        if str(path) == "-":
            stdin = sys.stdin.buffer
            # A thread that waits in a buffered reader holds its lock, and Python would die of that
            # as it exits.
            stream = getattr(stdin, "raw", stdin) if once else stdin
            sources.append(_from_stream("stdin", stream, once=once))
        elif Path(path).is_dir():
            sources += _in_folder(Path(path), notes)
        else:
            sources.append(_single(Path(path), once=once))
    return sources, notes


def unreadable(name: object, error: OSError) -> ResourceError:
    """The ResourceError for an input that the system refused to read."""
    return ResourceError("cannot read", where=name, why=error.strerror or str(error))


def _single(path: Path, *, once: bool) -> Source:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return Source(str(path), path)
        if stat.S_ISBLK(mode):
            raise ResourceError("cannot read", where=path, why="it is a device, not a file")
        stream = path.open("rb", buffering=0)
        weakref.finalize(stream, stream.close)
        return _from_stream(str(path), stream, once=once)
    except FileNotFoundError as error:
        raise ResourceError("no such file", where=path, fix="check the path") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # a NUL in the path
        raise ResourceError("cannot read", where=repr(path), why=str(error)) from error


def _from_stream(name: str, stream: IO[bytes], *, once: bool) -> Source:
    if once:
        return PassingSource(name, stream)
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - the source closes it
    try:
        shutil.copyfileobj(stream, spool, BLOCK_BYTES)
        spool.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # it writes once more what found no room
            spool.close()
        raise storage.unwritable(Path(tempfile.gettempdir()), error) from error
    return Source(name, Path(name), spool)


def _in_folder(folder: Path, notes: list[str]) -> list[Source]:
    sources, skipped = [], []
    for path in _files_below(folder):
        source = Source(str(path), path)
        if recognition.binary(source.head()) is None:
            sources.append(source)
        else:
            skipped.append(path.relative_to(folder).as_posix())
    if skipped:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        notes.append(f"left out of {folder}, not text: {', '.join(skipped[:3])}{more}")
    if not sources:
        raise ResourceError(
            "no text in this folder",
            where=folder,
            why="hidden and binary files do not count",
            fix="name a file or another folder",
        )
    return sources


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or folder, error)

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


class _View(io.RawIOBase):
    """A reader with a place of its own in a file that several read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        self._file.seek(self._place)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


class _Borrowed(io.RawIOBase):
    """A stream of somebody else's, which stays open when the reader of it is closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        read = getattr(self._stream, "read1", self._stream.read)
        data: bytes = read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
