"""How a configuration is made of options: parsed, checked, kept as JSON."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from textgen.errors import UsageError


@dataclass(frozen=True)
class Bounds:
    """The interval of a number, or of the length of a text, which else is at least 1.

    Attributes:
        high: excluded for real numbers unless ``closed_high``, included for whole ones; None: no
            limit, but finite.
    """

    low: float
    high: float | None = None
    open_low: bool = False
    closed_high: bool = False


POSITIVE = Bounds(0, open_low=True)


def option(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    metavar: str | None = None,
    shown: str | None = None,
    bounds: Bounds | None = None,
) -> Any:
    """A dataclass field that is also a command-line option.

    Args:
        parse: converts the text of the command line, or an argument in Python, to the field's type.
        shown: the default as the help shows it, if the value does not explain itself.
        bounds: of a number or of the length of a text; choices are those of a ``Literal`` type.
    """
    metadata = {
        "help": help,
        "panel": panel,
        "parse": parse,
        "metavar": metavar,
        "shown": shown,
        "bounds": bounds,
    }
    return field(default=default, metadata=metadata)


def setting(default: Any, bounds: Bounds) -> Any:
    """A dataclass field that is a number and not a command-line option."""
    return field(default=default, metadata={"bounds": bounds})


def parse_duration(value: str | float, option: str = "--budget") -> float:
    """Seconds from ``90s``, ``10m``, ``2h``, ``1h30m`` or a plain number of seconds.

    >>> parse_duration("1h30m")
    5400.0
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        text = value.strip().lower() if isinstance(value, str) else ""
        pattern = r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"
        match = re.fullmatch(pattern, text) if text else None
        if match is None:
            raise UsageError(
                f"not a duration: {value!r}", where=option, fix="write 90s, 10m or 1h30m"
            )
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"a duration must be positive, got {value!r}", where=option)
    return seconds


def parse_sizes(value: str | int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    """Layer sizes from ``512``, ``256,128`` or a sequence of numbers.

    >>> parse_sizes("256,128")
    (256, 128)
    """
    if isinstance(value, int):
        return (value,)
    try:
        return tuple(map(int, value.split(","))) if isinstance(value, str) else tuple(value)
    except (ValueError, TypeError):
        raise UsageError(
            f"not layer sizes: {value!r}", where="--hidden-size", fix="write 512 or 256,128"
        ) from None


_LARGEST = 2**63 - 1


class Config:
    """What the configurations share: made from options, written to and read from JSON.

    A subclass is a frozen dataclass of ``option`` and ``setting``.
    """

    def __post_init__(self) -> None:
        """Check each value against the type and bounds of its field. Raises UsageError."""
        for spec in self.fields().values():
            hint, value = field_type(spec), getattr(self, spec.name)
            bounds = spec.metadata.get("bounds")
            if value is None and spec.default is None:
                continue
            if typing.get_origin(hint) is Literal:
                check_choice(spec.name, value, typing.get_args(hint))
            elif hint is bool:
                check_flag(spec.name, value)
            elif hint is str and (
                not isinstance(value, str) or len(value) < (1 if bounds is None else bounds.low)
            ):
                raise UsageError(f"{flag(spec.name)} must be text, got {value!r}")
            elif hint is int and bounds is not None:
                check_whole(spec.name, value, bounds.low, bounds.high or _LARGEST)
            elif hint is float and bounds is not None:
                high = math.inf if bounds.high is None else bounds.high
                closed = {"open_low": bounds.open_low, "closed_high": bounds.closed_high}
                check_real(spec.name, value, bounds.low, high, **closed)

    @classmethod
    def fields(cls) -> "dict[str, dataclasses.Field[Any]]":
        """Its fields by name; those with help are options of the command line."""
        return {spec.name: spec for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The configuration with these options set; None leaves one at its default.

        Keys of other configurations are ignored.
        """
        values = {}
        for name, spec in cls.fields().items():
            value = options.get(name)
            if value is not None:
                parse = spec.metadata.get("parse")
                values[name] = parse(value) if parse else value
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_options`` reads back to an equal configuration."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()  # type: ignore[call-overload]
        }


def option_names(cls: type[Config]) -> frozenset[str]:
    return frozenset(cls.fields())


def field_type(spec: "dataclasses.Field[Any]") -> Any:
    """The type of a field, without the None that stands for its default."""
    hint: Any = spec.type
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return hint


def check_options(options: Mapping[str, Any], *configs: type[Config]) -> None:
    """Refuse an option that no field of these configurations has."""
    known = frozenset[str]().union(*map(option_names, configs))
    for name in options:
        if name not in known:
            raise UsageError(f"no option {name!r}", fix=f"there are {', '.join(sorted(known))}")


def flag(name: str) -> str:
    """The command-line spelling of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        meant = closest(str(value), choices)
        raise UsageError(
            f"{flag(name)} must be one of {', '.join(choices)}, got {value!r}",
            where=flag(name),
            fix=f"did you mean {meant}?" if meant else None,
        )


def closest(typed: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant: one with this prefix, or a similar spelling."""
    begins = [word for word in known if len(typed.strip("-")) > 1 and word.startswith(typed)]
    alike = difflib.get_close_matches(typed, known, n=1, cutoff=0.6)
    return next(iter(sorted(begins, key=len)[:1] + alike), None)


def check_whole(name: str, value: int | None, low: float, high: float = _LARGEST) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"{flag(name)} must be a whole number of at least {low}, got {value!r}")
    if value > high:
        raise UsageError(f"{flag(name)} must be at most {high}, got {value!r}")


def check_real(
    name: str,
    value: float | None,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    closed_high: bool = False,
) -> None:
    if value is None:
        return
    real = isinstance(value, int | float) and not isinstance(value, bool)
    number = _as_float(value) if real else math.nan
    above = number > low if open_low else number >= low
    below = number <= high if closed_high else number < high
    if not (above and below):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{']' if closed_high else ')'}"
        raise UsageError(f"{flag(name)} must lie in {interval}, got {value!r}")


def check_strings(name: str, values: object) -> None:
    if not isinstance(values, tuple) or not all(isinstance(each, str) and each for each in values):
        raise UsageError(f"{flag(name)} must be text, got {values!r}")


def check_flag(name: str, value: bool | None) -> None:
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{flag(name)} must be true or false, got {value!r}")


def _as_float(value: float) -> float:
    """A whole number too large for a float is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
