"""Numbers for people, with significant digits and a unit; and the names of figures."""

import math
from collections.abc import Mapping
from typing import Any


def count(value: int) -> str:
    return f"{value:,}"


def rounded(value: float) -> str:
    """A large number to three digits: ``1.30 M``."""
    return _in_units(value, " T", " G", " M") or f"{value:,.0f}"


def figure(value: float, digits: int = 4) -> str:
    """A measured value to ``digits`` significant digits, at least its integer part.

    >>> figure(4.33219), figure(151213.2), figure(math.nan)
    ('4.332', '151,213', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= 1e9:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
    return f"{value:,.{max(0, min(digits + 2, decimals))}f}"


def fixed(value: float, decimals: int) -> str:
    """A value with ``decimals`` decimals, so that a column is aligned."""
    return f"{value:,.{decimals}f}" if math.isfinite(value) else figure(value)


def share(value: float) -> str:
    """A fraction in per cent: ``1.23 %``."""
    return f"{figure(100 * value, 3)} %" if value else "0 %"


def duration(seconds: float) -> str:
    """A duration of two units: ``1m 22s``, ``1h 30m``."""
    if not math.isfinite(seconds):
        return "–"
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def size(size_bytes: int) -> str:
    """A size to three digits: ``5.24 MB``."""
    return _in_units(size_bytes, " TB", " GB", " MB", " kB") or f"{size_bytes} bytes"


def _in_units(value: float, *names: str) -> str:
    """Three digits and the largest of the units, from 10^12 down, that fits; else nothing."""
    for power, name in zip((1e12, 1e9, 1e6, 1e3), names, strict=False):
        if value >= power:
            return figure(value / power, 3) + name
    return ""


BITS_PER_CHARACTER = "bits/char"
PSEUDO = "pseudo_"
_FIGURES = frozenset(
    {
        *("log_prob", "log_prob_good", "log_prob_bad"),
        *("surprisal", "entropy", "loss", "loss_deviation", "perplexity"),
        *("perplexity_without_unknown", "bits_per_character", "validation", "curve"),
    }
)


def labelled(record: Mapping[str, Any], *, pseudo: bool) -> dict[str, Any]:
    """A JSON record, with ``pseudo_`` before the names of its figures if they are such."""
    if not pseudo:
        return dict(record)
    return {PSEUDO * (name in _FIGURES) + name: value for name, value in record.items()}


def label(name: str, *, pseudo: bool) -> str:
    """The name of a figure for people.

    >>> label("perplexity", pseudo=True), label("ln p", pseudo=True), label("loss", pseudo=False)
    ('pseudo-perplexity', 'pseudo ln p', 'loss')
    """
    return f"pseudo{'-' if name in _FIGURES else ' '}{name}" if pseudo else name
