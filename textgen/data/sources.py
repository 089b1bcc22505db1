"""The files of a corpus: files, folders, gzip, pipes and stdin, which can be read repeatedly.

Files that are not text are recognised by their first bytes, and refused by name.
"""

import codecs
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
from textgen.errors import DataError, ResourceError, UsageError

HEAD_BYTES = 8192

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or office document"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_FEWEST_BYTES = 16  # a shorter file tells nothing by its share of NUL
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def other_encoding(head: bytes) -> str | None:
    """``UTF-16`` or ``UTF-32`` (with the codec's byte order), where the bytes are that."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    if len(head) < _FEWEST_BYTES:
        return None
    nul = [head[place::4].count(0) / len(head[place::4]) for place in range(4)]
    if max(nul[1:]) > 0.9 and min(nul[1:]) > 0.9 and nul[0] < 0.1:
        return "UTF-32-LE"
    if min(nul[:3]) > 0.9 and nul[3] < 0.1:
        return "UTF-32-BE"
    low, high = (nul[0] + nul[2]) / 2, (nul[1] + nul[3]) / 2
    if high > 0.4 and low < 0.1:
        return "UTF-16-LE"
    if low > 0.4 and high < 0.1:
        return "UTF-16-BE"
    return None


def binary(head: bytes) -> str | None:
    """What the bytes are, where they are no text in any encoding.

    A file that is valid UTF-8 is refused only where NUL is common in it, or where it is a
    Git LFS pointer: a text may start with ``PK`` and may hold control characters.
    """
    if head.startswith(_LFS_POINTER):
        return "a Git LFS pointer, not the file: run 'git lfs pull'"
    crowded = len(head) >= _FEWEST_BYTES and head.count(0) > 0.3 * len(head)
    if not crowded and b"\0" not in head and _is_utf8(head):
        return None
    for start, name in _SIGNATURES:
        if head.startswith(start):
            return name
    if len(head) > 262 and head[257:262] == b"ustar":
        return "a tar archive"
    controls = sum(map(head.count, _CONTROLS))
    if crowded or (not _is_utf8(head) and controls > 0.05 * len(head)):
        return "binary data"
    return None


_CONTROLS = [bytes([code]) for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b"]


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


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
            return next(blocks, b"")[:HEAD_BYTES]

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
        if binary(source.head()) is None:
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
