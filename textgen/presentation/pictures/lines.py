"""What a picture of lines is, whoever draws it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A quantity and its unit. ticks: where it is labelled, if that is not left to the drawing.

    shown: how a value is written.
    """

    name: str
    unit: str = ""
    log: bool = False
    ticks: tuple[float, ...] = ()
    shown: Callable[[float], str] = lambda value: f"{value:g}"
    limits: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Line:
    """Points from left to right. group: which lines share a colour, by number.

    faint: it stands behind those that matter. dashed: it is no measurement at these points but
    something to compare with. band: (x, low, high), how sure it is. dots: each point is seen.
    """

    name: str
    points: tuple[Point, ...]
    group: int = 0
    faint: bool = False
    dashed: bool = False
    band: tuple[tuple[float, float, float], ...] = ()
    dots: bool = False


@dataclass(frozen=True)
class LinePicture:
    """Lines over two axes. at: the values of x for which a table gives each line's y.

    note: what has to be known to read it. faint: what the faint lines are. baseline: a height
    to compare with, and its name.
    """

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    at: tuple[float, ...] = ()
    note: str = ""
    faint: str = ""
    baseline: tuple[float, str] | None = None


def drawable(line: Line, picture: LinePicture) -> list[Point]:
    """The points that are numbers and, on a logarithmic axis, have a logarithm."""
    return [
        (x, y)
        for x, y in line.points
        if math.isfinite(x)
        and math.isfinite(y)
        and (x > 0 or not picture.x.log)
        and (y > 0 or not picture.y.log)
    ]


def value_at(points: Sequence[Point], x: float) -> float:
    """The height of a line there, straight between its points; nan where it is not."""
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        if x0 <= x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return math.nan


def checkpoint_names(paths: Sequence[str]) -> list[str]:
    """A short name for each checkpoint: its folder's, with those above where two are alike.

    >>> checkpoint_names(["runs/lstm/best", "runs/rnn/"]), checkpoint_names(["a/x", "b/x"])
    (['lstm', 'rnn'], ['a/x', 'b/x'])
    """
    parts = [_parts(path) for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(paths, start=1)]


def _parts(path: str) -> list[str]:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if len(parts) > 1 and parts[-1] in ("best", "last"):
        return parts[:-1]
    return parts or [path]
