"""Bytes to normalized text; text to sentences, or to pieces that can be tokenized separately."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from textgen.config import UNIT_TERMINATORS, Unit
from textgen.config.options import check_choice
from textgen.data.encodings import likely_encodings
from textgen.data.sources import (
    HEAD_BYTES,
    Source,
    binary_kind,
    find_sources,
    misread,
    wrong_encoding,
)
from textgen.errors import DataError, UsageError

PIECE_CHARACTERS = 2**20


@dataclass(frozen=True)
class Reading:
    """How bytes are read.

    Attributes:
        encoding: the codec, by its own name.
        errors: ``strict``, or ``replace`` to read invalid bytes as U+FFFD.
    """

    unit: Unit
    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        check_choice("errors", self.errors, ("strict", "replace"))
        try:
            codec = codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except (LookupError, ValueError) as error:
            raise UsageError(
                f"unknown encoding {self.encoding!r}", where="--encoding", fix="try latin-1"
            ) from error
        object.__setattr__(self, "encoding", codec.name)


@dataclass
class Findings:
    """What was changed while reading: byte order marks, texts with CR, invalid bytes.

    Attributes:
        valid_utf8: names of texts that are valid UTF-8, but were read in another encoding.
    """

    byte_order_marks: int = 0
    carriage_returns: int = 0
    replaced: int = 0
    valid_utf8: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Messages for the user."""
        counts = {
            "byte order marks dropped": self.byte_order_marks,
            "files whose CRLF or CR were read as LF": self.carriage_returns,
            "invalid bytes replaced by U+FFFD": self.replaced,
        }
        notes = [f"{what}: {count}" for what, count in counts.items() if count]
        if self.valid_utf8:
            named = ", ".join(self.valid_utf8[:3])
            more = len(self.valid_utf8) - 3
            notes.append(
                "valid UTF-8, but read in another encoding:"
                f" {named}{f' and {more} more' if more > 0 else ''}; is --encoding right?"
            )
        return notes


def normalized(source: Source, reading: Reading, findings: Findings) -> Iterator[str]:
    """The text of a source in blocks.

    A BOM is dropped; CRLF and CR become LF; a text that does not end with its unit's terminator
    is completed.

    Raises:
        DataError: It is not text.
    """
    last, newlines = "", 0
    texts = _without_mark(_decoded(source, reading, findings), findings)
    for text in _with_line_feeds(texts, findings):
        last = text[-1]
        trailing = len(text) - len(text.rstrip("\n"))
        newlines = newlines + trailing if trailing == len(text) else trailing
        yield text
    if last and last != "\n":
        yield "\n\n" if reading.unit == "paragraph" else "\n"
    elif reading.unit == "paragraph" and newlines % 2:
        # The leftmost pairs of an odd run leave one newline, which ends no paragraph.
        yield "\n"


def _decoded(source: Source, reading: Reading, findings: Findings) -> Iterator[str]:
    name, is_utf8 = source.name, reading.encoding == "utf-8"
    decoder = codecs.getincrementaldecoder(reading.encoding)(reading.errors)
    blocks = source.blocks()
    first = next(blocks, b"")
    _check_text(name, first[:HEAD_BYTES], reading.encoding)
    as_utf8 = _Utf8Check(reading.encoding)
    offset, line = 0, 1
    for block in chain((first,), blocks, (b"",)):
        data = decoder.getstate()[0] + block  # with the beginning of a character
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            where = f"byte {offset + error.start}"
            around = data[max(0, error.start - HEAD_BYTES) : error.start + HEAD_BYTES]
            if is_utf8:
                before = data[: error.start].decode()
                if before:
                    yield before
                line += before.count("\n")
                where = f"line {line}, {where}"
            raise _invalid(reading, f"{name}, {where}", error.reason, around) from error
        except UnicodeError as error:
            raise _invalid(reading, f"{name}, byte {offset}", str(error), data) from error
        as_utf8.feed(block)
        used = len(data) - len(decoder.getstate()[0])
        if reading.errors == "replace" and "\ufffd" in text:
            literal = data[:used].count("\ufffd".encode()) if is_utf8 else 0
            findings.replaced += text.count("\ufffd") - literal
        offset += used
        line += text.count("\n")
        if text:
            yield text
    if as_utf8.is_surprising and name not in findings.valid_utf8:
        findings.valid_utf8.append(name)


class _Utf8Check:
    """Whether bytes that are read in another encoding are valid UTF-8, and not all ASCII."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_valid, self._differs = not encoding.startswith("utf-8"), False
        # Any text reads as UTF-16, except that of an odd length: ASCII too is surprising.
        self._is_wide = not "a\n".encode(encoding).endswith(b"a\n")

    def feed(self, block: bytes) -> None:
        """Read a block; an empty one is the end."""
        if self._is_valid:
            try:
                text = self._decoder.decode(block, not block)
            except UnicodeDecodeError:
                self._is_valid = False
                return
            self._is_valid = not (self._is_wide and "\0" in text)
            self._differs |= self._is_wide or not text.isascii()

    @property
    def is_surprising(self) -> bool:
        return self._is_valid and self._differs


def _check_text(name: str, head: bytes, encoding: str) -> None:
    other = misread(head, encoding)
    if other is not None:
        raise wrong_encoding(name, other, encoding)
    kind = binary_kind(head, encoding)
    if kind is not None:
        raise DataError("not text", where=name, why=f"it is {kind}", fix="give plain text")


def _invalid(reading: Reading, where: str, reason: str, data: bytes) -> DataError:
    """The error of bytes that are not valid in the encoding. data: these and their neighbours."""
    is_utf8 = reading.encoding == "utf-8"
    likely = likely_encodings(data)
    advice: tuple[str, ...]
    if is_utf8 and likely == ["utf-8"]:
        advice = ("correct these bytes",)
    elif likely == ["utf-8"]:
        advice = ("leave --encoding out: this is UTF-8; convert files that are not",)
    elif likely:
        named = f"add --encoding {' or '.join(likely)}, which {'fit' if likely[1:] else 'fits'}"
        advice = (f"{named} these bytes", f"convert it: iconv -f {likely[0]} -t utf-8")
    else:
        advice = ("give its --encoding", "convert it to UTF-8")
    return DataError(
        f"invalid {'UTF-8' if is_utf8 else reading.encoding}",
        where=where,
        why=reason,
        fix=(*advice, "add --errors replace"),
    )


def _without_mark(texts: Iterator[str], findings: Findings) -> Iterator[str]:
    first = next(texts, "")
    if first.startswith("\ufeff"):
        findings.byte_order_marks += 1
        first = first[1:]
    if first:
        yield first
    yield from texts


def _with_line_feeds(texts: Iterator[str], findings: Findings) -> Iterator[str]:
    last_return = ""  # a CR whose LF may be the first of the next block
    found = 0
    for text in chain(texts, ("",)):
        whole = last_return + text
        last_return = ""
        if "\r" in whole:
            found = 1
            if text and whole[-1] == "\r":
                whole, last_return = whole[:-1], "\r"
            whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        if whole:
            yield whole
    findings.carriage_returns += found


def sentences(
    path: str | Path,
    *,
    unit: Unit = "line",
    encoding: str = "utf-8",
    errors: str = "strict",
    findings: Findings | None = None,
) -> Iterator[str]:
    """The sentences of a file, a folder, a FIFO or stdin (``-``), without their terminators.

    They are read by the same rules as a corpus, as they arrive, one at a time.

    Args:
        findings: is updated while reading.

    Raises:
        ResourceError: There is no such file, or it cannot be read.
        DataError: It is empty or not text.
    """
    reading = Reading(unit, encoding, errors)
    found = False
    findings = Findings() if findings is None else findings
    for source in find_sources([path], once=True, encoding=reading.encoding)[0]:
        for sentence in _split(normalized(source, reading, findings), unit):
            found = True
            yield sentence
    if not found:
        raise DataError("empty", where=path, fix="give a text")


def _split(blocks: Iterator[str], unit: Unit) -> Iterator[str]:
    terminator = UNIT_TERMINATORS[unit]
    parts: list[str] = []  # of a sentence whose end has not been read
    for block in blocks:
        before = parts[-1][-1:] if parts else ""
        parts.append(block)
        if terminator and terminator in before + block:
            *whole, rest = "".join(parts).split(terminator)
            yield from whole
            parts = [rest] if rest else []
    if parts:
        yield "".join(parts)


class Piece(NamedTuple):
    """A part of a corpus. ends_document: with ``--unit document``, a file ends here."""

    text: str
    ends_document: bool


def split_into_pieces(
    blocks: Iterable[str], unit: Unit, largest: int = PIECE_CHARACTERS
) -> Iterator[str]:
    """The same text in pieces of at most ``largest`` characters.

    Where the pieces end depends on the text alone, not on the blocks. A piece ends after its
    last terminator; without one, after its last newline; without that, before its last run of
    spaces; without that, at ``largest`` characters. So where an over-long sentence is split
    depends on nothing before it. A pair of newlines that ends a paragraph is never split.
    """
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > largest:
            end = _end_of_piece(rest, unit, largest)
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _end_of_piece(text: str, unit: Unit, largest: int) -> int:
    if unit == "paragraph":
        pair = text.rfind("\n\n", 0, largest)
        if pair >= 0:
            run = len(text[:pair].rstrip("\n"))  # pairs are counted from the start of their run
            return run + (pair + 2 - run) // 2 * 2
        largest -= text[largest - 1] == "\n"
    newline = text.rfind("\n", 0, largest)
    if newline >= 0:
        return newline + 1
    space = text.rfind(" ", 1, largest)
    before_spaces = len(text[: space + 1].rstrip(" ")) if space > 0 else 0
    return before_spaces or largest
