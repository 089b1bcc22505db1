"""Configuration of training, and presets: named sets of options."""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal, Self

from textgen.config.model import defaults_of_kinds
from textgen.config.options import (
    POSITIVE,
    Bounds,
    Config,
    check_choice,
    check_real,
    flag,
    option,
    parse_duration,
    setting,
    shortened,
)
from textgen.config.tokenizer import ValidSplit
from textgen.errors import UsageError, not_both

Precision = Literal["auto", "float32", "bf16", "fp16"]

VALID_FRACTION = 0.1
VALID_OPTIONS = frozenset({"valid_fraction", "valid_split"})
"""The options that divide a text, which a text that is already divided does not have."""

_reading = partial(option, panel="Reading")
_length = partial(option, panel="Length of the run")
_learning = partial(option, panel="Learning")
_watching = partial(option, panel="Logging and saving")
_machine = partial(option, panel="Machine")


_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kMG]?)(w?)")


@dataclass(frozen=True, order=True)
class TextAmount:
    """How much text a run has read: a number of tokens or of words.

    Attributes:
        name: As it is written, ``5M`` or ``5Mw``.
    """

    of_words: bool
    number: int
    name: str

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Read an amount in the decimal units k, M and G; with ``w`` it is one of words.

        >>> TextAmount.parsed("1.5Mw")
        TextAmount(of_words=True, number=1500000, name='1.5Mw')
        """
        match = _AMOUNT.fullmatch(text)
        number = Decimal(match[1]) * _FACTORS[match[2]] if match else Decimal(0)
        if match is None or number < 1 or number % 1:
            raise UsageError(
                f"no amount of text: {shortened(text)}",
                where="--checkpoint-at",
                fix="write 500k, 5M or 1.5G for tokens, and 5Mw for words",
            )
        return cls(bool(match[3]), int(number), text)


def parse_amounts(value: str | Sequence[str]) -> tuple[str, ...]:
    """The names of amounts of text from ``1M,5M,10Mw`` or several such texts, tokens first.

    >>> parse_amounts("10M,1Mw,5M")
    ('5M', '10M', '1Mw')
    """
    given = value if isinstance(value, list | tuple) else [value]
    names = [part for each in given for part in str(each).split(",")]
    amounts = sorted(TextAmount.parsed(name.strip()) for name in names)
    for one, other in itertools.pairwise(amounts):
        if (one.of_words, one.number) == (other.of_words, other.number):
            raise UsageError(
                f"--checkpoint-at names the same amount twice: {one.name} and {other.name}",
                fix="keep one",
            )
    return tuple(amount.name for amount in amounts)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How a model is trained."""

    budget: float | None = _length(
        None,
        "Wall-clock time, validation and saving included: 90s, 10m, 2h.",
        parse=parse_duration,
        metavar="TIME",
        shown="10m, if neither --steps nor --epochs is given",
        bounds=POSITIVE,
    )
    epochs: int | None = _length(None, "Number of passes over the training part.", bounds=Bounds(1))
    steps: int | None = _length(None, "Number of updates of the weights.", bounds=Bounds(1))
    batch_size: int = _learning(
        16,
        "Number of streams of text read in parallel.",
        shown="16, on a GPU chosen by measured speeds; " + defaults_of_kinds("batch_size"),
        bounds=Bounds(1, 2**20),
    )
    sequence_length: int = _learning(
        64, "Tokens per window, over which the gradient is propagated.", bounds=Bounds(1, 2**20)
    )
    learning_rate: float = _learning(
        5e-3,
        "The peak learning rate.",
        shown="chosen for the length of the run; " + defaults_of_kinds("learning_rate"),
        bounds=Bounds(0, 1e3, open_low=True),
    )
    weight_decay: float = _learning(
        0.1,
        "Decoupled weight decay (AdamW).",
        shown="0.1; " + defaults_of_kinds("weight_decay"),
        bounds=Bounds(0, 1e3),
    )
    dropout: float = _learning(
        0.1,
        "Share of units set to zero, the same throughout a window.",
        shown="chosen for the text and the length of the run; " + defaults_of_kinds("dropout"),
        bounds=Bounds(0, 1),
    )
    candidates: int = _learning(
        0,
        "Number of tokens drawn for each update, besides its own, that the softmax is over; 0 for"
        " the whole vocabulary.",
        shown="chosen for the vocabulary",
        bounds=Bounds(0, 2**24),
    )
    clip: float = _learning(
        1.0, "Maximum norm of the gradient.", bounds=Bounds(0, 1e9, open_low=True, closed_high=True)
    )
    warmup: float = _learning(
        0.05, "Share of the run in which the learning rate rises to its peak.", bounds=Bounds(0, 1)
    )
    valid_fraction: float = _reading(
        VALID_FRACTION,
        "Share of the text that is held out for validation.",
        bounds=Bounds(0, 1, open_low=True),
    )
    valid_split: ValidSplit = _reading(
        "spread",
        "Where the held-out text is: spread, the end of every file (of small files, every n-th as a"
        " whole); tail, the end of the last files by name.",
    )
    valid_every: int | None = _watching(
        None, "Steps between validations.", shown="a tenth of the run", bounds=Bounds(1)
    )
    save_every: float | None = _watching(
        None,
        "Time between checkpoints.",
        parse=partial(parse_duration, option="--save-every"),
        metavar="TIME",
        shown="60s, more if saving is slow",
        bounds=POSITIVE,
    )
    checkpoint_at: tuple[str, ...] = _watching(
        (),
        "Amounts of text after each of which a checkpoint is kept, such as 1M,2M,10M tokens, or"
        " 1Mw,10Mw for words; that of 5M is OUT/at/5M.",
        parse=parse_amounts,
        metavar="AMOUNT[,...]",
        shown="none",
    )
    keep_float32: bool = _watching(
        False,
        "Do not round the weights of best to bfloat16, which is done where it changes predictions"
        " by less than 0.00001 nats per token.",
    )
    log_every: int = _watching(20, "Steps between lines of metrics.jsonl.", bounds=Bounds(1))
    precision: Precision = _machine(
        "auto",
        "Arithmetic of training; auto is fp16 on CUDA, and bf16 on a CPU where it is faster.",
    )
    seed: int = _machine(
        1, "The same seed on the same machine gives the same weights.", bounds=Bounds(0)
    )
    run_windows: int = setting(32, Bounds(1))
    unknown_rate: float = setting(5e-4, Bounds(0, 1))
    ngram_dropout: float = setting(0.0, Bounds(0, 1))
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        given = [name for name in ("budget", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise not_both(flag(given[0]), flag(given[1]), "each sets the length of the run")
        super().__post_init__()
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2:
            raise UsageError(f"--betas must be two numbers, got {len(self.betas)}")
        for beta in self.betas:
            check_real("betas", beta, Bounds(0, 1))

    @property
    def amounts(self) -> list[TextAmount]:
        """The amounts of text of ``checkpoint_at``."""
        return list(map(TextAmount.parsed, self.checkpoint_at))

    def with_length(self) -> "TrainingConfig":
        """This configuration with the default length, ten minutes, if it has none."""
        if self.budget is None and self.epochs is None and self.steps is None:
            return dataclasses.replace(self, budget=600.0)
        return self


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A common textbook model: words, two layers, embeddings that are not tied.
    "textbook": {
        "level": "word",
        "vocab_size": 10_000,
        "model": "lstm",
        "hidden_size": (256, 128),
        "embedding_size": 200,
        "tie": False,
        "ngram_embeddings": 0,
    }
}


@contextlib.contextmanager
def explaining_preset(preset: str | None, typed: Mapping[str, Any]) -> Iterator[None]:
    """Name the preset in an error about an option of it that was not typed."""
    try:
        yield
    except UsageError as error:
        untyped = [name for name in PRESETS.get(preset or "", ()) if typed.get(name) is None]
        if not any(re.search(rf"{flag(name)}\b", error.what) for name in untyped):
            raise
        raise UsageError(
            f"--preset {preset} cannot be used here",
            where=error.where,
            why=error.what + ("" if error.why is None else f", {error.why}"),
            fix="leave --preset out, and give those of its options that you want",
        ) from error


def with_preset(options: Mapping[str, Any], preset: str | None) -> dict[str, Any]:
    """The options, and those of the preset that are not among them.

    Raises:
        UsageError: There is no such preset.
    """
    if preset is None:
        return dict(options)
    check_choice("preset", preset, tuple(PRESETS))
    return {**PRESETS[preset], **{name: v for name, v in options.items() if v is not None}}
