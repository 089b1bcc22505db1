"""Labels beside points, none of which covers another or a point."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""left, bottom, right, top, in pixels."""

_SIZE = 13
_DOT = 3.0  # half the width of a point, in points
_GAPS = (5.0, 13.0, 22.0)  # how far off a label may stand, in points
_LED_FROM = 12.0  # from here on a thin line leads to it
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_MARGIN = 1.5


def place_labels(
    axes: "Axes",
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Write each text near its point, the first ones first; for which there is no room, not.

    The axes have been laid out: their limits and their size are those of the picture.
    """
    figure = axes.figure
    pixel = figure.dpi / 72  # pixels of a point
    places = axes.transData.transform(points)  # (points, 2)
    half = _DOT * pixel
    taken = [(x - half, y - half, x + half, y + half) for x, y in places]
    inside = axes.get_window_extent().extents
    for own, (place, text, colour) in enumerate(zip(places, texts, colours, strict=True)):
        width, height = _extent(axes, text)
        for gap, offset, box in _candidates(place, width, height, pixel):
            if _within(box, inside) and not _meets(box, taken, own):
                led = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0}
                axes.annotate(
                    text,
                    points[own],
                    xytext=offset,
                    textcoords="offset points",
                    fontsize=_SIZE,
                    color=colour,
                    ha="left",
                    va="bottom",
                    arrowprops=led if gap >= _LED_FROM else None,
                )
                taken.append(box)
                break


def _extent(axes: "Axes", text: str) -> tuple[float, float]:
    """The width and height of a label, in pixels."""
    written = axes.annotate(text, (0, 0), xytext=(0, 0), fontsize=_SIZE, textcoords="offset points")
    box = written.get_window_extent()
    written.remove()
    return box.width, box.height


def _candidates(
    place: npt.NDArray[np.float64], width: float, height: float, pixel: float
) -> Iterator[tuple[float, tuple[float, float], Box]]:
    """Where a label may stand: (how far off, its corner from the point in points, its box)."""
    for gap, (across, up) in product(_GAPS, _SIDES):
        away = gap * pixel * (1.0 if 0 in (across, up) else 0.75)
        left = {1: away, 0: -width / 2, -1: -away - width}[across]
        bottom = {1: away, 0: -height / 2, -1: -away - height}[up]
        x, y = float(place[0]) + left, float(place[1]) + bottom
        yield gap, (left / pixel, bottom / pixel), (x, y, x + width, y + height)


def _within(box: Box, outer: Sequence[float]) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _meets(box: Box, taken: Sequence[Box], own: int) -> bool:
    """Whether a box covers some of those that are taken; ``own`` is the label's own point."""
    left, bottom, right, top = box
    return any(
        number != own
        and left - _MARGIN < other[2]
        and right + _MARGIN > other[0]
        and bottom - _MARGIN < other[3]
        and top + _MARGIN > other[1]
        for number, other in enumerate(taken)
    )
