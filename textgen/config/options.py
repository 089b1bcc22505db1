"""How a configuration is made of options: parsed, checked, kept as JSON."""

import dataclasses
import difflib
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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

    def __contains__(self, number: float) -> bool:
        high = math.inf if self.high is None else self.high
        above = number > self.low if self.open_low else number >= self.low
        closed = self.closed_high or isinstance(number, int)
        return above and (number <= high if closed else number < high)

    def __str__(self) -> str:
        opening, closing = "(" if self.open_low else "[", "]" if self.closed_high else ")"
        return f"{opening}{self.low:g}, {math.inf if self.high is None else self.high:g}{closing}"

    def in_words(self) -> str:
        """The interval as the help shows it; empty where there is no upper limit."""
        if self.high is None:
            return ""
        low, high = (f"{each:,.9f}".rstrip("0").rstrip(".") for each in (self.low, self.high))
        above = "above " if self.open_low else "from "
        return f"{above}{low} to {'' if self.closed_high else 'below '}{high}"


POSITIVE = Bounds(0, open_low=True)

Count = Annotated[int, Bounds(0, 2**53)]
"""A number of things, in a file: one that a float represents exactly."""
Amount = Annotated[float, Bounds(0, 1e24)]
"""Seconds, or things per second, in a file."""
Loss = Annotated[float, Bounds(-1e39, 1e39)]
"""Nats, in a file: what float32 represents."""


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
    shown_as = {"help": help, "panel": panel, "metavar": metavar, "shown": shown}
    return field(default=default, metadata=shown_as | {"parse": parse, "bounds": bounds})


def setting(default: Any, bounds: Bounds | None = None) -> Any:
    """A dataclass field that is not a command-line option. bounds: of a number."""
    return field(default=default, metadata={"bounds": bounds})


_LONGEST = 100 * 365.25 * 24 * 3600.0
_LONGEST_SHOWN = 40


def shortened(value: object) -> str:
    """A value that was given, for a message: text in quotes, and the beginning of what is long."""
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return "a number of more than forty digits"
    text = str(value)
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 1] + "…"
    return repr(text) if isinstance(value, str) else text


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
                f"not a duration: {shortened(value)}", where=option, fix="write 90s, 10m or 1h30m"
            )
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not 0 < seconds <= _LONGEST:
        what = f"a duration must be positive and at most 100 years, got {shortened(value)}"
        raise UsageError(what, where=option)
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
            f"not layer sizes: {shortened(value)}",
            where="--hidden-size",
            fix="write 512 or 256,128",
        ) from None


_LARGEST = 2**63 - 1


class Config:
    """What the configurations share: made from options, written to and read from JSON.

    A subclass is a frozen dataclass of ``option`` and ``setting``.
    """

    def __post_init__(self) -> None:
        """Check each value against the type and bounds of its field. Raises UsageError."""
        for name, spec in self.fields().items():
            hint, value, bounds = field_type(spec), getattr(self, name), spec.metadata.get("bounds")
            if value is None and spec.default is None:
                continue
            if typing.get_origin(hint) is Literal:
                check_choice(name, value, typing.get_args(hint))
            elif hint is bool:
                if not isinstance(value, bool):
                    what = f"{flag(name)} must be true or false, got {shortened(value)}"
                    raise UsageError(what)
            elif hint in (str, tuple[str, ...]):
                texts = (value,) if hint is str else value
                least = 1 if bounds is None else bounds.low
                for each in texts:
                    if not isinstance(each, str):
                        raise UsageError(f"{flag(name)} must be text, got {shortened(each)}")
                    if len(each) < least:
                        raise UsageError(f"{flag(name)} must not be empty", fix="leave it out")
            elif hint is int and bounds is not None:
                check_whole(name, value, bounds.low, bounds.high or _LARGEST)
            elif hint is float and bounds is not None:
                check_real(name, value, bounds)

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


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of a public function that are not of the types that it declares.

    Raises:
        UsageError: One of them is of another type.
    """
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        value, hint = arguments.get(name), hints.get(name, Any)
        several = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        for each in value if several else [value]:  # type: ignore[union-attr]
            if name in arguments and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                _check_argument(name, each, hint)


_TYPE_NAMES: Mapping[Any, str] = {
    **{str: "text", Path: "a path", bool: "true or false", int: "a whole number"},
    **{float: "a number", types.NoneType: "None", Callable: "a function"},
}


def _check_argument(name: str, value: object, hint: Any) -> None:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    if not any(_is_of(value, each) for each in members):
        literal = next((each for each in members if typing.get_origin(each) is Literal), None)
        if literal is not None:
            check_choice(name, value, typing.get_args(literal))
        kinds = [_TYPE_NAMES.get(typing.get_origin(each) or each, str(each)) for each in members]
        raise UsageError(f"{name} must be {' or '.join(kinds)}, got {value!r}")


def _is_of(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is Callable:
        return callable(value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, os.PathLike)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def flag(name: str) -> str:
    """The command-line spelling of a field: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        what = f"{flag(name)} must be one of {', '.join(choices)}, got {shortened(value)}"
        raise UsageError(what, fix=suggestion(str(value), choices))


_FOREIGN_WORDS = {
    "bpe": "subword",
    "fp32": "float32",
    "gpu": "cuda",
    "ignore": "replace",
    "transformer": "lstm",
}
"""Values of options in other tools, where the spelling does not lead to ours."""


def closest(typed: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant: one with this prefix, or a similar spelling."""
    begins = [word for word in known if len(typed.strip("-")) > 1 and word.startswith(typed)]
    word = typed if typed.startswith("-") else typed.lower()
    alike = difflib.get_close_matches(word, known, n=1, cutoff=0.65)
    return next(iter(sorted(begins, key=len)[:1] + alike), None)


def suggestion(typed: str, known: Sequence[str]) -> str | None:
    """What to do about a word that is not known: type the one that was probably meant."""
    foreign = _FOREIGN_WORDS.get(typed.lower())
    meant = foreign if foreign in known else closest(typed, known)
    return f"did you mean {meant}?" if meant else None


def check_whole(name: str, value: object, low: float, high: float = _LARGEST) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        what = f"{flag(name)} must be a whole number of at least {low}, got {shortened(value)}"
        raise UsageError(what)
    if value > high:
        raise UsageError(f"{flag(name)} must be at most {high}, got {shortened(value)}")


def check_real(name: str, value: object, bounds: Bounds) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    number = _as_float(value) if real else math.nan  # type: ignore[arg-type]
    if number not in bounds:
        raise UsageError(f"{flag(name)} must lie in {bounds}, got {shortened(value)}")


def _as_float(value: float) -> float:
    """A whole number too large for a float is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
