"""What a comparison is asked for, every option of every model checked before anything is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from textgen.config import (
    SHARED,
    ComparisonConfig,
    TokenizerConfig,
    TrainingConfig,
    Variant,
    check_options,
    option_names,
)
from textgen.errors import UsageError
from textgen.studies import comparison_file
from textgen.studies.comparison_file import CORPORA, Kept
from textgen.studies.comparison_runs import Manner
from textgen.training.ranks import placed
from textgen.training_run import settings as run_settings
from textgen.training_run.source_paths import lasting

BUDGET = 60.0
"""Seconds of each run, where nobody says how long it is to be."""
_LENGTHS = ("budget", "epochs", "steps")


@dataclass(frozen=True)
class Text:
    """Where the tokens come from."""

    corpora: tuple[str, ...]
    valid: str | None
    encoding: str
    errors: str

    @classmethod
    def at(
        cls, corpora: Sequence[str | Path], valid: str | Path | None, encoding: str, errors: str
    ) -> Self:
        """Paths that mean the same from wherever the comparison goes on."""
        held_out = None if valid is None else lasting(valid)
        return cls(tuple(map(lasting, corpora)), held_out, encoding, errors)


@dataclass(frozen=True)
class Asked:
    """All that a comparison is decided by. options: those given, of tokenizer and training."""

    out: Path
    config: ComparisonConfig
    options: dict[str, Any]
    text: Text
    manner: Manner

    @property
    def seed(self) -> int:
        return TrainingConfig.from_options(self.options).seed

    @property
    def runs(self) -> list[tuple[Variant, int]]:
        """Every model and seed; of one that counts, which no seed changes, the first alone.

        Each has its first run before any has its second, so that what there is compares.
        """
        seeds = range(self.seed, self.seed + self.config.seeds)
        return [
            (each, seed)
            for seed in seeds
            for each in self.config.models
            if seed == self.seed or not each.counts
        ]

    def options_of(self, variant: Variant, seed: int) -> dict[str, Any]:
        """What ``train`` is asked for; one that counts has no length and no other way to learn."""
        shared = option_names(TrainingConfig) & self.options.keys() - (SHARED - {*_LENGTHS})
        learning = {} if variant.counts else {name: self.options[name] for name in shared}
        return {**learning, **variant.options, "model": variant.model, "seed": seed}

    @property
    def kept(self) -> Kept:
        """What is to be kept of it, before any run."""
        settings = {
            CORPORA: list(self.text.corpora),
            "valid": self.text.valid,
            "encoding": self.text.encoding,
            "errors": self.text.errors,
            "parameters": self.config.parameters,
            "device": self.manner.device,
            "threads": self.manner.threads,
            **comparison_file.plain(self.options),
        }
        return Kept(settings, comparison_file.models_json(self.config.models))


def asked_for(out: Path, options: dict[str, Any], text: Text, manner: Manner) -> Asked:
    """Raises UsageError for what no model could be asked for, and where several processes are."""
    if placed() is not None:
        raise UsageError(
            "models are not compared in several processes", fix="start it without torchrun"
        )
    check_options(options, ComparisonConfig, TokenizerConfig, TrainingConfig)
    config = ComparisonConfig.from_options(options)
    own = option_names(ComparisonConfig) - {"budget"}
    others = {
        name: value for name, value in options.items() if name not in own and value is not None
    }
    if not any(name in others for name in _LENGTHS):
        others["budget"] = BUDGET
    parsed = [TokenizerConfig.from_options(others), TrainingConfig.from_options(others)]
    for each in parsed:
        others |= {name: getattr(each, name) for name in option_names(type(each)) & others.keys()}
    asked = Asked(out, config, others, text, manner)
    for variant, seed in asked.runs:
        learning = asked.options_of(variant, seed)
        run_settings.settle(out, run_settings.Source(), learning, manner.device, manner.threads)
    return asked
