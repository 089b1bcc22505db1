"""Curves drawn with Braille dots: two across and four down in every character."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from textgen.presentation.numbers import fixed, rounded

Point = tuple[float, float]

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column]
_SCALE_WIDTH = 7


@dataclass(frozen=True)
class Curve:
    """Points from left to right, and the style they are drawn in."""

    name: str
    points: Sequence[Point]
    style: str


def plot(curves: Sequence[Curve], width: int, height: int, *, x_name: str = "step") -> Text:
    """Curves over one scale, ``width`` characters by ``height`` rows and one of labels.

    The few highest values of a falling loss are left out, above the edge: they would press all
    the rest flat. Where curves cross, the later one is seen. Empty where nothing is finite.
    """
    curves = [Curve(each.name, _finite(each.points), each.style) for each in curves]
    curves = [each for each in curves if each.points]
    columns = width - _SCALE_WIDTH
    if not curves or columns < 8:
        return Text()
    left = min(each.points[0][0] for each in curves)
    right = max(each.points[-1][0] for each in curves)
    low, high = _range_of([y for each in curves for _, y in each.points])
    canvas = _Canvas(columns, height)
    for curve in curves:
        canvas.draw(curve, (left, right), (low, high))
    return _labelled(canvas, curves, (left, right), (low, high), x_name)


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
    canvas: _Canvas, curves: Sequence[Curve], across: Point, up: Point, x_name: str
) -> Text:
    drawn = Text()
    for row in range(canvas.rows):
        value = {0: up[1], canvas.rows - 1: up[0]}.get(row)
        drawn.append(
            f"{fixed(value, 2) if value is not None else '':>{_SCALE_WIDTH - 2}} ", "label"
        )
        drawn.append("│", "faint")
        for cell, style in zip(canvas.cells[row], canvas.styles[row], strict=True):
            drawn.append(chr(cell) if cell != _BLANK else " ", style)
        drawn.append("\n")
    drawn.append(" " * _SCALE_WIDTH)
    names = Text("  ").join(Text.assemble(("─ ", each.style), each.name) for each in curves)
    end = f"{x_name} {rounded(across[1])}"
    drawn.append_text(names)
    if names.cell_len + len(end) < canvas.columns:
        drawn.append(" " * (canvas.columns - names.cell_len - len(end)))
        drawn.append(end, "label")
    return drawn


def _range_of(values: list[float]) -> Point:
    values = sorted(values)
    low, high = values[0], values[min(len(values) - 1, int(0.9 * len(values)))]
    if high - low < 1e-9:
        return low - 0.5, low + 0.5
    return low, high


def _position(value: float, span: Point) -> float:
    low, high = span
    return (value - low) / (high - low) if high > low else 0.5


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(y)]
