"""Scores for people: a table, and a heat map of the text coloured by surprisal."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from textgen import metrics
from textgen.config import ScoreLevel
from textgen.presentation.console import emit, laid_out, out_console, show
from textgen.presentation.console import shown as escaped
from textgen.presentation.formats import (
    ScoreWriter,
    Shown,
    bits_per_character,
    part_name,
    sentence_count,
)
from textgen.presentation.numbers import BITS_PER_CHARACTER, count, figure, fixed
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

_GAP = 2
_LEAST_TEXT = 20  # with fewer columns for the text, a table of sentences is not readable
_BAR_BITS = 16.0
_LONGEST_BAR, _SHORTEST_BAR = 20, 10
_PART_WIDTHS = {"word": 16, "token": 12, "character": 9}
_ROOM_FOR_COUNTS = 48  # columns


class Cell(NamedTuple):
    """A cell of a row, and the column it is in."""

    name: str  # of the column
    width: int | None  # of the column, at least; None for the one that takes the rest and wraps
    text: str
    style: str = ""
    right: bool = True


class Rows:
    """Rows under a header, ``indent`` columns from the left.

    The widths are those of the first row, whose texts are not shown. A row is a string, escape
    codes included: laying out tens of thousands of them one by one with rich would be slow.
    """

    def __init__(self, first: Sequence[Cell], console: Console, *, indent: int = 0) -> None:
        self._first, self._console, self._indent = first, console, indent
        widths = [each.width and max(each.width, len(each.name)) for each in first]
        taken = sum(each or 0 for each in widths) + _GAP * (len(first) - 1)
        self.room = max(0, console.width - indent - taken)
        self._widths = [self.room if each is None else each for each in widths]
        self._codes: dict[str, tuple[str, str]] = {}

    def names(self) -> str:
        return self.row([each._replace(text=each.name, style="label") for each in self._first])

    def rule(self) -> str:
        line = "─" * (self._console.width - self._indent)
        return " " * self._indent + self._painted(line, "faint") + "\n"

    def row(self, cells: Sequence[Cell]) -> str:
        """One row; a cell of several lines makes it several lines high."""
        rows = []
        for texts in zip_longest(*map(self._lines, cells), fillvalue=""):
            line = []
            for cell, width, text in zip(cells, self._widths, texts, strict=True):
                space, painted = " " * (width - cell_len(text)), self._painted(text, cell.style)
                line.append(space + painted if cell.right else painted + space)
            rows.append(" " * self._indent + (" " * _GAP).join(line))
        return "".join(row.rstrip(" ") + "\n" for row in rows)

    def _lines(self, cell: Cell) -> list[str]:
        if cell.width is not None or cell_len(cell.text) <= self.room:
            return cell.text.split("\n")
        return [line.plain.rstrip(" ") for line in Text(cell.text).wrap(self._console, self.room)]

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

    The rank and entropy of a part are shown where the width allows. Where it does not allow a
    table of sentences, the figures of each are a line below it.
    """

    shows_pseudo = True

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self._console = out_console()
        self._sentences = Rows(self._sum_cells("", "", ScoreSum()), self._console)
        self._in_rows = shown.level == "sentence" and self._sentences.room >= _LEAST_TEXT
        self._hidden = set() if shown.level == "token" else {"id", "rank"}
        self._parts = self._part_rows()
        if self._parts.room < _SHORTEST_BAR:
            self._hidden |= {"rank", "entropy"}
            self._parts = self._part_rows()

    def begin(self) -> None:
        if self._in_rows:
            emit(self._sentences.names() + self._sentences.rule())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), escaped(score.text)
        if self._in_rows:
            emit(self._sentences.row(self._sum_cells(name, text, score)))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        if self.shown.level != "sentence":
            emit(self._parts.names() + self._parts.rule())
            for part in score.parts or ():
                emit(self._parts.row(self._part_cells(part, self._parts.room)))
        show(sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self._in_rows:
            cells = self._sum_cells("all", sentence_count(sentences), total)
            emit(self._sentences.rule() + self._sentences.row(cells) + "\n")
        else:
            show_totals(total, sentences, self.shown)
        emit(_per_unit(total, self.shown, self._console) + "\n")
        show(*footnotes(total, self.shown))

    def _sum_cells(self, name: str, text: str, score: ScoreSum) -> list[Cell]:
        shown = self.shown
        without = f"\n({figure(score.perplexity_without_unknown)})" if score.unknown else ""
        cells = [
            Cell("line", 4, name, "label"),
            Cell("text", None, text, right=False),
            Cell(shown.log_name, 9, fixed(shown.log(score.log_prob), 2)),
            Cell("tokens", 6, count(score.tokens)),
            Cell("unk", 3, count(score.unknown), "unknown" if score.unknown else "faint"),
            Cell(shown.label("perplexity"), 10, figure(score.perplexity) + without),
        ]
        if not shown.pseudo:
            style = "" if score.comparable else "warning"
            cells.append(Cell(BITS_PER_CHARACTER, 9, bits_per_character(score), style))
        return cells

    def _part_rows(self) -> Rows:
        return Rows(self._part_cells(PartScore("", "", 0.0), 0), self._console, indent=2)

    def _part_cells(self, part: PartScore, room: int) -> list[Cell]:
        """A row of the table of parts. room: the columns for the bar of surprisal."""
        shown, level = self.shown, self.shown.level
        length = min(1.0, part.surprisal / _BAR_BITS) * min(_LONGEST_BAR, room)
        unknown = "unknown" if part.unknown else ""
        cells = (
            Cell(level, _PART_WIDTHS.get(level, 0), part_name(part), unknown, right=False),
            Cell("id", 5, "" if part.id is None else str(part.id), "label"),
            Cell(shown.log_name, 8, fixed(shown.log(part.log_prob), 3)),
            Cell(shown.label("bits"), 7, fixed(part.surprisal, 3)),
            Cell("rank", 6, "" if part.rank is None else count(part.rank)),
            Cell("entropy", 7, "" if part.entropy is None else fixed(part.entropy, 3)),
            Cell("", None, "▇" * round(length), unknown or "accent", right=False),
        )
        return [cell for cell in cells if cell.name not in self._hidden]


def show_totals(total: ScoreSum, sentences: int, shown: Shown) -> None:
    """Show the totals as a line under a heading."""
    heading = Text.assemble(("all  ", "label"), (sentence_count(sentences), "heading"))
    show(heading, sum_line(total, shown), "")


def sum_line(score: ScoreSum, shown: Shown) -> Text:
    """A row of the table of sentences as one line."""
    without = f" ({figure(score.perplexity_without_unknown)})" if score.unknown else ""
    line = Text.assemble(
        (f"  {shown.log_name} ", "label"),
        f"{fixed(shown.log(score.log_prob), 3)}  {count(score.tokens)}",
        (f" token{'' if score.tokens == 1 else 's'}", "label"),
        (f" ({count(score.unknown)} unk)" if score.unknown else "", "unknown"),
        (f"  {shown.label('perplexity')} ", "label"),
        f"{figure(score.perplexity)}{without}",
    )
    if not score.pseudo:
        line.append(f"  {bits_per_character(score)}").append(f" {BITS_PER_CHARACTER}", "label")
    return line


def _per_unit(total: ScoreSum, shown: Shown, console: Console) -> str:
    """The sum per token, word, character and byte, to compare models with different tokens."""
    units = {"token": total.tokens}
    if not shown.pseudo:
        units |= {"word": total.words, "character": total.characters, "byte": total.bytes}
    rows = []
    for unit, number in units.items():
        mark = " " if unit == "token" or total.comparable else "*"
        each = total.log_prob / number if number else math.nan
        row = [
            Cell("", 13, f"per {unit}", "label", right=False),
            Cell("count", 9, count(number)),
            Cell(shown.log_name, 8, fixed(shown.log(each), 3)),
            Cell(shown.label("perplexity"), 11, figure(metrics.perplexity(-each)) + mark),
        ]
        rows.append(row if console.width >= _ROOM_FOR_COUNTS else [row[0], *row[2:]])
    table = Rows(rows[0], console)
    return table.names() + "".join(map(table.row, rows))


def footnotes(total: ScoreSum, shown: Shown) -> Sequence[Text]:
    """Notes on the figures."""
    unit = {"e": " (nats)", "2": " (bits)"}.get(shown.base_name, "")
    basis = f"Logarithms are to base {shown.base_name}{unit}."
    basis += " Each sentence's <EOS> is counted." if shown.eos else " <EOS> is not counted."
    if shown.level != "sentence" and not shown.pseudo:
        basis += f" A {shown.level}'s bits are its surprisal, -log2 p."
    notes = [(basis, "label")]
    if shown.pseudo:
        given = "Tokens are predicted from both sides: the sums are not probabilities of a text."
        notes.append((given, "label"))
    if total.unknown:
        many = f"{count(total.unknown)} unknown token{'s' if total.unknown != 1 else ''}"
        notes.append(("( ) without the unknown tokens, which are <UNK>.", "warning"))
        if total.comparable and not total.pseudo:
            spelled = f"The spelling of {many} is in the figures: they are comparable."
            notes.append((spelled, "label"))
        elif not total.pseudo:
            unlike = f"* not comparable between models: without the spelling of {many}."
            notes.append((unlike, "warning"))
    return [Text(*each) for each in notes]


def comparison(first: ScoreSum, second: ScoreSum, shown: Shown) -> Text:
    """Which of two texts is more probable and by how much: in the base, and as odds."""
    difference = first.log_prob - second.log_prob
    if difference == 0:
        return Text("Both are equally likely.")
    name = "first" if difference > 0 else "second"
    by = fixed(shown.log(abs(difference)), 2)
    greater = f": its {shown.log_name} is greater by {by}."
    if shown.pseudo:
        return Text(f"The {name} fits better{greater}", "good")
    ratio = abs(difference)
    odds = (
        figure(math.exp(ratio), 3)
        if ratio < math.log(1e9)
        else f"about 10^{ratio / math.log(10):.0f}"
    )
    compared = Text.assemble((f"The {name} is {odds} times likelier", "good"), greater)
    if not (first.comparable and second.comparable):
        unlike = "\nUnknown tokens stand for anything unseen: compare with care."
        compared.append(unlike, "warning")
    return compared


PALETTE = ("#fdca26", "#fb9f3a", "#ed7953", "#d8576b", "#bd3786", "#9c179e", "#7201a8")
"""Backgrounds, the least surprising first: "plasma" of van der Walt and Smith, backwards.

Even steps to the eye, colour-blind or not, each a little darker than the one before. None is lost
on a black or a white terminal; what is less surprising than the first has no background.
"""

_LIGHT = 4  # the first of them have black letters, the rest white ones
_STYLES = tuple(
    Style(bgcolor=colour, color="#000000" if number < _LIGHT else "#ffffff")
    for number, colour in enumerate(PALETTE)
)


class HeatMapScores(ScoreWriter):
    r"""Sentences in colour, the figures under each, and a legend with the scale in bits.

    Without colours, a part's bits follow it, as in ``the‹3.1› cat‹9.8›``; off a terminal each
    sentence is one line. What is unknown is underlined, or has a ``*`` after its bits.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        console = out_console()
        self._in_colour = console.color_system is not None and not console.no_color
        self._wraps = console.is_terminal
        self._step = 1 if shown.level == "character" else 2

    def sentence(self, score: SentenceScore) -> None:
        text = Text.assemble((f"{score.line}  ", "label"), no_wrap=not self._wraps)
        for part in score.parts or ():
            text.append_text(self._painted(part))
        show(text, sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        show_totals(total, sentences, self.shown)
        show(self._legend(unknown=bool(total.unknown)), *footnotes(total, self.shown))

    def _painted(self, part: PartScore) -> Text:
        """The text of a part, or its name if it has none in the sentence, such as ``<EOS>``."""
        span = escaped(part.span, keep="\n\t")
        shown = span.lstrip() or span
        space = span[: len(span) - len(shown)]
        if part.ends or not span:
            space, shown = span or " " * part.ends, part_name(part)
        if not self._in_colour:
            bits = f"‹{fixed(part.surprisal, 1)}{'*' if part.unknown else ''}›"
            if shown.isspace():
                return Text.assemble(visible(shown), (bits, "label"), "\n" * shown.count("\n"))
            return Text.assemble(space, shown, (bits, "label"))
        style = self._style(part.surprisal) + Style(underline=part.unknown or None)
        return Text.assemble(space, (shown, style))

    def _style(self, bits: float) -> Style:
        step = int(min(bits / self._step, len(_STYLES)))
        return _STYLES[step - 1] if step else Style()

    def _legend(self, *, unknown: bool) -> Text:
        level = self.shown.level
        if not self._in_colour:
            return Text(f"‹ › has the bits of the {level} before it.", style="label")
        legend = Text.assemble((f"bits per {level}  ", "label"), f"below {self._step} ")
        for number, style in enumerate(_STYLES, start=1):
            least = number * self._step
            last = number == len(_STYLES)
            legend.append(f" {least}+ " if last else f" {least}–{least + self._step} ", style)
        if unknown:
            legend.append("\nWhat is unknown is underlined.", "label")
        return legend
