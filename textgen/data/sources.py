"""The files of a corpus: files, folders, gzip, pipes and stdin, which can be read repeatedly.

Files that are not text are recognized by their first bytes.
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
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from textgen import storage
from textgen.errors import DataError, ResourceError, UsageError

HEAD_BYTES = 8192
_LARGEST_SKIPPED_SHARE = 0.1  # of the bytes of a folder
BLOCK_BYTES = 2**20

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
    *((bytes([0x80, protocol]), "a Python pickle") for protocol in range(2, 6)),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_FEWEST_BYTES = 16  # in a shorter file the share of NUL is not informative
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_CONTROLS = [bytes([code]) for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b"]
GZIP = b"\x1f\x8b"


def other_encoding(head: bytes) -> str | None:
    """``UTF-16`` or ``UTF-32`` (with the codec's byte order) if the bytes are in one of these."""
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


def misread(head: bytes, encoding: str) -> str | None:
    """``other_encoding`` if a text with these first bytes cannot be read in ``encoding``."""
    other = other_encoding(head)
    return None if other is None or _family(encoding) == _family(other) else other


def _family(encoding: str) -> str:
    return "".join(filter(str.isalnum, encoding.lower()))[:5]  # utf16 of UTF-16-LE


def binary_kind(head: bytes, encoding: str = "utf-8") -> str | None:
    """What the bytes are if they are not text, in this encoding or any other.

    Valid UTF-8 is refused only if NUL is frequent in it or it is a Git LFS pointer: a text may
    start with ``PK`` and may have control characters.
    """
    if _family(encoding) in ("utf16", "utf32"):
        return next((name for start, name in _SIGNATURES if head.startswith(start)), None)
    if head.startswith(_LFS_POINTER):
        return "a Git LFS pointer, not the file: run 'git lfs pull'"
    many_nul = len(head) >= _FEWEST_BYTES and head.count(0) > 0.3 * len(head)
    if not many_nul and b"\0" not in head and _is_utf8(head):
        return None
    for start, name in _SIGNATURES:
        if head.startswith(start):
            return name
    if len(head) > 262 and head[257:262] == b"ustar":
        return "a tar archive"
    controls = sum(map(head.count, _CONTROLS))
    is_ascii = "a\n".encode(encoding).endswith(b"a\n")  # as everywhere but in EBCDIC
    if many_nul or (is_ascii and not _is_utf8(head) and controls > 0.05 * len(head)):
        return "binary data"
    return None


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


class Source:
    """A stream of bytes, unpacked if it is gzip, that can be read repeatedly if ``opened`` can.

    Args:
        name: for messages.
        opened: opens the stream; a ``FileIO`` must not change between two readings.
    """

    def __init__(self, name: str, opened: Callable[[], io.RawIOBase]) -> None:
        self.name = name
        self._opened = opened
        self._first_status: tuple[int, int] | None = None

    def blocks(self) -> Generator[bytes]:
        """The bytes in order. Raises DataError if they changed since they were first read."""
        try:
            raw = self._opened()
            with io.BufferedReader(raw, BLOCK_BYTES) as buffered:
                self._check_unchanged(raw)
                yield from _unpacked(buffered)
                self._check_unchanged(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise damaged_gzip(self.name, error) from error
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def head(self) -> bytes:
        """The first bytes, unpacked."""
        with contextlib.closing(self.blocks()) as blocks:
            return next(blocks, b"")[:HEAD_BYTES]

    def changed(self) -> DataError:
        return DataError(
            "changed while it was read", where=self.name, fix="wait until nothing writes to it"
        )

    def _check_unchanged(self, raw: io.RawIOBase) -> None:
        if not isinstance(raw, io.FileIO):
            return
        status = os.fstat(raw.fileno())
        now = status.st_size, status.st_mtime_ns
        if self._first_status is None:
            self._first_status = now
        if now != self._first_status:
            raise self.changed()


def damaged_gzip(name: object, error: Exception) -> DataError:
    return DataError("damaged gzip", where=name, why=str(error), fix="copy or download it again")


def _unpacked(buffered: "io.BufferedReader[io.RawIOBase]") -> Iterator[bytes]:
    if buffered.peek(2)[:2] == GZIP:
        with gzip.GzipFile(fileobj=buffered) as stream:
            yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
    else:
        # What a pipe has so far, without waiting for the next line.
        yield from iter(lambda: buffered.read1(BLOCK_BYTES), b"")


def find_sources(
    paths: Sequence[str | Path],
    *,
    once: bool = False,
    encoding: str = "utf-8",
    skip_binary: bool = False,
) -> tuple[list[Source], list[str]]:
    """The sources that these paths name, in order, and notes for the user.

    ``-`` is stdin. A folder gives every text file below it, by relative path, without hidden
    files. What is not text is left out, with a note, if it is at most a tenth of the bytes.

    Args:
        once: nothing is read twice, so pipes need no temporary file.
        encoding: of the text, for recognizing what is not text in it.
        skip_binary: leave out of a folder whatever is not text in this encoding.

    Raises:
        ResourceError: A path leads to no text.
        DataError: Of a folder too much is not text, or a text is in UTF-16 or UTF-32.
    """
    if [str(path) for path in paths].count("-") > 1:
        raise UsageError("stdin (-) can be read only once", fix="give - once")
    sources: list[Source] = []
    notes: list[str] = []
    for path in paths:
        if str(path) == "-":
            stdin = sys.stdin.buffer
            # A thread that waits in a buffered reader holds its lock, with which Python cannot
            # exit.
            stream = getattr(stdin, "raw", stdin) if once else stdin
            sources.append(_from_stream("stdin", stream, once=once))
        elif Path(path).is_dir():
            sources += _in_folder(Path(path), notes, encoding, skip_binary=skip_binary)
        else:
            sources.append(_single(Path(path), once=once))
    return sources, notes


def _unreadable(name: object, error: OSError) -> ResourceError:
    return ResourceError("cannot read", where=name, why=error.strerror or str(error))


def _single(path: Path, *, once: bool) -> Source:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return Source(str(path), lambda: io.FileIO(path))
        if stat.S_ISBLK(mode):
            raise ResourceError("cannot read", where=path, why="it is a device, not a file")
        stream = path.open("rb", buffering=0)
        weakref.finalize(stream, stream.close)
        return _from_stream(str(path), stream, once=once)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ResourceError("a link to nothing", where=path, fix="remove or mend it") from error
        raise ResourceError("no such file", where=path, fix="check the path") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a NUL in the path
        raise ResourceError("cannot read", where=repr(path), why=str(error)) from error


def _from_stream(name: str, stream: IO[bytes], *, once: bool) -> Source:
    """A source of a stream itself, or of a copy in a temporary file to read repeatedly."""
    if once:
        return Source(name, lambda: _Reader(getattr(stream, "read1", stream.read)))
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
    try:
        shutil.copyfileobj(stream, spool, BLOCK_BYTES)
        spool.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # closing tries to write the rest again
            spool.close()
        raise storage.write_error(Path(tempfile.gettempdir()), error) from error
    source = Source(name, lambda: _Reader(_positioned(spool)))
    weakref.finalize(source, spool.close)
    return source


class _Reader(io.RawIOBase):
    """A stream by a function that reads some bytes; closing it closes nothing else."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _positioned(file: IO[bytes]) -> Callable[[int], bytes]:
    """Reads a file from its start, from a separate position."""
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        file.seek(position)
        data = file.read(size)
        position += len(data)
        return data

    return read


def wrong_encoding(name: object, other: str, encoding: str, *, among: bool = False) -> DataError:
    """The error of a text in UTF-16 or UTF-32. among: It is one of the files of a folder."""
    codec = other.lower()
    return DataError(
        f"this is {other}, not {encoding.upper()}",
        where=name,
        fix=(
            f"add --encoding {codec}" + (" if all files are" if among else ""),
            f"convert it: iconv -f {codec} -t utf-8",
        ),
    )


def _in_folder(folder: Path, notes: list[str], encoding: str, *, skip_binary: bool) -> list[Source]:
    sources, skipped = [], []
    bytes_read = bytes_skipped = 0
    files, links = _files_below(folder)
    for path in files:
        if skip_binary and not path.exists():
            skipped.append(path)
            continue
        source = _single(path, once=False)
        head, size = source.head(), path.stat().st_size
        other = misread(head, encoding)
        if other is not None and not skip_binary:
            raise wrong_encoding(path, other, encoding, among=True)
        if other is None and binary_kind(head, encoding) is None:
            sources.append(source)
            bytes_read += size
        else:
            skipped.append(path)
            bytes_skipped += size
    if links:
        notes.append(f"links to folders in {folder} are not followed: {_named(links, folder)}")
    if skipped and sources:
        share = bytes_skipped / max(bytes_read + bytes_skipped, 1)
        left_out = f"not text: {_named(skipped, folder)}, {share:.1%} of the bytes"
        if share > _LARGEST_SKIPPED_SHARE and not skip_binary:
            raise DataError(
                "much of this folder is not text",
                where=folder,
                why=left_out.removeprefix("not text: "),
                fix=("add --skip-binary to leave that out", "name the text files"),
            )
        notes.append(f"left out of {folder}, {left_out}")
    if not sources:
        raise ResourceError(
            "no text in this folder",
            where=folder,
            why="hidden and binary files do not count",
            fix="name a file or another folder",
        )
    return sources


def _named(paths: Sequence[Path], folder: Path) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path.relative_to(folder).as_posix() for path in paths[:3]) + more


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder, and the links to folders; a link to nothing is a file."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename or folder, error)

    found: list[Path] = []
    links: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.is_file() or not path.exists()]
        links += [path for name in folders if (path := Path(parent, name)).is_symlink()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix()), sorted(links)
