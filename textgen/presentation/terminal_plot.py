"""Line charts in a terminal, drawn with Braille dots: two columns by four rows per character."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from textgen.presentation.numbers import fixed, rounded

Point = tuple[float, float]

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column]


@dataclass(frozen=True)
class Curve:
    """A line from point to point.

    Attributes:
        style: How rich draws it.
        mark: A character that stands at each point, instead of the line.
    """

    name: str
    points: Sequence[Point]
    style: str
    mark: str = ""


def plot(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    x_name: str = "step",
    show_x: Callable[[float], str] = rounded,
    show_y: Callable[[float], str] = lambda value: fixed(value, 2),
    y_range: Point | None = None,
    names_beside: bool = False,
) -> Text:
    """Draw curves in ``width`` columns by ``height`` rows, and one row of labels below.

    Where curves cross, the later one is visible.

    Args:
        x_name: The quantity or the unit of the x axis.
        y_range: The lowest and the highest value shown. By default the highest tenth of each
            curve may lie above the chart: the steep fall of a loss would flatten the rest.
        names_beside: Whether each name is beside the end of its curve, or below the chart.

    Returns:
        The chart; empty where no value is finite or the width is too small.
    """
    finite_curves = []
    for curve in curves:
        name = Text(curve.name)
        name.truncate(max(8, width // 3) if names_beside else width, overflow="ellipsis")
        if points := [(x, y) for x, y in curve.points if math.isfinite(x + y)]:
            finite_curves.append(replace(curve, name=name.plain, points=points))
    curves = finite_curves
    if not curves:
        return Text()
    xs = [x for curve in curves for x, _ in curve.points]
    x_range = min(xs), max(xs)
    if y_range is None:
        heights = [sorted(y for _, y in curve.points) for curve in curves]
        y_range = min(each[0] for each in heights), max(y[int(0.9 * len(y))] for y in heights)
    if y_range[1] - y_range[0] < 1e-9:
        y_range = y_range[0] - 0.5, y_range[1] + 0.5
    rows = {0, height - 1} | ({height // 2} if height >= 12 else set())  # of the y axis, labelled
    step = (y_range[1] - y_range[0]) / max(1, height - 1)
    labels = {row: show_y(y_range[1] - step * row) for row in rows}
    margin = max(7, *(cell_len(label) + 2 for label in labels.values()))
    names_width = max(cell_len(curve.name) + 1 for curve in curves) if names_beside else 0
    columns = width - margin - names_width
    if columns < 8:
        return Text()
    beside = _name_rows(curves, y_range, height) if names_beside else {}
    drawn = Text()
    for row, cells in enumerate(_cells(curves, columns, height, x_range, y_range)):
        drawn.append(f"{labels.get(row, ''):>{margin - 2}} ", "label")
        drawn.append("│", "faint")
        for style, run in itertools.groupby(cells, key=lambda cell: cell[1]):  # few spans: faster
            drawn.append("".join(character for character, _ in run), style)
        if row in beside:
            drawn.append(f" {beside[row].name}", beside[row].style)
        drawn.append("\n")
    drawn.append(" " * margin)
    left = Text("  ").join(
        Text.assemble((f"{each.mark or '─'} ", each.style), each.name) for each in curves
    )
    if beside:
        left = Text(show_x(x_range[0]), style="label")
    right = f"{x_name} {show_x(x_range[1])}"
    gap = columns - left.cell_len - len(right)
    return drawn.append_text(left).append(" " * gap + right if gap > 0 else "", "label")


def _cells(
    curves: Sequence[Curve], columns: int, rows: int, x_range: Point, y_range: Point
) -> list[list[tuple[str, str]]]:
    """Each character, and the style of the last curve that is in it; marks are before lines."""
    cells = [[(0, "")] * columns for _ in range(rows)]  # the dots as bits, and the style
    marks: dict[tuple[int, int], tuple[str, str]] = {}
    for curve in curves:
        dots = [
            (
                _position(x, x_range) * (2 * columns - 1),
                (1 - _position(y, y_range)) * (4 * rows - 1),
            )
            for x, y in curve.points
        ]
        if curve.mark:
            places = ((round(row) // 4, round(column) // 2) for column, row in dots)
            marks |= dict.fromkeys(places, (curve.mark, curve.style))
            continue
        for (x0, y0), (x1, y1) in itertools.pairwise([dots[0], *dots]):
            steps = max(1, math.ceil(max(abs(x1 - x0), min(abs(y1 - y0), 8 * rows))))
            for step in range(1, steps + 1):
                column = round(x0 + step / steps * (x1 - x0))
                row = round(y0 + step / steps * (y1 - y0))
                if 0 <= row < 4 * rows:
                    bits = cells[row // 4][column // 2][0] | _DOTS[row % 4][column % 2]
                    cells[row // 4][column // 2] = bits, curve.style
    return [
        [
            marks.get((row, column)) or (chr(_BLANK + dots) if dots else " ", style)
            for column, (dots, style) in enumerate(of_row)
        ]
        for row, of_row in enumerate(cells)
    ]


def _name_rows(curves: Sequence[Curve], y_range: Point, rows: int) -> dict[int, Curve]:
    """For each row the curve whose name is beside it: where it ends, or the nearest free row."""
    taken: dict[int, Curve] = {}
    named = sorted((each for each in curves if each.name), key=lambda each: -each.points[-1][1])
    for number, curve in enumerate(named):
        wanted = round((1 - _position(curve.points[-1][1], y_range)) * (rows - 1))
        lowest = rows - (len(named) - number)  # leaves a row for each curve that ends lower
        row = max(max(taken, default=-1) + 1, min(max(wanted, 0), lowest))
        if row < rows:
            taken[row] = curve
    return taken


def _position(value: float, span: Point) -> float:
    low, high = span
    return (value - low) / (high - low) if high > low else 0.5
