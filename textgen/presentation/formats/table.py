"""Scores for people: a table, and the lines of sums that the heat map has too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from textgen import metrics
from textgen.presentation.console import emit, laid_out, out_console, show
from textgen.presentation.console import shown as escaped
from textgen.presentation.formats.base import (
    ScoreWriter,
    Shown,
    base_name,
    part_name,
    per_character,
    sentence_count,
)
from textgen.presentation.numbers import count, figure, fixed, label
from textgen.results import PartScore, ScoreSum, SentenceScore

Cell = str | tuple[str, str]
"""What stands in a column: text, or text and its style."""

_GAP = 2
_BAR_BITS = 16.0
_LONGEST_BAR, _SHORTEST_BAR = 20, 10
_PART_WIDTHS = {"word": 16, "token": 12, "character": 9}
_ROOM_FOR_COUNTS = 48  # columns
_UNITS = {"e": " (nats)", "2": " (bits)"}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        cell: What stands in it for a row.
        width: In cells, at least; None for the one that takes what is left and wraps in it.
        least: Where that is less than this, each row is written as a paragraph instead.
    """

    name: str
    cell: Callable[[Any], Cell]
    width: int | None = None
    right: bool = True
    least: int = 0


class Columns:
    """Rows under a header, ``indent`` cells from the left, in columns of fixed width.

    The widths are known before the first row. A row is a string, escape codes included: laying
    out tens of thousands of them one by one would be slow.
    """

    def __init__(self, columns: Sequence[Column], console: Console, *, indent: int = 0) -> None:
        self._columns, self._console, self._indent = columns, console, indent
        widths = [each.width and max(each.width, len(each.name)) for each in columns]
        taken = sum(each or 0 for each in widths) + _GAP * (len(columns) - 1)
        self.room = max(0, console.width - indent - taken)
        self._widths = [self.room if each is None else each for each in widths]
        self.stacked = any(each.width is None and self.room < each.least for each in columns)
        self._codes: dict[str, tuple[str, str]] = {}

    def header(self) -> str:
        if self.stacked:
            return ""
        return self.names() + self.rule()

    def names(self) -> str:
        return self._lines([(each.name, "label") for each in self._columns])

    def rule(self) -> str:
        line = "─" * (self._console.width - self._indent)
        return " " * self._indent + self._painted(line, "faint") + "\n"

    def row(self, row: Any) -> str:
        """One row; a cell of several lines makes it several lines high."""
        cells = [column.cell(row) for column in self._columns]
        pairs = [(cell, "") if isinstance(cell, str) else cell for cell in cells]
        return self._paragraph(pairs) if self.stacked else self._lines(pairs)

    def _lines(self, cells: Sequence[tuple[str, str]]) -> str:
        texts = [self._wrapped(*each) for each in zip(self._columns, cells, strict=True)]
        lines = []
        for number in range(max(map(len, texts))):
            line = []
            for column, width, text, (_, style) in zip(
                self._columns, self._widths, texts, cells, strict=True
            ):
                own = text[number] if number < len(text) else ""
                space, painted = " " * (width - cell_len(own)), self._painted(own, style)
                line.append(space + painted if column.right else painted + space)
            lines.append(" " * self._indent + (" " * _GAP).join(line))
        return "".join(line.rstrip(" ") + "\n" for line in lines)

    def _wrapped(self, column: Column, cell: tuple[str, str]) -> Sequence[str]:
        if column.width is not None or cell_len(cell[0]) <= self.room:
            return cell[0].split("\n")
        return [line.plain.rstrip(" ") for line in Text(cell[0]).wrap(self._console, self.room)]

    def _paragraph(self, cells: Sequence[tuple[str, str]]) -> str:
        """The first two cells, then each number after its name, as many as fit in a line."""
        lines = [Text(" ").join(Text(*cell) for cell in cells[:2] if cell[0]), Text(" ")]
        for column, (text, style) in list(zip(self._columns, cells, strict=True))[2:]:
            if text and column.name:
                number = Text.assemble((f"{column.name} ", "label"), (text, style))
                number.plain = number.plain.replace("\n", " ")
                if lines[-1].cell_len + 1 + number.cell_len > self._console.width:
                    lines.append(Text(" "))
                lines[-1].append(" ").append_text(number)
        return laid_out(self._console, *lines)

    def _painted(self, text: str, style: str) -> str:
        """The text between the escape codes of a style, each of which is looked up once."""
        if not style or not text:
            return text
        if style not in self._codes:
            before, _, after = laid_out(self._console, Text("x", style)).partition("x")
            self._codes[style] = before, after.removesuffix("\n")
        before, after = self._codes[style]
        return before + text + after


class TableScores(ScoreWriter):
    """A table whose rows appear as they are known.

    The rank and entropy of a part are shown where the width allows.
    """

    shows_pseudo = True

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self._console = out_console()
        self._sentences = Columns(_sentence_columns(shown), self._console)
        self._parts = Columns(_part_columns(shown, wide=True), self._console, indent=2)
        if self._parts.room < _SHORTEST_BAR:
            self._parts = Columns(_part_columns(shown, wide=False), self._console, indent=2)

    def begin(self) -> None:
        if self.shown.level == "sentence":
            emit(self._sentences.header())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), escaped(score.text)
        if self.shown.level == "sentence":
            emit(self._sentences.row((name, text, score)))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        emit(self._parts.header())
        for part in score.parts or ():
            emit(self._parts.row((part, self._parts.room)))
        show(sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            row = self._sentences.row(("all", sentence_count(sentences), total))
            emit(self._sentences.rule() + row + "\n")
        else:
            show(total_line(sentences), sum_line(total, self.shown), "")
        emit(_per_unit(total, self.shown, self._console) + "\n")
        show(*footnotes(total, self.shown))


def _sentence_columns(shown: Shown) -> Sequence[Column]:
    """Of rows of a name, a text and its score."""

    def log_prob(row: tuple[str, str, ScoreSum]) -> str:
        return fixed(shown.log(row[2].log_prob), 2)

    def unknown(row: tuple[str, str, ScoreSum]) -> Cell:
        return count(row[2].unknown), "unknown" if row[2].unknown else "faint"

    def perplexity(row: tuple[str, str, ScoreSum]) -> str:
        without = f"\n({figure(row[2].perplexity_without_unknown)})" if row[2].unknown else ""
        return figure(row[2].perplexity) + without

    def bits(row: tuple[str, str, ScoreSum]) -> Cell:
        return per_character(row[2]), "" if row[2].comparable else "warning"

    return (
        Column("line", lambda row: (row[0], "label"), 4),
        Column("text", lambda row: row[1], right=False, least=20),
        Column(shown.log_name, log_prob, 9),
        Column("tokens", lambda row: count(row[2].tokens), 6),
        Column("unk", unknown, 3),
        Column(label("perplexity", pseudo=shown.pseudo), perplexity, 10),
        *([] if shown.pseudo else [Column("bits/char", bits, 9)]),
    )


def _part_columns(shown: Shown, *, wide: bool) -> Sequence[Column]:
    """Of rows of a part and the room for its bar."""

    def bar(row: tuple[PartScore, int]) -> Cell:
        part, room = row
        length = min(1.0, part.surprisal / _BAR_BITS) * min(_LONGEST_BAR, room)
        return "▇" * round(length), "unknown" if part.unknown else "accent"

    def name(row: tuple[PartScore, int]) -> Cell:
        return part_name(row[0]), "unknown" if row[0].unknown else ""

    def known(value: Any, written: Callable[[Any], str]) -> str:
        return "" if value is None else written(value)

    is_token = shown.level == "token"
    id = Column("id", lambda row: (known(row[0].id, str), "label"), 5)
    rank = Column("rank", lambda row: known(row[0].rank, count), 6)
    entropy = Column("entropy", lambda row: known(row[0].entropy, lambda bits: fixed(bits, 3)), 7)
    return (
        Column(shown.level, name, _PART_WIDTHS.get(shown.level, 0), right=False),
        *([id] if is_token else []),
        Column(shown.log_name, lambda row: fixed(shown.log(row[0].log_prob), 3), 8),
        Column(label("bits", pseudo=shown.pseudo), lambda row: fixed(row[0].surprisal, 3), 7),
        *([rank] if is_token and wide else []),
        *([entropy] if wide else []),
        Column("", bar, right=False),
    )


def total_line(sentences: int) -> Text:
    """The heading of the totals, where they are a line."""
    return Text.assemble(("all  ", "label"), (sentence_count(sentences), "heading"))


def sum_line(score: ScoreSum, shown: Shown) -> Text:
    """A row of the table of sentences as one line."""
    without = f" ({figure(score.perplexity_without_unknown)})" if score.unknown else ""
    line = Text.assemble(
        (f"  {shown.log_name} ", "label"),
        f"{fixed(shown.log(score.log_prob), 3)}  {count(score.tokens)}",
        (f" token{'' if score.tokens == 1 else 's'}", "label"),
        (f" ({count(score.unknown)} unk)" if score.unknown else "", "unknown"),
        (f"  {label('perplexity', pseudo=score.pseudo)} ", "label"),
        f"{figure(score.perplexity)}{without}",
    )
    if not score.pseudo:
        line.append(f"  {per_character(score)}").append(" bits/char", "label")
    return line


def _per_unit(total: ScoreSum, shown: Shown, console: Console) -> str:
    """The sum per token, word, character and byte: models of other tokens compare."""
    units = {"token": total.tokens}
    if not total.pseudo:
        units |= {"word": total.words, "character": total.characters, "byte": total.bytes}

    def perplexity(unit: tuple[str, int]) -> str:
        starred = "*" if unit[0] != "token" and not total.comparable else " "
        return figure(metrics.perplexity(-total.log_prob / unit[1])) + starred

    counts = Column("count", lambda unit: count(unit[1]), 9)
    columns = (
        Column("", lambda unit: (f"per {unit[0]}", "label"), 13, right=False),
        *([counts] if console.width >= _ROOM_FOR_COUNTS else []),
        Column(shown.log_name, lambda unit: fixed(shown.log(total.log_prob / unit[1]), 3), 8),
        Column(label("perplexity", pseudo=shown.pseudo), perplexity, 11),
    )
    table = Columns(columns, console)
    return table.names() + "".join(table.row(unit) for unit in units.items() if unit[1])


def footnotes(total: ScoreSum, shown: Shown) -> Sequence[Text]:
    """What the figures are of."""
    base = base_name(shown.base)
    basis = f"Logarithms are to base {base}{_UNITS.get(base, '')}."
    basis += " Each sentence's <EOS> is counted." if shown.eos else " <EOS> is not counted."
    if shown.level != "sentence" and not shown.pseudo:
        basis += f" A {shown.level}'s bits are its surprisal, -log2 p."
    notes = [Text(basis, style="label")]
    if shown.pseudo:
        given = "Each token is given all others of its sentence: no probability of the text."
        notes.append(Text(given, style="label"))
    if total.unknown:
        many = f"{count(total.unknown)} unknown token{'s' if total.unknown != 1 else ''}"
        notes.append(Text("( ) without the unknown tokens, which are <UNK>.", style="warning"))
        if total.comparable and not total.pseudo:
            spelled = f"The spelling of {many} is in the figures: they are comparable."
            notes.append(Text(spelled, style="label"))
        elif not total.pseudo:
            unlike = f"* not comparable between models: without the spelling of {many}."
            notes.append(Text(unlike, style="warning"))
    return notes
