"""The models of a comparison with their options, and the other options."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from textgen.config.keywords import TokenizerOptions, TrainingOptions
from textgen.config.model import KINDS, ModelConfig
from textgen.config.options import (
    Bounds,
    Config,
    check_choice,
    closest,
    field_type,
    flag,
    option,
    parse_duration,
)
from textgen.config.training import VALID_OPTIONS, TrainingConfig
from textgen.errors import UsageError

LENGTHS = ("budget", "epochs", "steps")
SHARED = frozenset({"model", "seed", *VALID_OPTIONS, *LENGTHS})
"""Options that a single model cannot have: they are the same, or vary alike, for all."""

_BETWEEN_MODELS = re.compile(r",(?!\s*\d)")  # a comma before a digit is that of 256,128
_BETWEEN_OPTIONS = re.compile(r":(?=\s*[A-Za-z][\w-]*\s*(?:=|:|$))")  # not that of a drive, C:\
_SWITCHES = {"yes": True, "true": True, "no": False, "false": False}
_FIELDS = {
    name: spec
    for config in (ModelConfig, TrainingConfig)
    for name, spec in config.fields().items()
    if "help" in spec.metadata and name not in SHARED
}


@dataclass(frozen=True)
class Variant:
    """A kind of model with its options: one row of the comparison.

    name: as typed, such as ``rnn:activation=relu``. model: the kind, a key of KINDS.
    """

    name: str
    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name without characters that a file system refuses."""
        return re.sub(r"[^\w.,=+-]+", "-", self.name)

    @property
    def counts(self) -> bool:
        return KINDS[self.model].counts

    @property
    def has_size(self) -> bool:
        """Whether the number of parameters can be chosen, or follows from the counts."""
        return self.counts or "hidden_size" in KINDS[self.model].options


def parse_variants(value: str | Iterable[str | Variant]) -> tuple[Variant, ...]:
    """Models to compare, from ``NAME[:OPTION=VALUE]...``, comma-separated or as a sequence.

    >>> [each.name for each in parse_variants("lstm,lstm:hidden-size=256,128:tie")]
    ['lstm', 'lstm:hidden-size=256,128:tie']
    """
    typed = _BETWEEN_MODELS.split(value) if isinstance(value, str) else list(value)
    variants: dict[str, Variant] = {}
    for each in typed:
        variant = each if isinstance(each, Variant) else _parse_variant(each)
        folder = variant.folder.casefold()  # some file systems ignore case
        if folder in variants:
            raise UsageError(f"--models names {variant.name} twice", fix="leave one out")
        variants[folder] = variant
    if not variants:
        raise UsageError("--models names no model", fix=f"there are {', '.join(KINDS)}")
    return tuple(variants.values())


def _parse_variant(text: str) -> Variant:
    model, *settings = (part.strip() for part in _BETWEEN_OPTIONS.split(text.strip()))
    check_choice("models", model, tuple(KINDS))
    options = dict(_parse_setting(setting, f"--models {text}") for setting in settings)
    ModelConfig.from_options({**options, "model": model})
    TrainingConfig.from_options(options)
    return Variant(":".join([model, *settings]), model, options)


def _parse_setting(setting: str, where: str) -> tuple[str, Any]:
    """The name and value of ``OPTION=VALUE``, ``OPTION`` or ``no-OPTION``, unchecked."""
    name, given, text = (part.strip() for part in setting.partition("="))
    name = name.replace("-", "_")
    if not given:
        text = "no" if name.startswith("no_") else "yes"
        name = name.removeprefix("no_")
    if name in SHARED:
        raise UsageError(
            f"{flag(name)} is no option of one model", where=where, why="it is the same for all"
        )
    if name not in _FIELDS:
        meant = closest(name, tuple(_FIELDS))
        fix = f"did you mean {meant.replace('_', '-')}?" if meant else None
        raise UsageError(f"no option {name!r}", where=where, fix=fix)
    spec = _FIELDS[name]
    kind, parse = field_type(spec), spec.metadata["parse"]
    if parse is not None:
        return name, parse(text)
    try:
        if kind is bool:
            return name, _SWITCHES[text.lower()]
        return name, kind(text) if kind in (int, float) else text
    except (KeyError, ValueError):
        wanted = {bool: "yes or no", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"{flag(name)} must be {wanted}, got {text!r}", where=where) from None


@dataclass(frozen=True)
class ComparisonConfig(Config):
    """The options of a comparison. Without models, one of every kind is compared."""

    models: tuple[Variant, ...] = option(
        (),
        "Models, each optionally with options: lstm,lstm:hidden-size=256,128:dropout=0.2.",
        parse=parse_variants,
        metavar="NAME[,NAME...]",
        shown="all: " + ", ".join(KINDS),
    )
    seeds: int = option(
        1,
        "Number of seeds per model; mean and standard deviation of the loss are shown.",
        bounds=Bounds(1, 1000),
    )
    parameters: int | None = option(
        None,
        "Choose each hidden size so that the model has about this many parameters.",
        shown="chosen for the length of the run",
        bounds=Bounds(1),
    )
    budget: float | None = option(
        None,
        "Wall time of each run, validation and saving included: 90s, 10m.",
        panel="Length of the run",
        parse=partial(parse_duration, option="--budget"),
        metavar="TIME",
        shown="60s, if neither --steps nor --epochs is given",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            every = parse_variants(KINDS)
            suitable = tuple(each for each in every if self.parameters is None or each.has_size)
            object.__setattr__(self, "models", suitable)
        if self.parameters is None:
            return
        for each in self.models:
            if not each.has_size:
                raise UsageError(
                    f"--parameters cannot be met by {each.name}",
                    why="it has no --hidden-size to choose",
                    fix="leave it out of --models",
                )
            if "hidden_size" in each.options:
                raise UsageError(
                    f"--parameters and the width of {each.name} cannot both be given",
                    fix="keep one",
                )


class CompareOptions(TokenizerOptions, TrainingOptions, total=False):
    """The options of ``compare``: the fields of ComparisonConfig, and those shared by all runs."""

    models: str | Sequence[str | Variant] | None
    seeds: int | None
    parameters: int | None
