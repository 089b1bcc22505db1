"""Numbers as people read them: as many digits as mean something, and a unit."""

import math


def count(value: int) -> str:
    """
    >>> count(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def rounded(value: float) -> str:
    """A large number to three digits.

    >>> rounded(1_303_000)
    '1.30 M'
    """
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:.{_decimals(value / unit, 3)}f}{name}"
    return f"{value:,.0f}"


def figure(value: float, digits: int = 4) -> str:
    """A measured value to so many significant digits; never fewer than its whole part.

    >>> figure(4.33219), figure(151213.2), figure(math.nan)
    ('4.332', '151,213', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= 1e9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{_decimals(value, digits)}f}"


def fixed(value: float, decimals: int) -> str:
    """A value with so many decimals, for a column that lines up.

    >>> fixed(-12.3456, 2)
    '-12.35'
    """
    return f"{value:,.{decimals}f}" if math.isfinite(value) else figure(value)


def share(value: float) -> str:
    """A part of the whole in per cent.

    >>> share(0.0123)
    '1.23 %'
    """
    return f"{figure(100 * value, 3)} %" if value else "0 %"


def duration(seconds: float) -> str:
    """
    >>> duration(82.4), duration(5400)
    ('1m 22s', '1h 30m')
    """
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
    """
    >>> size(5_244_100)
    '5.24 MB'
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.{_decimals(size_bytes / unit, 3)}f} {name}"
    return f"{size_bytes} bytes"


def times(log_ratio: float) -> str:
    """exp(log_ratio), the natural log of a ratio of at least 1, as "so many times".

    >>> times(math.log(12.34)), times(1000.0)
    ('12.3', 'about 10^434')
    """
    if log_ratio < math.log(1e9):
        return figure(math.exp(log_ratio), 3)
    return f"about 10^{log_ratio / math.log(10):.0f}"


def _decimals(value: float, digits: int) -> int:
    """How many decimals leave so many significant digits of a value that is not tiny."""
    if value == 0:
        return digits - 1
    return max(0, min(digits + 2, digits - 1 - math.floor(math.log10(abs(value)))))
