"""Line plots in a figure and in the terminal, and the style that all plots share.

Imports neither numpy nor torch nor, until a figure is made, matplotlib.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from textgen.presentation import terminal_plot
from textgen.presentation.console import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MapMethod = Literal["pca", "tsne"]
Row = Mapping[str, Any]
Point = tuple[float, float]
_Record = TypeVar("_Record")

WIDTH, HEIGHT = 12.0, 6.75  # inches: 16 to 9
GREY, LIGHT = "#5f6368", "#dfe1e5"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F5F3F")
"""Okabe and Ito (2008), distinct to the colour-blind; without yellow, which is faint on white."""

_MARKERS = "os^DvPX*"
MARK = "◇"
_ROOM = 0.035  # of an axis at each end, for the markers
_TERMINAL_STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red", "white", "bright_black")
TERMINAL_WIDTH, _TERMINAL_ROWS = 100, 12  # at most
_NOTE_CHARACTERS = 95  # as wide as the axes
_DOTS_PER_INCH = 160
_TICKS = {"color": GREY, "major.size": 0, "major.pad": 6}
_SETTINGS: Any = {
    "font.size": 15,
    "figure.titlesize": 21,
    "figure.titleweight": "bold",
    "axes.titlelocation": "left",
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in _TICKS.items()},
    "axes.titlesize": 16,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.02,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a text is a dollar sign
    "svg.hashsalt": "textgen",  # the same identifiers in a file each time
}


class Plot(Protocol):
    """What a command shows."""

    def figure(self) -> "Figure": ...

    def terminal(self, console: Console) -> RenderableType: ...

    def rows(self) -> Iterable[Row]: ...


@dataclass(frozen=True)
class Axis:
    """A quantity and its unit; without ticks or limits matplotlib chooses them."""

    name: str
    unit: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    limits: Point | None = None
    show: Callable[[float], str] = "{:g}".format

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})"

    def scaled(self, value: float) -> float:
        """The place of a value on the axis; nan if a logarithmic axis has none for it."""
        if not self.log:
            return value
        return math.log10(value) if value > 0 else math.nan

    def show_scaled(self, place: float) -> str:
        return self.show(10**place if self.log else place)

    def apply(self, axes: "Axes", name: Literal["x", "y"]) -> None:
        """Set up the x axis or the y axis of matplotlib."""
        from matplotlib.ticker import LogLocator, NullLocator

        drawn = axes.xaxis if name == "x" else axes.yaxis
        if self.log:
            axes.set(**{f"{name}scale": "log"})
            drawn.set_major_locator(LogLocator(numticks=8))
            drawn.set_minor_locator(NullLocator())
        if self.ticks:
            drawn.set_ticks(self.ticks)
        if self.limits:
            low, high = self.limits
            room = 0.0 if self.log else _ROOM * (high - low)
            axes.set(**{f"{name}lim": (low - room, high + room)})
        drawn.set_major_formatter(lambda value, _: self.show(value))


@dataclass(frozen=True)
class Line:
    """A line through points that are sorted by x.

    Attributes:
        name: In the legend and in the table of the terminal; empty: in neither.
        group: Lines of the same number have the same colour.
        faint: Whether it is thin, and behind the others.
        band: The lower and upper end of the uncertainty of each point.
        marks: Whether its points are marked by ``MARK``, and no line is drawn.
    """

    name: str
    points: tuple[Point, ...]
    group: int = 0
    faint: bool = False
    dashed: bool = False
    dots: bool = False
    band: tuple[Point, ...] = ()
    marks: bool = False

    @property
    def terminal_style(self) -> str:
        style = _TERMINAL_STYLES[self.group % len(_TERMINAL_STYLES)]
        return f"{style} dim" if self.faint else style

    def value_at(self, x: float) -> float:
        """The linear interpolation of the points; nan outside them."""
        for (x0, y0), (x1, y1) in pairwise(self.points[:1] + self.points):
            if x0 <= x <= x1:
                return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return math.nan


@dataclass(frozen=True)
class Panel:
    """Lines in one coordinate system. at: the values of x in the table of the terminal."""

    lines: Sequence[Line]
    at: Sequence[float]
    title: str = ""


@dataclass(frozen=True)
class LinePlot:
    """Panels of lines with the same axes. baseline: a value of y to compare with, and its name."""

    title: str
    x: Axis
    y: Axis
    panels: Sequence[Panel]
    numbers: Sequence[Row]
    note: str = ""
    baseline: tuple[float, str] | None = None

    def rows(self) -> Sequence[Row]:
        return self.numbers

    def figure(self) -> "Figure":
        """The panels side by side, with one legend."""
        across = min(len(self.panels), 3)
        down = math.ceil(len(self.panels) / across)
        with style():
            figure = new_figure(self.title, HEIGHT if down == 1 else 1.15 * HEIGHT)
            grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flatten()
            for number, (axes, panel) in enumerate(zip(grid, self.panels, strict=False)):
                self._draw(axes, panel)
                if number % across == 0:
                    axes.set_ylabel(str(self.y))
                if number + across >= len(self.panels):
                    axes.set_xlabel(str(self.x))
                    axes.tick_params(labelbottom=True)
            for axes in grid[len(self.panels) :]:
                axes.remove()
            handles: Any = grid[0].get_legend_handles_labels()
            if len(self.panels) == 1:
                set_note(grid[0], self.note)
                figure.legend(*handles, loc="outside right upper")
            else:
                figure.legend(*handles, loc="outside lower left", ncols=4)
                figure.supxlabel(self.note, x=0.985, ha="right", fontsize=13, color=GREY)
        return figure

    def _draw(self, axes: "Axes", panel: Panel) -> None:
        axes.grid(visible=True, axis="y")
        axes.set_title(panel.title, fontweight="bold")
        self.x.apply(axes, "x")
        self.y.apply(axes, "y")
        # The legend lists the lines in the order in which they end.
        for line in sorted(panel.lines, key=lambda each: [-y for _, y in each.points[-1:]]):
            colour = COLOURS[line.group % len(COLOURS)]
            xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
            if line.marks:
                axes.plot(
                    xs,
                    ys,
                    label="_",
                    color=colour,
                    linestyle="",
                    marker="D",
                    markersize=8,
                    markerfacecolor="white",
                    markeredgewidth=2,
                    zorder=2.2,
                )
                continue
            if line.band:
                low, high = zip(*line.band, strict=True)
                axes.fill_between(xs, low, high, color=colour, alpha=0.14, linewidth=0)
            axes.plot(
                xs,
                ys,
                label=line.name or "_",
                color=colour,
                linewidth=1.4 if line.faint else 2.8,
                alpha=0.45 if line.faint else 1.0,
                linestyle=(0, (4, 2)) if line.dashed else "-",
                marker=_MARKERS[line.group % len(_MARKERS)] if line.dots or len(xs) == 1 else "",
                markersize=8,
                markeredgecolor="white",
                zorder=2 if line.faint else 2.1,
            )
        if self.baseline is not None:
            y, label = self.baseline
            axes.axhline(y, label=label, color=GREY, linewidth=1.5, linestyle=":", zorder=1)

    def terminal(self, console: Console) -> RenderableType:
        """The panels one below another, each with a table of values."""
        parts: list[RenderableType] = [Text(shown(self.title), style="heading")]
        if self.note:
            parts.append(Text(shown(self.note), style="label"))
        parts.append(Text(f"{self.y} against {self.x}", style="label"))
        for panel in self.panels:
            if panel.title:
                parts += [Text(), Text(shown(panel.title), style="heading")]
            curves = [
                terminal_plot.Curve(
                    shown(line.name),
                    [(self.x.scaled(x), self.y.scaled(y)) for x, y in line.points],
                    line.terminal_style,
                    MARK if line.marks else "",
                )
                for line in sorted(panel.lines, key=lambda each: not each.faint)
            ]
            xs = [x for curve in curves for x, _ in curve.points if math.isfinite(x)]
            ys = [y for curve in curves for _, y in curve.points if math.isfinite(y)] or [0.0]
            if self.baseline is not None and xs:
                at, name = self.y.scaled(self.baseline[0]), self.baseline[1]
                ends = [(min(xs), at), (max(xs), at)]
                curves.insert(0, terminal_plot.Curve(shown(name), ends, "faint"))
            low, high = map(self.y.scaled, self.y.limits) if self.y.limits else (min(ys), max(ys))
            chart = terminal_plot.plot(
                curves,
                min(console.width, TERMINAL_WIDTH),
                _TERMINAL_ROWS,
                x_name=self.x.unit,
                show_x=self.x.show_scaled,
                show_y=self.y.show_scaled,
                y_range=(low, high),
                names_beside=True,
            )
            parts += [chart] if chart else []
            table = new_table(self.x.name, *map(self.x.show, panel.at))
            for line in panel.lines:
                if line.name:
                    key = ("─ " if in_colour(console) else "", line.terminal_style)
                    values = [line.value_at(x) for x in panel.at]
                    cells = ("–" if math.isnan(value) else self.y.show(value) for value in values)
                    table.add_row(Text.assemble(key, shown(line.name)), *cells)
            parts.append(table)
        return Group(*parts)


def lines_of(
    measured: Mapping[str, Sequence[_Record]],
    point: Callable[[_Record], tuple[float, float, float, float]],
    *,
    dots: bool = False,
) -> list[Line]:
    """A line for each checkpoint. point: x, y and the ends of the band of a record."""
    names = checkpoint_names(list(measured))
    lines = []
    for group, (name, records) in enumerate(zip(names, measured.values(), strict=True)):
        points = [point(each) for each in records]
        xys, band = tuple(each[:2] for each in points), tuple(each[2:] for each in points)
        lines.append(Line(name, xys, group, dots=dots, band=band))
    return lines


def rows_of(measured: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The records (dataclasses) of all checkpoints as rows."""
    return [
        {"checkpoint": checkpoint, **asdict(each)}
        for checkpoint, records in measured.items()
        for each in records
    ]


def checkpoint_names(paths: Sequence[str]) -> list[str]:
    """A short name for each checkpoint: that of its folder, with parents where two are equal.

    >>> checkpoint_names(["runs/lstm/best", "runs/rnn/"]), checkpoint_names(["a/x", "b/x"])
    (['lstm', 'rnn'], ['a/x', 'b/x'])
    """
    parts = [PurePosixPath(path.replace("\\", "/")).parts for path in paths]
    parts = [each[:-1] if each[1:] and each[-1] in ("best", "last") else each for each in parts]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(paths, start=1)]


def in_colour(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def new_table(*columns: str) -> Table:
    """A table with numbers in all columns but the first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="label")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


@contextmanager
def style() -> Iterator[None]:
    """Figures that are made or written in this block have the style of the project."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(title: str, height: float = HEIGHT) -> "Figure":
    """An empty figure, not bound to a display."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    figure.suptitle(title, x=0.15 / WIDTH, ha="left")
    return figure


def set_note(axes: "Axes", note: str) -> None:
    """Small lines below the title."""
    axes.set_title(textwrap.fill(note, _NOTE_CHARACTERS), fontsize=14, color=GREY)


def rendered(figure: "Figure", suffix: str) -> bytes:
    """The bytes of a ``.png`` or ``.svg`` file; the same for the same figure."""
    stream = io.BytesIO()
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with style():
        figure.savefig(stream, format=suffix[1:], dpi=_DOTS_PER_INCH, metadata=metadata)
    return stream.getvalue()
