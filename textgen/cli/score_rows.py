"""``textgen score --words``: the rows of a table, with the figures of the word in each."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from textgen.data import lines
from textgen.data.lines import Text
from textgen.data.word_rows import Item, WordRows
from textgen.errors import DataError, TextgenError
from textgen.presentation import console, records
from textgen.presentation.formats import UnknownReport
from textgen.results import PartScore, SentenceScore

if TYPE_CHECKING:
    from textgen.scoring.scorer import Skipped

FIGURES = ("surprisal", "log_prob", "tokens", "unknown", "characters")
"""The columns that are added: bits, nats, a count, 1 or 0, a count."""


class RowWriter:
    """Writes the rows of a table with the figures after their cells.

    Args:
        as_json: An object per row; otherwise the rows as they stand in the file, to which
            numbers are added.
        at_once: Flush the rows of each item: an interactive user may wait for them.

    Raises:
        DataError: The table has a column with the name of a figure, or, for JSON, of another.
    """

    def __init__(self, rows: WordRows, *, as_json: bool, at_once: bool) -> None:
        self._header, self._delimiter = rows.header, rows.delimiter
        self._as_json, self._at_once = as_json, at_once
        # In JSON the second of two columns of one name would take the place of the first.
        taken = [*FIGURES]
        for name in rows.header.cells:
            if name in taken:
                raise DataError(
                    f"the column {name!r} is there already",
                    where=f"{rows.name}, line 1",
                    why="a row that is written has one of each name",
                    fix="rename it",
                )
            taken += [name] if as_json else []

    def begin(self) -> None:
        if not self._as_json:
            self._emit(self._header.text, *FIGURES)

    def item(self, item: Item, scores: tuple[PartScore, ...] | None) -> None:
        """Write the rows of an item. scores: of its words; None if it was skipped."""
        for number, (row, word) in enumerate(zip(item.rows, item.words, strict=True)):
            figures = None if scores is None else _figures(scores[number], word)
            if self._as_json:
                values = figures or dict.fromkeys(FIGURES)
                cells = dict(zip(self._header.cells, row.cells, strict=True))
                records.emit_record(cells | values)
            elif figures is None:
                self._emit(row.text, *("" for _ in FIGURES))
            else:
                self._emit(row.text, *(repr(+value) for value in figures.values()))
        if self._at_once:
            console.finish_output()

    def _emit(self, row: str, *figures: str) -> None:
        line = self._delimiter.join((row, *figures))
        # On a terminal, control characters are escaped.
        console.emit((console.shown(line, keep="\n\t") if sys.stdout.isatty() else line) + "\n")


def _figures(part: PartScore, word: str) -> dict[str, Any]:
    values = (part.surprisal, part.log_prob, part.tokens, part.unknown, len(word))
    return dict(zip(FIGURES, values, strict=True))


def score_rows(
    rows: WordRows, scores: Callable[..., Iterable[SentenceScore]], writer: RowWriter
) -> None:
    """Score the items of a table and write its rows as they are scored, in order.

    Args:
        scores: ``LanguageModel.scores`` with its configuration.
    """
    waiting = deque[Item]()
    # An item has the line of its first row, which is not that of an unknown word in it.
    unknown, line = UnknownReport(in_lines=False), 0

    def texts() -> Iterator[Text]:
        for item in rows.items():
            waiting.append(item)
            yield item.text

    def write(parts: tuple[PartScore, ...] | None) -> None:
        nonlocal line
        if not line:
            writer.begin()
        item = waiting.popleft()
        writer.item(item, parts)
        line = item.rows[-1].line

    def skip(skipped: "Skipped") -> None:
        unknown.skipped(skipped.given.line, skipped.unknown)
        write(None)

    if not rows.by:
        console.note("all rows are one text; --by COLUMN makes one of the rows of each item")
    try:
        for score in unknown.counted(scores(lines.arriving(texts()), on_skip=skip)):
            write(score.parts)
    except TextgenError:
        if line:
            console.note(f"the scores end after line {line}")
        raise
    unknown.say()
