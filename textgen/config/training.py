"""Configuration of training, and presets: named sets of options."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from textgen.config.options import (
    Config,
    check_choice,
    check_real,
    check_whole,
    flag,
    option,
    parse_duration,
)
from textgen.errors import UsageError

Precision = Literal["auto", "float32", "bf16", "fp16"]

VALID_FRACTION = 0.1

_READING, _LENGTH, _LEARNING, _WATCHING, _MACHINE = (
    "Reading",
    "Length of the run",
    "Learning",
    "Watching and saving",
    "Machine",
)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How the network learns."""

    budget: float | None = option(
        None,
        "Wall time, validation and saving included: 90s, 10m, 2h.",
        panel=_LENGTH,
        parse=parse_duration,
        metavar="TIME",
        shown="10m, if neither --steps nor --epochs is given",
    )
    epochs: int | None = option(None, "Passes over the training part.", panel=_LENGTH)
    steps: int | None = option(None, "Updates of the weights.", panel=_LENGTH)
    batch_size: int = option(16, "Streams of text read side by side.", panel=_LEARNING)
    sequence_length: int = option(
        64, "Tokens a window: how far the gradient reaches back.", panel=_LEARNING
    )
    learning_rate: float = option(5e-3, "The peak of the schedule.", panel=_LEARNING)
    weight_decay: float = option(0.1, "Decoupled weight decay (AdamW).", panel=_LEARNING)
    dropout: float = option(
        0.1, "Share of units silenced, the same through a window.", panel=_LEARNING
    )
    clip: float = option(1.0, "Largest norm of the gradient.", panel=_LEARNING)
    warmup: float = option(0.05, "Share of the run in which the rate rises.", panel=_LEARNING)
    valid_fraction: float = option(
        VALID_FRACTION, "Share of the characters, from the end, held out.", panel=_READING
    )
    valid_every: int | None = option(
        None, "Steps between validations.", panel=_WATCHING, shown="a tenth of the run"
    )
    save_every: float | None = option(
        None,
        "Time between checkpoints.",
        panel=_WATCHING,
        parse=partial(parse_duration, option="--save-every"),
        metavar="TIME",
        shown="60s, longer where saving is slow",
    )
    log_every: int = option(20, "Steps between lines of metrics.jsonl.", panel=_WATCHING)
    precision: Precision = option(
        "auto", "Arithmetic of training; auto is bf16 where it is faster.", panel=_MACHINE
    )
    seed: int = option(1, "Same seed, same machine: same weights.", panel=_MACHINE)
    run_windows: int = 32
    unknown_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        given = [name for name in ("budget", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(flag(name) for name in given)} cannot both be given",
                why="each says how long the run is",
                fix="keep one",
            )
        check_real("budget", self.budget, 0, math.inf, open_low=True)
        check_whole("epochs", self.epochs, 1)
        check_whole("steps", self.steps, 1)
        check_whole("batch_size", self.batch_size, 1, 2**20)
        check_whole("sequence_length", self.sequence_length, 1, 2**20)
        check_real("learning_rate", self.learning_rate, 0, 1e3, open_low=True)
        check_real("weight_decay", self.weight_decay, 0, 1e3)
        check_real("dropout", self.dropout, 0, 1)
        check_real("clip", self.clip, 0, math.inf, open_low=True)
        check_real("warmup", self.warmup, 0, 1)
        check_real("valid_fraction", self.valid_fraction, 0, 1, open_low=True)
        check_whole("valid_every", self.valid_every, 1)
        check_real("save_every", self.save_every, 0, math.inf, open_low=True)
        check_whole("log_every", self.log_every, 1)
        check_whole("seed", self.seed, 0, 2**63 - 1)
        check_choice("precision", self.precision, ("auto", "float32", "bf16", "fp16"))
        check_whole("run_windows", self.run_windows, 1)
        check_real("unknown_rate", self.unknown_rate, 0, 1)
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2:
            raise UsageError(f"--betas must be two numbers, got {self.betas!r}")
        for beta in self.betas:
            check_real("betas", beta, 0, 1)

    def with_length(self) -> "TrainingConfig":
        """The same run with its length settled: ten minutes where nobody said."""
        if self.budget is None and self.epochs is None and self.steps is None:
            return dataclasses.replace(self, budget=600.0)
        return self


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The language model of the courses: words, two layers, embeddings of their own.
    "textbook": {
        "level": "word",
        "vocab_size": 10_000,
        "model": "lstm",
        "hidden_size": (256, 128),
        "embedding_size": 200,
        "tie": False,
    },
}


def with_preset(options: Mapping[str, Any], preset: str | None) -> dict[str, Any]:
    """The options, and those of the preset that are not among them.

    Raises UsageError for a name that is none.
    """
    if preset is None:
        return dict(options)
    check_choice("preset", preset, tuple(PRESETS))
    return {**PRESETS[preset], **{name: v for name, v in options.items() if v is not None}}
