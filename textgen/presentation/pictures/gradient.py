"""The vanishing gradient: how much of a loss reaches back, token by token."""

import math
from collections.abc import Iterator, Sequence

from textgen.presentation.pictures.lines import Axis, Line, LinePicture, checkpoint_names
from textgen.presentation.pictures.rows import Row
from textgen.results import GradientNorms

_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWEST = 1e-16
"""No further down: an update so much smaller than the weights changes nothing in float64."""


def gradient_picture(measured: Sequence[GradientNorms], of: str = "") -> LinePicture:
    """A line for each model, the median; the band holds the middle half of the places.

    of: what text it is.
    """
    names = checkpoint_names([each.checkpoint for each in measured])
    lines = tuple(
        Line(
            name,
            tuple((float(norm.lag), norm.median) for norm in each.norms),
            group,
            band=tuple((float(norm.lag), norm.lower, norm.upper) for norm in each.norms),
        )
        for group, (each, name) in enumerate(zip(measured, names, strict=True))
    )
    furthest = max(len(each.norms) for each in measured)
    places = min(each.places for each in measured)
    return LinePicture(
        title="How far back does the gradient reach?",
        x=Axis("distance k", "tokens back"),
        y=Axis(
            "|∂ loss(t) / ∂ state(t − k)|",
            "nats a unit",
            log=True,
            shown=power,
            limits=_limits(lines),
        ),
        lines=lines,
        at=tuple(float(lag) for lag in _AT if lag <= furthest),
        note=f"Median of {places} places in {of or 'a text'}; shaded: the middle half."
        f" State: {_state(measured)}.",
    )


def _state(measured: Sequence[GradientNorms]) -> str:
    """What the states consist of, in words: ``hidden and cell of all layers``."""
    parts = dict.fromkeys(name.partition(".")[0] for each in measured for name in each.state)
    layered = any("." in name for each in measured for name in each.state)
    alike = (
        len({frozenset(name.partition(".")[0] for name in each.state) for each in measured}) == 1
    )
    where = (" of all layers" if layered else "") + ("" if alike else ", where it has them")
    return " and ".join(parts) + where


def _limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """Whole powers of ten around what is drawn."""
    heights = [y for line in lines for _, low, high in line.band for y in (low, high) if y > 0]
    if not heights:
        return None
    low = max(min(heights), _LOWEST)
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(max(heights)))


def power(value: float) -> str:
    """A value by its power of ten.

    >>> power(1e-5), power(0.01), power(2.345e-5)
    ('10⁻⁵', '0.01', '2.3·10⁻⁵')
    """
    if 1e-3 < value < 1e3:
        return f"{value:.2g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10**exponent:.2g}"
    tens = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return tens if mantissa == "1" else f"{mantissa}·{tens}"


def gradient_rows(measured: Sequence[GradientNorms]) -> Iterator[Row]:
    for each in measured:
        for norm in each.norms:
            yield {
                "checkpoint": each.checkpoint,
                "state": " ".join(each.state),
                "places": each.places,
                "lag": norm.lag,
                "median": norm.median,
                "lower": norm.lower,
                "upper": norm.upper,
            }
