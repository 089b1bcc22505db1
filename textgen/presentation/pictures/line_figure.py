"""Pictures of lines by matplotlib."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textgen.presentation.pictures.lines import Axis, Line, LinePicture, drawable
from textgen.presentation.pictures.style import (
    GREY,
    HEIGHT,
    INK,
    MARKERS,
    colour,
    new_figure,
    quiet_grid,
    set_title,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_ACROSS = 3


def line_figure(pictures: Sequence[LinePicture], title: str = "", note: str = "") -> "Figure":
    """One picture, or several as panels with one legend and the same axes."""
    with styled():
        across = min(len(pictures), _PANELS_ACROSS)
        down = math.ceil(len(pictures) / across)
        figure = new_figure(HEIGHT if down < 2 else 1.15 * HEIGHT)
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flatten()
        for number, (axes, picture) in enumerate(zip(grid, pictures, strict=False)):
            _draw(axes, picture)
            if number + across < len(pictures):
                axes.set_xlabel("")
            if number % across:
                axes.set_ylabel("")
            if len(pictures) > 1:
                axes.set_title(picture.title, loc="left", fontsize=16, fontweight="bold")
                axes.tick_params(labelbottom=number + across >= len(pictures))
        for axes in grid[len(pictures) :]:
            axes.remove()
        if len(pictures) == 1:
            set_title(grid[0], pictures[0].title, pictures[0].note)
            _legend(grid[0], pictures[0])
        else:
            figure.suptitle(title, x=0.015, ha="left", fontsize=21, fontweight="bold")
            handles = _handles(pictures[0])
            figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
            if note:
                figure.supxlabel(note, x=0.985, ha="right", fontsize=13, color=GREY)
    return figure


def _draw(axes: "Axes", picture: LinePicture) -> None:
    for axis, name in ((picture.x, "x"), (picture.y, "y")):
        _set_axis(axes, axis, name)
    if picture.baseline is not None:
        axes.axhline(picture.baseline[0], color=GREY, linewidth=1.5, linestyle=(0, (2, 2)))
    for line in sorted(picture.lines, key=lambda each: not each.faint):
        _draw_line(axes, line, picture)
    quiet_grid(axes)
    axes.margins(x=0.02)


def _draw_line(axes: "Axes", line: Line, picture: LinePicture) -> None:
    ink = colour(line.group)
    if line.band:
        x, low, high = zip(*line.band, strict=True)
        axes.fill_between(x, low, high, color=ink, alpha=0.14, linewidth=0)
    points = drawable(line, picture)
    if not points:
        return
    x, y = zip(*points, strict=True)
    axes.plot(x, y, label=line.name, **_look(line, alone=len(points) == 1))


def _look(line: Line, *, alone: bool = False) -> dict[str, Any]:
    """How a line is drawn; a point that stands alone must be seen too."""
    return {
        "color": colour(line.group),
        "linewidth": 1.4 if line.faint else 2.8,
        "alpha": 0.45 if line.faint else 1.0,
        "linestyle": (0, (4, 2)) if line.dashed else "-",
        "marker": MARKERS[line.group % len(MARKERS)] if line.dots or alone else "",
        "markersize": 8,
        "markeredgecolor": "white",
        "solid_capstyle": "round",
    }


def _set_axis(axes: "Axes", axis: Axis, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    both = {"x": axes.xaxis, "y": axes.yaxis}[name]
    if axis.log:
        axes.set(**{f"{name}scale": "log"})
        both.set_major_locator(LogLocator(numticks=8))
        both.set_minor_locator(NullLocator())
    if axis.ticks:
        both.set_ticks(axis.ticks)
    if axis.limits:
        axes.set(**{f"{name}lim": axis.limits})
    both.set_major_formatter(FuncFormatter(lambda value, _: axis.shown(value)))
    both.set_label_text(axis.label)


def _legend(axes: "Axes", picture: LinePicture) -> None:
    """To the right, in the order in which the lines end, so that it also labels them."""
    legend = axes.legend(
        handles=_handles(picture),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        handlelength=1.8,
        labelspacing=0.7,
    )
    legend.set_in_layout(True)


def _handles(picture: LinePicture) -> list[Any]:
    from matplotlib.lines import Line2D

    def end(line: Line) -> float:
        points = drawable(line, picture)
        return points[-1][1] if points else -math.inf

    firm = sorted((each for each in picture.lines if not each.faint), key=end, reverse=True)
    handles = [Line2D([], [], label=each.name, **_look(each)) for each in firm if each.name]
    faint = [each for each in picture.lines if each.faint]
    if faint:
        one = len({each.group for each in faint}) == 1
        look = _look(faint[0]) | ({} if one else {"color": INK})
        handles.append(Line2D([], [], label=picture.faint, **look))
    if picture.baseline is not None:
        look = {"color": GREY, "linewidth": 1.5, "linestyle": (0, (2, 2))}
        handles.append(Line2D([], [], label=picture.baseline[1], **look))
    return handles
