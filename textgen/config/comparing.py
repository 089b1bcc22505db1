"""Which models are compared, and what is made equal among them."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from textgen.config.kinds import KINDS
from textgen.config.modelling import ModelConfig
from textgen.config.options import (
    Config,
    check_choice,
    check_whole,
    closest,
    field_type,
    flag,
    option,
    option_names,
    parse_duration,
)
from textgen.config.training import TrainingConfig
from textgen.errors import UsageError

SHARED = frozenset({"model", "budget", "epochs", "steps", "valid_fraction", "seed"})
"""What is the same for all models, or varied for all alike; so it is no variant's own."""

_BETWEEN_MODELS = re.compile(r",(?!\s*\d)")  # a comma before a digit is that of 256,128
_BETWEEN_OPTIONS = re.compile(r":(?=\s*[A-Za-z][\w-]*\s*(?:=|:|$))")  # no drive's colon, as in C:\
_SWITCHES = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Variant:
    """A kind of model with options of its own; a row of the comparison.

    name: as it is typed, ``rnn:activation=relu``. options: by field name.
    """

    name: str
    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name as any system's files may be called."""
        return re.sub(r"[^\w.,=+-]+", "-", self.name)

    @property
    def counts(self) -> bool:
        return KINDS[self.model].counts


def parse_variants(value: str | Iterable[str | Variant]) -> tuple[Variant, ...]:
    """Models to compare, from ``NAME[:OPTION=VALUE]...``, one after another or with commas between.

    >>> [each.name for each in parse_variants("lstm,lstm:hidden-size=256,128:tie")]
    ['lstm', 'lstm:hidden-size=256,128:tie']
    """
    typed = _BETWEEN_MODELS.split(value) if isinstance(value, str) else list(value)
    found = tuple(each if isinstance(each, Variant) else _variant(each) for each in typed)
    if not found:
        raise UsageError("--models names no model", fix=f"there are {', '.join(KINDS)}")
    seen: set[str] = set()
    for each in found:
        if each.folder.casefold() in seen:  # as systems see it that know no capitals
            raise UsageError(f"--models names {each.name} twice", fix="leave one out")
        seen.add(each.folder.casefold())
    return found


def _variant(text: str) -> Variant:
    model, *settings = (part.strip() for part in _BETWEEN_OPTIONS.split(text.strip()))
    check_choice("models", model, tuple(KINDS))
    options: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        own = name.strip().replace("-", "_")
        if "=" not in setting and own.startswith("no_"):
            own, value = own.removeprefix("no_"), "no"
        elif "=" not in setting:
            value = "yes"
        options[own] = _value(own, value.strip(), text)
    # Each option is checked where it is read, and whether this kind of model has it.
    ModelConfig.from_options({**options, "model": model})
    learns = sorted(options.keys() & option_names(TrainingConfig))
    if learns and KINDS[model].counts:
        raise UsageError(
            f"{flag(learns[0])} is no option of {model}",
            where="--models",
            why="it learns all there is in one reading",
            fix="leave it out",
        )
    TrainingConfig.from_options(options)
    return Variant(":".join([model, *settings]), model, options)


def _value(name: str, text: str, where: str) -> Any:
    """What a person typed for a field, as the field's type; its own way to read it comes later."""
    fields = {
        spec.name: (config, spec)
        for config in (ModelConfig, TrainingConfig)
        for spec in dataclasses.fields(config)
        if "help" in spec.metadata and spec.name not in SHARED
    }
    if name not in fields:
        meant = closest(name, tuple(fields))
        raise UsageError(
            f"{flag(name)} is no option of one model" if name in SHARED else f"no option {name!r}",
            where=f"--models {where}",
            why="it is the same for all" if name in SHARED else None,
            fix=f"did you mean {meant.replace('_', '-')}?" if meant else None,
        )
    config, spec = fields[name]
    hint = field_type(config, name)
    if spec.metadata["parse"] is not None:
        return spec.metadata["parse"](text)
    try:
        if hint is bool:
            return _SWITCHES[text.lower()]
        return hint(text) if hint in (int, float) else text
    except (KeyError, ValueError):
        kinds = {bool: "yes or no", int: "a whole number", float: "a number"}
        raise UsageError(
            f"{flag(name)} must be {kinds[hint]}, got {text!r}", where=f"--models {where}"
        ) from None


def _has_size(model: str) -> bool:
    """Whether its size can be chosen, or is that of what is counted."""
    return KINDS[model].counts or "hidden_size" in KINDS[model].options


@dataclass(frozen=True)
class ComparisonConfig(Config):
    """What is compared. models: none means a model of every kind there is."""

    models: tuple[Variant, ...] = option(
        (),
        "Models, each with options of its own if it has any:"
        " lstm,lstm:hidden-size=256,128:dropout=0.2.",
        parse=parse_variants,
        metavar="NAME[,NAME...]",
        shown="all: " + ", ".join(KINDS),
    )
    seeds: int = option(
        1, "Train each so many times, and tell mean and standard deviation of the loss."
    )
    parameters: int | None = option(
        None,
        "Make each as wide as has about so many parameters.",
        shown="each as wide as suits the time",
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
        check_whole("seeds", self.seeds, 1, 1000)
        check_whole("parameters", self.parameters, 1)
        if not self.models:
            able = [name for name in KINDS if self.parameters is None or _has_size(name)]
            object.__setattr__(self, "models", parse_variants(able))
        if self.parameters is not None:
            self._check_widths_open()

    def _check_widths_open(self) -> None:
        """Refuse --parameters where nothing can be widened, or where the width is given."""
        for each in self.models:
            if not _has_size(each.model):
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
