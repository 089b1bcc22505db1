"""What a person types, as the value it means; else an error that names the option."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from textgen.config import closest
from textgen.errors import UsageError

_LONGEST_SHOWN = 40


def whole_number(option: str, *, least: int | None = None) -> Callable[[Any], int]:
    """A parser of integers, not below ``least``."""

    def parse(value: Any) -> int:
        try:
            number = int(value)
        except ValueError:
            raise _not(option, "a whole number", value) from None
        if least is not None and number < least:
            raise _not(option, f"at least {least}", value)
        return number

    return parse


def real_number(option: str) -> Callable[[Any], float]:
    """A parser of numbers; whether nan or infinity will do is for the configuration to say."""

    def parse(value: Any) -> float:
        try:
            return float(value)
        except ValueError:
            raise _not(option, "a number", value) from None

    return parse


def log_base(option: str) -> Callable[[Any], float]:
    """A parser of the base of logarithms: ``e`` or a number above 1."""

    def parse(value: Any) -> float:
        try:
            base = math.e if value == "e" else float(value)
        except ValueError:
            base = math.nan
        if not (math.isfinite(base) and base > 1):
            raise _not(option, "e or a number above 1", value)
        return base

    return parse


def choice(option: str, choices: Sequence[str]) -> Callable[[Any], Any]:
    """A parser of one word out of a few, which suggests the one that was meant."""

    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise _not(option, f"one of {', '.join(choices)}", value, closest(str(value), choices))

    return parse


def text(value: Any) -> str:
    """What was typed, as it is: the configuration has its own way to read it."""
    return str(value)


def typed_text(option: str, value: str) -> str:
    """Text for the model, read as UTF-8 whatever the locale took it for."""
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise UsageError(f"{option} is not UTF-8: {value!r}") from None


def _not(option: str, wanted: str, value: Any, meant: str | None = None) -> UsageError:
    typed = str(value)
    if len(typed) > _LONGEST_SHOWN:
        typed = typed[: _LONGEST_SHOWN - 1] + "…"
    fix = f"did you mean {meant}?" if meant else None
    return UsageError(f"{option} must be {wanted}, got {typed!r}", fix=fix)
