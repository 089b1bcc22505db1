"""Scores for people: a table, and a heat map of the text coloured by surprisal."""

import bisect
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from textgen import metrics
from textgen.config import ScoreLevel
from textgen.presentation.console import Drawn, emit, laid_out, out_console, show
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

    def names(self) -> Drawn:
        names = (
            each.name if each.width is not None or len(each.name) <= self.room else ""
            for each in self._first
        )
        pairs = zip(self._first, names, strict=True)
        return self.row([each._replace(text=name, style="label") for each, name in pairs])

    def rule(self) -> Drawn:
        line = "─" * (self._console.width - self._indent)
        return Drawn(" " * self._indent + self._painted(line, "faint") + "\n")

    def row(self, cells: Sequence[Cell]) -> Drawn:
        """One row; a cell of several lines makes it several lines high."""
        rows = []
        for texts in zip_longest(*map(self._lines, cells), fillvalue=""):
            line = []
            for cell, width, text in zip(cells, self._widths, texts, strict=True):
                space, painted = " " * (width - cell_len(text)), self._painted(text, cell.style)
                line.append(space + painted if cell.right else painted + space)
            rows.append(" " * self._indent + (" " * _GAP).join(line))
        return Drawn("".join(row.rstrip(" ") + "\n" for row in rows))

    def _lines(self, cell: Cell) -> list[str]:
        text = escaped(cell.text, keep="\n")
        if cell.width is not None or cell_len(text) <= self.room:
            return text.split("\n")
        return [line.plain.rstrip(" ") for line in Text(text).wrap(self._console, self.room)]

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

    What is unknown is marked ``(unk)``, and a bar that is cut ends in ``»``. The rank and entropy
    of a part are shown where the width allows. Where it does not allow a table of sentences, the
    figures of each are a line below it.
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
            self._hidden |= {"rank", "entropy", "1st-token entropy"}
            self._parts = self._part_rows()

    def begin(self) -> None:
        if self._in_rows:
            emit(self._sentences.names(), self._sentences.rule())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), escaped(score.text)
        if self._in_rows:
            emit(self._sentences.row(self._sum_cells(name, text, score)))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        if self.shown.level != "sentence":
            emit(self._parts.names(), self._parts.rule())
            for part in score.parts or ():
                emit(self._parts.row(self._part_cells(part, self._parts.room)))
        show(sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self._in_rows:
            cells = self._sum_cells("all", sentence_count(sentences), total)
            emit(self._sentences.rule(), self._sentences.row(cells), "\n")
        else:
            show_totals(total, sentences, self.shown)
        emit(*_per_unit(total, self.shown, self._console), "\n")
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
        longest, unknown = min(_LONGEST_BAR, room), "unknown" if part.unknown else ""
        name = part_name(part) + (" (unk)" if part.unknown else "")
        bar = "▇" * round(min(1.0, part.surprisal / _BAR_BITS) * longest)
        if part.surprisal > _BAR_BITS:
            bar = bar[:-1] + "»"
        # The distribution is one over tokens, of which a word may have several.
        entropy = "1st-token entropy" if level == "word" else "entropy"
        cells = (
            Cell(level, _PART_WIDTHS.get(level, 0), name, unknown, right=False),
            Cell("id", 5, "" if part.id is None else str(part.id), "label"),
            Cell(shown.log_name, 8, fixed(shown.log(part.log_prob), 3)),
            Cell(shown.label("bits"), 7, fixed(part.surprisal, 3)),
            Cell("rank", 6, "" if part.rank is None else count(part.rank)),
            Cell(entropy, 7, "" if part.entropy is None else fixed(part.entropy, 3)),
            Cell(f"to {_BAR_BITS:g} bits", None, bar, unknown or "accent", right=False),
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


def _per_unit(total: ScoreSum, shown: Shown, console: Console) -> Sequence[Drawn]:
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
    return table.names(), *map(table.row, rows)


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


PALETTE = ("#72625c", "#8c5f4a", "#a35a38", "#b65325", "#c54b0e")
"""Backgrounds, the least surprising first: of about one lightness, grey to orange.

So on a dark terminal as on a light one, colour-blind or not, the more surprising stands out more.
What is less surprising than the first has no background.
"""

_STYLES = tuple(Style(bgcolor=colour, color="#ffffff") for colour in PALETTE)
_QUANTILES = (0.5, 0.65, 0.8, 0.9, 0.97)
"""The shares of the parts of a text that are less surprising than each colour."""

_MOST_WAITING = 4096  # parts, from which the scale is taken
_FIXED_EDGES: Mapping[ScoreLevel, Sequence[float]] = {"character": (2, 3, 4, 6, 8)}
_WIDE_EDGES = (4, 8, 12, 16, 20)


class HeatMapScores(ScoreWriter):
    r"""Sentences in colour, the figures under each, and a legend with the scale in bits.

    The scale is of the text: its less surprising half has no colour. Of a text that arrives on
    stdin, whose sentences do not wait, it is fixed. Without colours, a part's bits follow it, as in
    ``the‹3.1› cat‹9.8›``; off a terminal each sentence is one line. What is unknown is underlined,
    or has ``unk`` after its bits.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        console = out_console()
        self._in_colour = console.color_system is not None and not console.no_color
        self._wraps = console.is_terminal
        self._waiting: list[SentenceScore] = []
        self._waiting_bits: list[float] = []
        self._edges: Sequence[float] = _FIXED_EDGES.get(shown.level, _WIDE_EDGES)
        self._waits = self._in_colour and not shown.at_once
        self._all_waited = True

    def sentence(self, score: SentenceScore) -> None:
        if not self._waits:
            self._show(score)
            return
        self._waiting.append(score)
        self._waiting_bits += [part.surprisal for part in score.parts or ()]
        if len(self._waiting_bits) >= _MOST_WAITING:
            self.flush()
            self._all_waited = False

    def flush(self) -> None:
        if self._waits:
            self._waits, self._edges = False, scale(self._waiting_bits)
            for score in self._waiting:
                self._show(score)
            self._waiting.clear()

    def end(self, total: ScoreSum, sentences: int) -> None:
        self.flush()
        show_totals(total, sentences, self.shown)
        show(self._legend(unknown=bool(total.unknown)), *footnotes(total, self.shown))

    def _show(self, score: SentenceScore) -> None:
        text = Text.assemble((f"{score.line}  ", "label"), no_wrap=not self._wraps)
        for part in score.parts or ():
            text.append_text(self._painted(part))
        show(text, sum_line(score, self.shown), "")

    def _painted(self, part: PartScore) -> Text:
        """The text of a part, or its name if it has none in the sentence, such as ``<EOS>``."""
        span = escaped(part.span, keep="\n\t")
        shown = span.lstrip() or span
        space = span[: len(span) - len(shown)]
        if part.ends or not span:
            space, shown = span or " " * part.ends, part_name(part)
        if not self._in_colour:
            bits = f"‹{fixed(part.surprisal, 1)}{' unk' if part.unknown else ''}›"
            if shown.isspace():
                return Text.assemble(visible(shown), (bits, "label"), "\n" * shown.count("\n"))
            return Text.assemble(space, shown, (bits, "label"))
        style = self._style(part.surprisal) + Style(underline=part.unknown or None)
        return Text.assemble(space, (shown, style))

    def _style(self, bits: float) -> Style:
        step = bisect.bisect_left(self._edges, bits)
        return _STYLES[step - len(self._edges) - 1] if step else Style()

    def _legend(self, *, unknown: bool) -> Text:
        level, edges = self.shown.level, self._edges
        if not self._in_colour:
            marks = f"‹ › has the bits of the {level} before it."
            return Text(marks + " unk: unknown to the model." * unknown, style="label")
        legend = Text(f"bits per {level}  ", "label")
        for lower, upper in pairwise((None, *edges, None)):
            over, to = (None if each is None else f"{each:g}" for each in (lower, upper))
            between = f"{over}–{to}" if over and to else f"over {over}" if over else f"up to {to}"
            legend.append(f" {between} ", Style() if lower is None else self._style(lower + 1e-9))
        if not self.shown.at_once:
            first = f"the first {count(_MOST_WAITING)} {level}s of " * (not self._all_waited)
            least, most = round(100 * _QUANTILES[0]), round(100 * (1 - _QUANTILES[-1]))
            own = f"\nThe scale is that of {first}this text: {least} % have no colour,"
            legend.append(f"{own} the most surprising {most} % the last.", "label")
        if unknown:
            legend.append("\nWhat is unknown is underlined.", "label")
        return legend


def scale(bits: Sequence[float]) -> Sequence[float]:
    """Where each colour begins, so that some surprisals are spread over all of them.

    Each is rounded up to a tenth; those that fall together are one.
    """
    finite = sorted(each for each in bits if math.isfinite(each))
    places = [finite[int(share * (len(finite) - 1))] for share in _QUANTILES] if finite else []
    return sorted({math.ceil(10 * each) / 10 for each in places})
