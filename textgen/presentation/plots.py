"""Curves drawn with Braille dots: two across and four down in every character."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from textgen.presentation.numbers import fixed, rounded

Point = tuple[float, float]

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column]
_SCALE_WIDTH = 7
_ROWS_FOR_MIDDLE = 12  # from which on a third value stands beside the scale


@dataclass(frozen=True)
class Curve:
    """Points from left to right, and the style they are drawn in."""

    name: str
    points: Sequence[Point]
    style: str


@dataclass(frozen=True)
class Labels:
    """How the values of both axes are written."""

    x: Callable[[float], str] = rounded
    y: Callable[[float], str] = lambda value: fixed(value, 2)


_OF_LOSS = Labels()


def plot(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    x_name: str = "step",
    labels: Labels = _OF_LOSS,
    names_beside: bool = False,
    whole: bool = False,
) -> Text:
    """Curves over one scale, ``width`` characters by ``height`` rows and one of labels.

    The few highest values of each falling loss are left out, above the edge: they would press all
    the rest flat; unless the whole is asked for. Where curves cross, the later one is seen. Empty
    where nothing is finite.
    names_beside: each name stands where its curve ends, so that many are told apart, and without
    colours too; else all stand below.
    """
    longest = max(8, width // 3) if names_beside else width
    curves = [Curve(_cut(each.name, longest), _finite(each.points), each.style) for each in curves]
    curves = [each for each in curves if each.points]
    room = max((cell_len(each.name) + 1 for each in curves), default=0) if names_beside else 0
    if not curves:
        return Text()
    up = _range_of([[y for _, y in each.points] for each in curves], whole=whole)
    scale = max(_SCALE_WIDTH, *(cell_len(labels.y(value)) + 2 for value in up))
    columns = width - scale - room
    if columns < 8:
        return Text()
    left = min(each.points[0][0] for each in curves)
    right = max(each.points[-1][0] for each in curves)
    canvas = _Canvas(columns, height)
    for curve in curves:
        canvas.draw(curve, (left, right), up)
    beside = _places(curves, up, height) if names_beside else {}
    return _labelled(canvas, curves, (left, right), up, x_name, labels, beside, scale)


def _places(curves: Sequence[Curve], up: Point, rows: int) -> dict[int, Curve]:
    """The row beside which each curve's name stands: where it ends, or as near as is free."""
    places: dict[int, Curve] = {}
    by_height = sorted((each for each in curves if each.name), key=lambda each: -each.points[-1][1])
    for number, curve in enumerate(by_height):
        wanted = round((1 - _position(curve.points[-1][1], up)) * (rows - 1))
        lowest = rows - (len(by_height) - number)  # so that all that end lower find room
        row = max(max(places, default=-1) + 1, min(max(wanted, 0), lowest))
        if row < rows:
            places[row] = curve
    return places


class _Canvas:
    """Dots by character cell, each cell in the style of the last curve that touched it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[_BLANK] * columns for _ in range(rows)]
        self.styles = [[""] * columns for _ in range(rows)]

    def draw(self, curve: Curve, across: Point, up: Point) -> None:
        """Join the points by straight lines; what lies above the edge stays out."""
        dots = [
            (
                _position(x, across) * (2 * self.columns - 1),
                (1 - _position(y, up)) * (4 * self.rows - 1),
            )
            for x, y in curve.points
        ]
        self._dot(*dots[0], curve.style)
        for (x0, y0), (x1, y1) in itertools.pairwise(dots):
            steps = max(1, math.ceil(max(abs(x1 - x0), min(abs(y1 - y0), 8 * self.rows))))
            for step in range(1, steps + 1):
                part = step / steps
                self._dot(x0 + part * (x1 - x0), y0 + part * (y1 - y0), curve.style)

    def _dot(self, x: float, y: float, style: str) -> None:
        column, row = round(x), round(y)
        if 0 <= row < 4 * self.rows:
            self.cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
            self.styles[row // 4][column // 2] = style


def _labelled(
    canvas: _Canvas,
    curves: Sequence[Curve],
    across: Point,
    up: Point,
    x_name: str,
    labels: Labels,
    beside: Mapping[int, Curve],
    scale: int,
) -> Text:
    drawn = Text()
    told = {0, canvas.rows - 1} | ({canvas.rows // 2} if canvas.rows >= _ROWS_FOR_MIDDLE else set())
    for row in range(canvas.rows):
        value = up[1] - (up[1] - up[0]) * row / max(1, canvas.rows - 1) if row in told else None
        drawn.append(f"{'' if value is None else labels.y(value):>{scale - 2}} ", "label")
        drawn.append("│", "faint")
        for cell, style in zip(canvas.cells[row], canvas.styles[row], strict=True):
            drawn.append(chr(cell) if cell != _BLANK else " ", style)
        if row in beside:
            drawn.append(f" {beside[row].name}", beside[row].style)
        drawn.append("\n")
    drawn.append(" " * scale)
    names = Text("  ").join(Text.assemble(("─ ", each.style), each.name) for each in curves)
    if beside:
        names = Text(labels.x(across[0]), style="label")
    end = f"{x_name} {labels.x(across[1])}"
    drawn.append_text(names)
    if names.cell_len + len(end) < canvas.columns:
        drawn.append(" " * (canvas.columns - names.cell_len - len(end)))
        drawn.append(end, "label")
    return drawn


def _range_of(curves: Sequence[Sequence[float]], *, whole: bool) -> Point:
    """From the lowest value to the highest or, of each curve, below the highest tenth."""
    low = min(map(min, curves))
    part = 1.0 if whole else 0.9
    high = max(sorted(each)[min(len(each) - 1, int(part * len(each)))] for each in curves)
    if high - low < 1e-9:
        return low - 0.5, low + 0.5
    return low, high


def _position(value: float, span: Point) -> float:
    low, high = span
    return (value - low) / (high - low) if high > low else 0.5


def _cut(name: str, longest: int) -> str:
    text = Text(name)
    text.truncate(longest, overflow="ellipsis")
    return text.plain


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(y)]
