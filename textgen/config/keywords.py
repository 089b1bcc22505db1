"""The options of configurations as keyword arguments, for type checkers.

Names and types alone: defaults, bounds and help are those of the fields. None leaves an option at
its default. A test compares each with its configuration.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

from textgen.config.model import Activation, Recurrence
from textgen.config.sampling import OnUnknown
from textgen.config.scoring import Context, ScoreLevel
from textgen.config.tokenizer import Level, Split, SubwordModel, Unit, ValidSplit
from textgen.config.training import Precision

_Several = str | Sequence[str] | None


class SamplingOptions(TypedDict, total=False):
    """The fields of SamplingConfig."""

    temperature: float | str | Sequence[float] | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: str | Mapping[int, float] | Sequence[tuple[int, float]] | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_sequence_breaker: _Several
    xtc_probability: float | None
    xtc_threshold: float | None
    no_repeat_ngram: int | None
    ban: _Several
    require: _Several
    allow_unk: bool | None
    beams: int | None
    length_penalty: float | None
    length: int | None
    sentences: int | None
    stop: _Several
    end_on: _Several
    on_unknown: OnUnknown | None
    count: int | None
    seed: int | None
    fast: bool | None


class ScoringOptions(TypedDict, total=False):
    """The fields of ScoringConfig."""

    level: ScoreLevel | None
    context: Context | None
    prefix: str | None
    eos: bool | None
    open_vocabulary: bool | None
    on_unknown: OnUnknown | None
    skip_empty: bool | None
    alternatives: int | None
    own_words: bool | None
    documents: bool | None


class TokenizerOptions(TypedDict, total=False):
    """The fields of TokenizerConfig."""

    level: Level | None
    vocab_size: int | None
    min_count: int | None
    unit: Unit | None
    split: Split | None
    subword_model: SubwordModel | None
    unk_literal: str | None


class ModelOptions(TypedDict, total=False):
    """The fields of ModelConfig, of all kinds of model."""

    model: str | None
    vocabulary_size: int | None
    hidden_size: int | str | Sequence[int] | None
    embedding_size: int | None
    tie: bool | None
    embeddings: str | os.PathLike[str] | None
    freeze_embeddings: bool | None
    ngram_embeddings: int | None
    ngram_rows: int | None
    order: int | None
    entries: Sequence[int] | None
    activation: Activation | None
    recurrence: Recurrence | None
    window: int | None
    states: int | None


class TrainingOptions(TypedDict, total=False):
    """The fields of TrainingConfig."""

    budget: float | str | None
    epochs: int | None
    steps: int | None
    batch_size: int | None
    sequence_length: int | None
    learning_rate: float | None
    weight_decay: float | None
    dropout: float | None
    candidates: int | None
    clip: float | None
    warmup: float | None
    valid_fraction: float | None
    valid_split: ValidSplit | None
    valid_every: int | None
    save_every: float | str | None
    checkpoint_at: _Several
    keep_float32: bool | None
    log_every: int | None
    precision: Precision | None
    seed: int | None
    run_windows: int | None
    unknown_rate: float | None
    ngram_dropout: float | None
    betas: Sequence[float] | None


class RunOptions(TokenizerOptions, ModelOptions, TrainingOptions, total=False):
    """The options of ``train`` and ``plan``."""
