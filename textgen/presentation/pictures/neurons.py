"""A text coloured by what one unit does: in the terminal, or as a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import out_console
from textgen.presentation.console import shown as escaped
from textgen.presentation.numbers import figure, fixed
from textgen.presentation.pictures.lines import checkpoint_names
from textgen.presentation.pictures.rows import Row
from textgen.presentation.pictures.style import GREY, WIDTH, styled
from textgen.results import Tracking, UnitTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEWLINE = "↵"
_WIDEST = 100
_COLUMNS, _MOST_LINES = 84, 20  # of a figure
_LOW = ("#b7d3ea", "#7fb2dc", "#3f86c0", "#12508a")
_HIGH = ("#fbd3b0", "#f5a86a", "#dd7422", "#9e4504")
"""Backgrounds, the weakest first; near zero there is none. Blue and orange, which everyone tells
apart; each a little darker than the one before."""

_STEPS = len(_LOW)
_BLACK_ON = 2  # so many of them have black letters on them
_LEVELS = {1: "123456789", -1: "abcdefghi"}  # without colours
_ADVANCE = 0.602  # the width of a letter of DejaVu Sans Mono, in its size
_LINE_INCHES = 0.31


@dataclass(frozen=True)
class _Cell:
    """A character and how active the unit was once its token was read, from -1 to 1."""

    character: str
    level: float


def traces_terminal(
    traces: Sequence[UnitTrace], found: Sequence[Tracking], width: int
) -> RenderableType:
    """What was found, and the text in the colours of each unit."""
    console = out_console()
    in_colour = console.color_system is not None and not console.no_color
    parts: list[RenderableType] = [_tracking_table(found), Text()] if found else []
    for each in traces:
        parts.append(Text(_heading(each), style="heading"))
        lines = _lines(each, min(width, _WIDEST))
        parts += [_coloured(line) for line in lines] if in_colour else _plain(lines)
        parts += [_legend(each, in_colour=in_colour), Text()]
    return Group(*parts[:-1])


def _tracking_table(found: Sequence[Tracking]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="label")
    table.add_column("the text's")
    table.add_column("unit")
    table.add_column("correlation", justify="right")
    before = ""
    for each in found:
        name = "" if each.feature == before else each.feature
        table.add_row(name, each.unit, f"{each.correlation:+.2f}")
        before = each.feature
    return table


def _heading(trace: UnitTrace) -> str:
    if trace.tracks is None:
        return trace.unit
    r = f"{trace.tracks.correlation:+.2f}".replace("-", "−")
    return f"{trace.unit}: {trace.tracks.feature} (r = {r})"


def _lines(trace: UnitTrace, columns: int) -> list[list[_Cell]]:
    """The text in lines that are no wider than so many columns."""
    lines: list[list[_Cell]] = [[]]
    taken = 0
    for activation in trace.activations:
        level = max(-1.0, min(1.0, activation.value / trace.largest)) if trace.largest else 0.0
        for character in escaped(activation.text, keep="\n").replace("\n", NEWLINE):
            if taken + cell_len(character) > columns:
                lines.append([])
                taken = 0
            lines[-1].append(_Cell(character, level))
            taken += cell_len(character)
            if character == NEWLINE:
                lines.append([])
                taken = 0
    return [line for line in lines if line]


def _coloured(line: Sequence[_Cell]) -> Text:
    text = Text(no_wrap=True)
    for cell in line:
        text.append(cell.character, _style(cell.level))
    return text


def _style(level: float) -> Style:
    step = _step(level)
    if not step:
        return Style()
    ink = "#000000" if abs(step) <= _BLACK_ON else "#ffffff"
    return Style(color=ink, bgcolor=(_HIGH if step > 0 else _LOW)[abs(step) - 1])


def _step(level: float) -> int:
    """From -4 to 4; 0 is within a ninth of nothing."""
    return round(level * (_STEPS + 0.49))


def _plain(lines: Sequence[Sequence[_Cell]]) -> list[RenderableType]:
    """Each line of the text, and under it a digit or a letter for how active the unit is."""
    drawn: list[RenderableType] = []
    for line in lines:
        text, under = "", ""
        for cell in line:
            strength = round(abs(cell.level) * 9)
            mark = _LEVELS[1 if cell.level > 0 else -1][strength - 1] if strength else " "
            text += cell.character
            under += mark * cell_len(cell.character)
        drawn += [Text(text, no_wrap=True), Text(under, style="label", no_wrap=True)]
    return drawn


def _legend(trace: UnitTrace, *, in_colour: bool) -> Text:
    end = figure(trace.largest, 2)
    if not in_colour:
        said = f"Under each line: 1 to 9 up to {end} or more, a to i down to -{end} or less."
        return Text(said, style="label")
    legend = Text(f"-{end} ", style="label")
    for step in range(-_STEPS, _STEPS + 1):
        legend.append("   ", _style(step / (_STEPS + 0.49)))
    return legend.append(f" {end}  the unit's value", "label")


def traces_figure(traces: Sequence[UnitTrace]) -> "Figure":
    """A panel of text for each unit, and one scale of colours."""
    from matplotlib.figure import Figure

    (name,) = checkpoint_names([traces[0].checkpoint])
    panels = [_lines(each, _COLUMNS)[: _MOST_LINES // len(traces)] for each in traces]
    title = "Cells that keep track" if traces[0].tracks else f"What {traces[0].unit} does"
    heights = [len(lines) * _LINE_INCHES for lines in panels]
    gap, top, bottom = 0.72, 0.35, 1.0
    height = top + sum(heights) + gap * len(panels) + bottom
    with styled():
        whole = Figure(figsize=(WIDTH, height))
        whole.text(0.03, 1 - 0.2 / height, f"{title}: {name}", fontsize=21, fontweight="bold",
                   va="top")  # fmt: skip
        edge = height - top
        for each, lines, inches in zip(traces, panels, heights, strict=True):
            edge -= gap + inches
            axes = whole.add_axes((0.03, edge / height, 0.94, inches / height))
            if each.tracks:
                axes.set_title(_heading(each), loc="left", fontsize=16, pad=8)
            _draw_text(axes, lines)
        _draw_scale(whole.add_axes((0.05, 0.55 / height, 0.36, 0.18 / height)), traces)
    return whole


def _draw_text(axes: "Axes", lines: Sequence[Sequence[_Cell]]) -> None:
    from matplotlib.patches import Rectangle

    axes.set(xlim=(0, _COLUMNS), ylim=(len(lines), 0))
    axes.axis("off")
    size = 0.94 * WIDTH * 72 / _COLUMNS / _ADVANCE
    for row, line in enumerate(lines):
        column = 0
        for cell in line:
            width, ground = cell_len(cell.character), _ground(cell.level)
            axes.add_patch(Rectangle((column, row), width, 1, color=ground, linewidth=0))
            axes.text(
                column + width / 2,
                row + 0.52,
                cell.character,
                fontsize=size,
                family="monospace",
                ha="center",
                va="center_baseline",
                color="white" if _is_dark(ground) else "black",
            )
            column += width


def _ground(level: float) -> tuple[float, float, float]:
    """The background of a level from -1 to 1: between white and the darkest of its colour."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = [*reversed(_LOW), "#ffffff", *_HIGH]
    red, green, blue, _ = LinearSegmentedColormap.from_list("unit", colours)((level + 1) / 2)
    return float(red), float(green), float(blue)


def _is_dark(ground: tuple[float, float, float]) -> bool:
    red, green, blue = ground
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def _draw_scale(axes: "Axes", traces: Sequence[UnitTrace]) -> None:
    """What the colours mean. Each unit has a scale of its own, up to what it seldom exceeds."""
    steps = 64
    axes.imshow(
        [[_ground(2 * step / (steps - 1) - 1) for step in range(steps)]],
        aspect="auto",
        extent=(-1, 1, 0, 1),
    )
    ends: Any = ("−max", "0", "max")
    if len(traces) == 1:
        end = fixed(traces[0].largest, 2)
        ends = (f"−{end}", "0", end)
    axes.set_xticks([-1, 0, 1], ends)
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=13)
    axes.spines[:].set_visible(False)
    said = "the unit's value once a token is read"
    if len(traces) > 1:
        said += "; max: of each unit its own"
    axes.text(1.06, 0.5, said, va="center", fontsize=13, color=GREY)


def trace_rows(traces: Sequence[UnitTrace]) -> Iterator[Row]:
    for each in traces:
        for place, activation in enumerate(each.activations):
            yield {
                "unit": each.unit,
                "tracks": each.tracks and each.tracks.feature,
                "correlation": each.tracks and each.tracks.correlation,
                "place": place,
                "text": activation.text,
                "value": activation.value,
            }


def tracking_rows(found: Sequence[Tracking]) -> Iterator[Row]:
    for each in found:
        yield {"feature": each.feature, "unit": each.unit, "correlation": each.correlation}
