"""Scores for people: a table, and a heat map of the text coloured by surprisal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

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
from textgen.presentation.numbers import BITS_PER_CHARACTER, count, figure, fixed, times
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

Cell = str | tuple[str, str]
"""The content of a column in a row: text, or text and its style."""

_GAP = 2
_BAR_BITS = 16.0
_LONGEST_BAR, _SHORTEST_BAR = 20, 10
_PART_WIDTHS = {"word": 16, "token": 12, "character": 9}
_ROOM_FOR_COUNTS = 48  # columns


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        width: In cells, at least; None for the one column that takes the rest and wraps in it.
        least: If the rest is less than this, each row is written as a paragraph instead.
    """

    name: str
    width: int | None = None
    right: bool = True
    least: int = 0


class Columns:
    """Rows under a header, ``indent`` cells from the left, in columns of fixed width.

    The widths are known before the first row. A row is a string, escape codes included: laying
    out tens of thousands of them one by one with rich would be slow.
    """

    def __init__(self, columns: Sequence[Column], console: Console, *, indent: int = 0) -> None:
        self._columns, self._console, self._indent = columns, console, indent
        widths = [each.width and max(each.width, len(each.name)) for each in columns]
        taken = sum(each or 0 for each in widths) + _GAP * (len(columns) - 1)
        self.room = max(0, console.width - indent - taken)
        self._widths = [self.room if each is None else each for each in widths]
        self._stacked = any(each.width is None and self.room < each.least for each in columns)
        self._codes: dict[str, tuple[str, str]] = {}

    def header(self) -> str:
        return "" if self._stacked else self.names() + self.rule()

    def names(self) -> str:
        return self._lines([(each.name, "label") for each in self._columns])

    def rule(self) -> str:
        line = "─" * (self._console.width - self._indent)
        return " " * self._indent + self._painted(line, "faint") + "\n"

    def row(self, *cells: Cell) -> str:
        """One row; a cell of several lines makes it several lines high."""
        pairs = [(each, "") if isinstance(each, str) else each for each in cells]
        return self._paragraph(pairs) if self._stacked else self._lines(pairs)

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
        self._sentences = Columns(
            (
                Column("line", 4),
                Column("text", right=False, least=20),
                Column(shown.log_name, 9),
                Column("tokens", 6),
                Column("unk", 3),
                Column(shown.label("perplexity"), 10),
                *([] if shown.pseudo else [Column(BITS_PER_CHARACTER, 9)]),
            ),
            self._console,
        )
        self._wide = True
        self._parts = self._part_columns()
        if self._parts.room < _SHORTEST_BAR:
            self._wide = False
            self._parts = self._part_columns()

    def begin(self) -> None:
        if self.shown.level == "sentence":
            emit(self._sentences.header())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), escaped(score.text)
        if self.shown.level == "sentence":
            emit(self._sentence_row(name, text, score))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        emit(self._parts.header())
        for part in score.parts or ():
            emit(self._part_row(part))
        show(sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            row = self._sentence_row("all", sentence_count(sentences), total)
            emit(self._sentences.rule() + row + "\n")
        else:
            show(total_line(sentences), sum_line(total, self.shown), "")
        emit(_per_unit(total, self.shown, self._console) + "\n")
        show(*footnotes(total, self.shown))

    def _sentence_row(self, name: str, text: str, score: ScoreSum) -> str:
        without = f"\n({figure(score.perplexity_without_unknown)})" if score.unknown else ""
        bits = bits_per_character(score), "" if score.comparable else "warning"
        return self._sentences.row(
            (name, "label"),
            text,
            fixed(self.shown.log(score.log_prob), 2),
            count(score.tokens),
            (count(score.unknown), "unknown" if score.unknown else "faint"),
            figure(score.perplexity) + without,
            *([] if self.shown.pseudo else [bits]),
        )

    def _part_columns(self) -> Columns:
        shown = self.shown
        is_token = shown.level == "token"
        columns = (
            Column(shown.level, _PART_WIDTHS.get(shown.level, 0), right=False),
            *([Column("id", 5)] if is_token else []),
            Column(shown.log_name, 8),
            Column(shown.label("bits"), 7),
            *([Column("rank", 6)] if is_token and self._wide else []),
            *([Column("entropy", 7)] if self._wide else []),
            Column("", right=False),
        )
        return Columns(columns, self._console, indent=2)

    def _part_row(self, part: PartScore) -> str:
        is_token = self.shown.level == "token"
        length = min(1.0, part.surprisal / _BAR_BITS) * min(_LONGEST_BAR, self._parts.room)
        id = "" if part.id is None else str(part.id)
        rank = "" if part.rank is None else count(part.rank)
        entropy = "" if part.entropy is None else fixed(part.entropy, 3)
        return self._parts.row(
            (part_name(part), "unknown" if part.unknown else ""),
            *([(id, "label")] if is_token else []),
            fixed(self.shown.log(part.log_prob), 3),
            fixed(part.surprisal, 3),
            *([rank] if is_token and self._wide else []),
            *([entropy] if self._wide else []),
            ("▇" * round(length), "unknown" if part.unknown else "accent"),
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
    has_room = console.width >= _ROOM_FOR_COUNTS
    columns = (
        Column("", 13, right=False),
        *([Column("count", 9)] if has_room else []),
        Column(shown.log_name, 8),
        Column(shown.label("perplexity"), 11),
    )
    table = Columns(columns, console)
    rows = [
        table.row(
            (f"per {unit}", "label"),
            *([count(number)] if has_room else []),
            fixed(shown.log(total.log_prob / number), 3),
            figure(metrics.perplexity(-total.log_prob / number))
            + (" " if unit == "token" or total.comparable else "*"),
        )
        for unit, number in units.items()
        if number
    ]
    return table.names() + "".join(rows)


def footnotes(total: ScoreSum, shown: Shown) -> Sequence[Text]:
    """Notes on the figures."""
    unit = {"e": " (nats)", "2": " (bits)"}.get(shown.base_name, "")
    basis = f"Logarithms are to base {shown.base_name}{unit}."
    basis += " Each sentence's <EOS> is counted." if shown.eos else " <EOS> is not counted."
    if shown.level != "sentence" and not shown.pseudo:
        basis += f" A {shown.level}'s bits are its surprisal, -log2 p."
    notes = [Text(basis, style="label")]
    if shown.pseudo:
        given = "Tokens are predicted from both sides: the sums are not probabilities of a text."
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


def comparison(first: ScoreSum, second: ScoreSum, shown: Shown) -> Text:
    """Which of two texts is more probable and by how much: in the base, as odds, and per token."""
    difference = first.log_prob - second.log_prob
    if difference == 0:
        return Text("Both are equally likely.")
    name, scores = "first", (first, second)
    if difference < 0:
        name, scores = "second", (second, first)
    by = fixed(shown.log(abs(difference)), 2)
    if shown.pseudo:
        return Text(f"The {name} fits better: its {shown.log_name} is greater by {by}.", "good")
    each = [fixed(shown.log(score.log_prob) / max(1, score.tokens), 3) for score in scores]
    tokens = [count(score.tokens) for score in scores]
    over = f"{tokens[0]} and {tokens[1]}" if tokens[0] != tokens[1] else f"{tokens[0]} each"
    compared = Text.assemble(
        (f"The {name} is {times(abs(difference))} times likelier", "good"),
        f": its {shown.log_name} is greater by {by}.\n"
        f"Per token its {shown.log_name} is {each[0]} and the other's {each[1]} (tokens: {over}).",
    )
    if not (first.comparable and second.comparable):
        unlike = "\nUnknown tokens stand for anything unseen: compare with care."
        compared.append(unlike, "warning")
    return compared


PALETTE = ("#fdca26", "#fb9f3a", "#ed7953", "#d8576b", "#bd3786", "#9c179e", "#7201a8")
"""Backgrounds, the least surprising first: "plasma" of van der Walt and Smith, backwards.

Even steps to the eye, colour-blind or not, and each a little darker than the one before. None is
near enough to black or to white to be lost on a terminal of that colour, and what is less
surprising than the first has the terminal's own colours. The order is that of weather warnings.
"""

_LIGHT = 4  # the first of them have black letters, the rest white ones
_STYLES = tuple(
    Style(bgcolor=colour, color="#000000" if number < _LIGHT else "#ffffff")
    for number, colour in enumerate(PALETTE)
)
_UNKNOWN = Style(underline=True)


class HeatMapScores(ScoreWriter):
    r"""Sentences in colour, the figures under each, and a legend with the scale in bits.

    A step of the scale is 2 bits, 1 for characters. Without colours, a part's bits follow it, as in
    ``the‹3.1› cat‹9.8›``; off a terminal each sentence is one line. What is unknown is
    underlined, or has a ``*`` after its bits. White space by itself is named where it has no
    colour: ``␣``, ``\n``.
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
        show(total_line(sentences), sum_line(total, self.shown), "")
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
        style = self._style(part.surprisal) + (_UNKNOWN if part.unknown else Style())
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
