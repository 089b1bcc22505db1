"""The sentences of one text, one at a time, to be scored."""

from collections.abc import Iterator
from pathlib import Path

from textgen.config import UNIT_TERMINATORS, Unit
from textgen.corpus.normalised import Findings, Reading, normalised
from textgen.corpus.sources import find_sources
from textgen.errors import DataError


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
