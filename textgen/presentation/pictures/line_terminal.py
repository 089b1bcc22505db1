"""Pictures of lines in the terminal: Braille dots, and a table of some of their points."""

import math
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import out_console, shown
from textgen.presentation.pictures.lines import Axis, Line, LinePicture, drawable, value_at
from textgen.presentation.plots import Curve, Labels, plot

_STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red", "white", "bright_black")
_WIDEST, _ROWS = 100, 12


def line_terminal(pictures: Sequence[LinePicture], width: int) -> RenderableType:
    """The pictures one under another, for a terminal of this width."""
    console = out_console()
    in_colour = console.color_system is not None and not console.no_color
    parts: list[RenderableType] = []
    for picture in pictures:
        parts += [*_picture(picture, min(width, _WIDEST), in_colour=in_colour), Text()]
    return Group(*parts[:-1])


def _picture(picture: LinePicture, width: int, *, in_colour: bool) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(shown(picture.title), style="heading")]
    if picture.note:
        parts.append(Text(shown(picture.note), style="label"))
    parts.append(Text(f"{picture.y.label}, over {picture.x.label}", style="label"))
    curves = [
        Curve("" if line.faint else shown(line.name), _scaled(line, picture), _style(line))
        for line in sorted(picture.lines, key=lambda each: not each.faint)
    ]
    labels = Labels(_tick(picture.x), _tick(picture.y))
    drawn = plot(
        curves,
        width,
        _ROWS,
        x_name=picture.x.unit or picture.x.name,
        labels=labels,
        names_beside=True,
        whole=picture.y.log or not picture.faint,
    )
    if drawn:
        parts.append(drawn)
    return [*parts, _table(picture, in_colour=in_colour)]


def _style(line: Line) -> str:
    return _STYLES[line.group % len(_STYLES)] + (" dim" if line.faint else "")


def _scaled(line: Line, picture: LinePicture) -> list[tuple[float, float]]:
    return [
        (math.log10(x) if picture.x.log else x, math.log10(y) if picture.y.log else y)
        for x, y in drawable(line, picture)
    ]


def _tick(axis: Axis) -> Callable[[float], str]:
    return (lambda value: axis.shown(10**value)) if axis.log else axis.shown


def _row_name(line: Line, picture: LinePicture) -> str:
    """What a faint line is stands after whose it is, unless there is only one."""
    several = line.faint and line.name != picture.faint
    return f"{line.name}, {picture.faint}" if several else line.name


def _table(picture: LinePicture, *, in_colour: bool) -> Table:
    """The height of each line at some values of x."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="label")
    table.add_column(picture.x.label)
    for x in picture.at:
        table.add_column(picture.x.shown(x), justify="right")
    for line in picture.lines:
        points = drawable(line, picture)
        name = Text(shown(_row_name(line, picture)))
        if not line.name:
            continue
        key = "─ " if in_colour else ""
        values = [value_at(points, x) for x in picture.at]
        table.add_row(
            Text.assemble((key, _style(line)), name),
            *("–" if math.isnan(value) else picture.y.shown(value) for value in values),
        )
    return table
