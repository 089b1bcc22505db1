"""What a person can set. Every default lives here and nowhere else.

Each dataclass is frozen and checks itself where it is made. A field's metadata holds what the
command line shows of it, so that the option, its help and its default are one fact.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from textgen.config.options import (
    Config,
    check_choice,
    check_flag,
    check_options,
    check_real,
    check_whole,
    flag,
    option,
    option_names,
    parse_duration,
    parse_sizes,
)
from textgen.errors import UsageError

__all__ = [
    "UNIT_TERMINATORS",
    "VALID_FRACTION",
    "Config",
    "Context",
    "Device",
    "Level",
    "LogBase",
    "ModelConfig",
    "Precision",
    "SamplingConfig",
    "Split",
    "SubwordModel",
    "TokenizerConfig",
    "TrainingConfig",
    "Unit",
    "check_options",
    "flag",
    "option_names",
    "parse_duration",
    "parse_sizes",
]

Level = Literal["char", "word", "subword"]
Unit = Literal["line", "paragraph", "document"]
Split = Literal["punctuation", "whitespace"]
SubwordModel = Literal["unigram", "bpe"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bf16", "fp16"]
Context = Literal["sentence", "document"]
LogBase = Literal["e", "2", "10"]

UNIT_TERMINATORS: Mapping[Unit, str] = {"line": "\n", "paragraph": "\n\n", "document": ""}
"""The text that each unit's ``<EOS>`` stands for. A document ends where its file ends."""

VALID_FRACTION = 0.1
_MOST_LAYERS = 64


_READING, _TOKENS, _MODEL, _LENGTH, _LEARNING, _WATCHING, _MACHINE = (
    "Reading",
    "Tokens",
    "Model",
    "Length of the run",
    "Learning",
    "Watching and saving",
    "Machine",
)


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """How text becomes tokens."""

    level: Level = option("char", "What a token is.", panel=_TOKENS)
    vocab_size: int | None = option(
        None,
        "Most tokens to know, <UNK> and <EOS> counted.",
        panel=_TOKENS,
        shown="all (subword: 4000)",
    )
    min_count: int | None = option(
        None,
        "Learn only what is seen at least this often.",
        panel=_TOKENS,
        shown="1 (word: 2)",
    )
    unit: Unit = option("line", "What ends in <EOS>: a line, a paragraph, a file.", panel=_TOKENS)
    split: Split = option(
        "punctuation",
        "How words are cut: 'punctuation' gives back the spacing exactly.",
        panel=_TOKENS,
    )
    subword_model: SubwordModel = option(
        "unigram", "The sentencepiece algorithm of --level subword.", panel=_TOKENS
    )
    unk_literal: str | None = option(
        None, "How the corpus itself spells an unknown word, such as '<unk>'.", panel=_TOKENS
    )

    def __post_init__(self) -> None:
        check_choice("level", self.level, ("char", "word", "subword"))
        check_choice("unit", self.unit, ("line", "paragraph", "document"))
        check_choice("split", self.split, ("punctuation", "whitespace"))
        check_choice("subword_model", self.subword_model, ("unigram", "bpe"))
        check_whole("vocab_size", self.vocab_size, 3, 2**31 - 1)
        check_whole("min_count", self.min_count, 1)
        if self.unk_literal is not None and not (
            isinstance(self.unk_literal, str) and self.unk_literal
        ):
            raise UsageError(f"--unk-literal must be text, got {self.unk_literal!r}")

    @property
    def least_count(self) -> int:
        return self.min_count or (2 if self.level == "word" else 1)

    @property
    def largest_vocabulary(self) -> int | None:
        return self.vocab_size or (4000 if self.level == "subword" else None)


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of the network."""

    model: str = option("lstm", "The kind of network.", panel=_MODEL)
    hidden_size: tuple[int, ...] = option(
        (512,),
        "Units a layer; one number a layer, such as 256,128.",
        panel=_MODEL,
        parse=parse_sizes,
        metavar="N[,N...]",
        shown="512",
    )
    embedding_size: int | None = option(
        None, "Width of a token's embedding.", panel=_MODEL, shown="by vocabulary"
    )
    tie: bool | None = option(
        None,
        "Use one matrix for embedding and output.",
        panel=_MODEL,
        shown="where the vocabulary is over 1000",
    )
    vocabulary_size: int = 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """As for any configuration; one matrix for both, given its width, is as wide as a layer."""
        width = options.get("embedding_size")
        if options.get("tie") and width is not None and options.get("hidden_size") is None:
            options = {**options, "hidden_size": (width,)}
        return super().from_options(options)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            raise UsageError(f"--model must be a name, got {self.model!r}")
        check_whole("embedding_size", self.embedding_size, 1)
        if not self.hidden_size:
            raise UsageError("--hidden-size must name at least one layer")
        if len(self.hidden_size) > _MOST_LAYERS:
            raise UsageError(f"--hidden-size must name at most {_MOST_LAYERS} layers")
        for size in self.hidden_size:
            check_whole("hidden_size", size, 1)
        check_whole("vocabulary_size", self.vocabulary_size, 0)
        check_flag("tie", self.tie)
        if self.tie and self.embedding_size not in (None, self.hidden_size[-1]):
            raise UsageError(
                f"--tie needs --embedding-size {self.embedding_size} to equal the last"
                f" --hidden-size {self.hidden_size[-1]}",
                fix="leave --embedding-size out, or add --no-tie",
            )

    def resolved(self, vocabulary_size: int) -> "ModelConfig":
        """The shape with nothing left open, for a vocabulary of this size."""
        tie = self.tie
        if tie is None:
            tie = vocabulary_size > 1000 and self.embedding_size in (None, self.hidden_size[-1])
        embedding_size = self.embedding_size
        if embedding_size is None:
            embedding_size = self.hidden_size[-1] if tie else min(128, self.hidden_size[0])
        return dataclasses.replace(
            self, vocabulary_size=vocabulary_size, embedding_size=embedding_size, tie=tie
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


@dataclass(frozen=True)
class SamplingConfig(Config):
    """How text is written."""

    temperature: float = option(
        1.0, "Below 1 keeps to the likely, above 1 strays; 0 is greedy.", panel="Decoding"
    )
    top_k: int | None = option(None, "Draw from the K likeliest tokens only.", panel="Decoding")
    top_p: float | None = option(
        None, "Draw from the likeliest tokens that make up this much probability.", panel="Decoding"
    )
    allow_unk: bool = option(False, "Let the model write <UNK>.", panel="Decoding")
    length: int = option(500, "Tokens to write, at most.", panel="Text")
    sentences: int | None = option(None, "Stop after this many sentences.", panel="Text")
    count: int = option(1, "How many samples to write.", panel="Text")
    seed: int = option(1, "Same seed, same text.", panel="Text")

    def __post_init__(self) -> None:
        check_real("temperature", self.temperature, 0, math.inf)
        check_whole("top_k", self.top_k, 1)
        check_real("top_p", self.top_p, 0, 1, open_low=True, closed_high=True)
        check_flag("allow_unk", self.allow_unk)
        check_whole("length", self.length, 1)
        check_whole("sentences", self.sentences, 1)
        check_whole("count", self.count, 1)
        check_whole("seed", self.seed, 0, 2**63 - 1)
