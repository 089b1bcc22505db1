"""Bytes to normalised text; text to sentences, or to pieces that can be tokenized separately."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from textgen.config import UNIT_TERMINATORS, Unit
from textgen.data import sources as recognition
from textgen.data.sources import Source, find_sources
from textgen.errors import DataError, UsageError

_NEWLINE = "\n"


@dataclass(frozen=True)
class Reading:
    """How bytes are read. encoding: the codec; errors: ``strict`` or ``replace``."""

    unit: Unit
    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        if self.errors not in ("strict", "replace"):
            raise UsageError(f"--errors must be one of strict, replace, got {self.errors!r}")
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
    """What reading met: byte order marks dropped, texts with CR, characters replaced."""

    byte_order_marks: int = 0
    carriage_returns: int = 0
    replaced: int = 0

    def notes(self) -> list[str]:
        """What a person should hear of it."""
        notes = []
        if self.byte_order_marks:
            notes.append(f"byte order marks dropped: {self.byte_order_marks}")
        if self.carriage_returns:
            notes.append(f"files whose CRLF or CR were read as LF: {self.carriage_returns}")
        if self.replaced:
            notes.append(f"invalid bytes replaced by U+FFFD: {self.replaced}")
        return notes


def normalised(source: Source, reading: Reading, findings: Findings) -> Iterator[str]:
    """The text of a source in blocks, ending as the unit's texts end.

    A BOM is dropped; CRLF and CR become LF; a text that does not end with its unit's
    terminator is given what it lacks. Raises DataError where it is not text.
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
    blocks = source.blocks()
    first = next(blocks, b"")
    _refuse_what_is_no_text(source.name, first[: recognition.HEAD_BYTES], reading)
    whole = chain((first,), blocks)
    if reading.encoding == "utf-8":
        return _utf8(source.name, whole, reading.errors, findings)
    return _other(source.name, whole, reading, findings)


def _utf8(name: str, blocks: Iterator[bytes], errors: str, findings: Findings) -> Iterator[str]:
    offset, line, rest = 0, 1, b""
    for block in chain(blocks, (b"",)):
        data = rest + block
        try:
            text, used = codecs.utf_8_decode(data, "strict", not block)
        except UnicodeDecodeError as error:
            if errors == "strict":
                before = data[: error.start].decode()
                if before:
                    yield before
                where = f"{name}, line {line + before.count(_NEWLINE)}, byte {offset + error.start}"
                raise _invalid("UTF-8", where, error.reason) from error
            text, used = codecs.utf_8_decode(data, "replace", not block)
            literal = data[:used].count("\ufffd".encode())
            findings.replaced += text.count("\ufffd") - literal
        offset, rest = offset + used, data[used:]
        line += text.count(_NEWLINE)
        if text:
            yield text


def _other(
    name: str, blocks: Iterator[bytes], reading: Reading, findings: Findings
) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(reading.encoding)(reading.errors)
    offset = 0
    for block in chain(blocks, (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            where = f"{name}, byte {offset - held + error.start}"
            raise _invalid(reading.encoding, where, error.reason) from error
        except UnicodeError as error:
            where = f"{name}, byte {offset - held}"
            raise _invalid(reading.encoding, where, str(error)) from error
        offset += len(block)
        if reading.errors == "replace":
            findings.replaced += text.count("\ufffd")
        if text:
            yield text


def _without_mark(texts: Iterator[str], findings: Findings) -> Iterator[str]:
    first = next(texts, "")
    if first.startswith("\ufeff"):
        findings.byte_order_marks += 1
        first = first[1:]
    if first:
        yield first
    yield from texts


def _with_line_feeds(texts: Iterator[str], findings: Findings) -> Iterator[str]:
    held = ""  # a CR whose LF may come in the next block
    met = 0
    for text in chain(texts, ("",)):
        whole = held + text
        held = ""
        if "\r" in whole:
            met = 1
            if text and whole[-1] == "\r":
                whole, held = whole[:-1], "\r"
            whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        if whole:
            yield whole
    findings.carriage_returns += met


def _refuse_what_is_no_text(name: str, head: bytes, reading: Reading) -> None:
    if reading.encoding != "utf-8":
        return
    other = recognition.other_encoding(head)
    if other is not None:
        raise DataError(
            f"this is {other}, not UTF-8", where=name, fix=f"add --encoding {other.lower()}"
        )
    kind = recognition.binary(head)
    if kind is not None:
        raise DataError("not text", where=name, why=f"it is {kind}", fix="give plain text")


def _invalid(encoding: str, where: str, reason: str) -> DataError:
    return DataError(
        f"invalid {encoding}",
        where=where,
        why=reason,
        fix="give its --encoding (such as latin-1), or add --errors replace",
    )


def sentences(
    path: str | Path,
    *,
    unit: Unit = "line",
    encoding: str = "utf-8",
    errors: str = "strict",
    findings: Findings | None = None,
) -> Iterator[str]:
    """The sentences of a file, a folder, a FIFO or stdin (``-``), without their terminators.

    Read by the same rules as a corpus, as they come, holding one sentence at a time. findings:
    is told what reading meets. Raises ResourceError (not there, not readable), DataError (empty,
    not text).
    """
    reading = Reading(unit, encoding, errors)
    found = False
    for source in find_sources([path], once=True)[0]:
        for sentence in _split(normalised(source, reading, findings or Findings()), unit):
            found = True
            yield sentence
    if not found:
        raise DataError("empty", where=path, fix="give a text")


def _split(blocks: Iterator[str], unit: Unit) -> Iterator[str]:
    terminator = UNIT_TERMINATORS[unit]
    held: list[str] = []  # the beginning of a sentence whose end has not come
    for block in blocks:
        before = held[-1][-1:] if held else ""
        held.append(block)
        if terminator and terminator in before + block:
            *whole, rest = "".join(held).split(terminator)
            yield from whole
            held = [rest] if rest else []
    if held:
        yield "".join(held)


PIECE_CHARACTERS = 2**20


class Piece(NamedTuple):
    """A stretch of a corpus. ends_document: with ``--unit document``, a file ends here."""

    text: str
    ends_document: bool


def cut(blocks: Iterable[str], unit: Unit, largest: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The same text in pieces of at most ``largest`` characters.

    Where the pieces end depends on the text alone, not on the blocks. A piece ends after its
    last terminator; without one, after its last newline; without that, before its last run of
    spaces; without that, at ``largest`` characters. So an over-long sentence is cut by its own
    text, counted from its own start. A pair of newlines that ends a paragraph stays whole.
    """
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > largest:
            place = _place(rest, unit, largest)
            yield rest[:place]
            rest = rest[place:]
    if rest:
        yield rest


def _place(text: str, unit: Unit, largest: int) -> int:
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
