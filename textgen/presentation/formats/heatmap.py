"""Scores for people: the text itself, coloured by how surprising each part of it is."""

from typing import ClassVar

from rich.style import Style
from rich.text import Text

from textgen.config import ScoreLevel
from textgen.presentation.console import out_console, show
from textgen.presentation.console import shown as escaped
from textgen.presentation.formats import ScoreWriter, Shown, part_name
from textgen.presentation.formats.table import footnotes, sum_line, total_line
from textgen.presentation.numbers import fixed
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

PALETTE = ("#fdca26", "#fb9f3a", "#ed7953", "#d8576b", "#bd3786", "#9c179e", "#7201a8")
"""Backgrounds, the least surprising first: "plasma" of van der Walt and Smith, backwards.

Even steps to the eye, colour-blind or not, and each a little darker than the one before. None is
near enough to black or to white to be lost on a terminal of that colour, and what is less
surprising than the first has the terminal's own colours. The order is that of weather warnings.
"""

_LIGHT = 4  # so many of them have black letters on them, the rest have white ones
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
        """A part as it stands in the text; the name of what has no place there, as ``<EOS>``."""
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
            return Text(f"‹ › holds the bits of the {level} before it.", style="label")
        legend = Text.assemble((f"bits of a {level}  ", "label"), f"below {self._step} ")
        for number, style in enumerate(_STYLES, start=1):
            least = number * self._step
            last = number == len(_STYLES)
            legend.append(f" {least}+ " if last else f" {least}–{least + self._step} ", style)
        if unknown:
            legend.append("\nWhat is unknown is underlined.", "label")
        return legend
