"""What is known of texts, of tokenizers and of checkpoints."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from textgen import metrics
from textgen.results.training import Validation

FinishReason = Literal["eos", "length", "stop", "blocked"]


@dataclass(frozen=True)
class Novelty:
    """What of a text stands word for word in another.

    longest_copied: characters of the longest such stretch. copied_share: of the characters, in
    stretches of a stated length or more. stretches: those, as (start, end) in characters.
    """

    longest_copied: int
    copied_share: float
    stretches: tuple[tuple[int, int], ...]

    @property
    def novelty(self) -> float:
        """The share of the characters that is in no such stretch."""
        return 1 - self.copied_share


@dataclass(frozen=True)
class Sample:
    """A text the model wrote.

    text excludes the prompt and the final ``<EOS>``, or the stop string, at which a sample ended;
    tokens and log_prob (natural, the raw model's) include those and exclude the prompt.
    stop: the stop string. prompt_unknown: the characters or words of the prompt that the model
    does not know. drawn: how often it was drawn until it was novel enough.
    """

    index: int
    text: str
    prompt: str
    log_prob: float
    tokens: int
    finish_reason: FinishReason
    seed: int
    stop: str | None = None
    prompt_unknown: tuple[str, ...] = ()
    novelty: Novelty | None = None
    drawn: int = 1

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(-self.log_prob / self.tokens) if self.tokens else float("nan")


@dataclass(frozen=True)
class Choice:
    """What may come next: a token, which has an id, or a word. log_prob: natural."""

    text: str
    log_prob: float
    id: int | None = None

    @property
    def probability(self) -> float:
        return math.exp(self.log_prob)


@dataclass(frozen=True)
class Prediction:
    """What may come after a prompt, the likeliest first.

    of: what the choices are. entropy: of the whole distribution, in bits; None where it is not
    known, as of words, of which there is no end.
    """

    prompt: str
    of: Literal["token", "word"]
    choices: tuple[Choice, ...]
    entropy: float | None

    @property
    def rest(self) -> float:
        """The probability of all that is not among the choices."""
        return max(0.0, 1 - math.fsum(choice.probability for choice in self.choices))


@dataclass(frozen=True)
class TokenizerSummary:
    """What a tokenizer learned from a corpus.

    unknown_rate: share of ``<UNK>`` among the validation part's tokens (the training
    part's, where there is no validation part).
    """

    level: str
    unit: str
    vocabulary_size: int
    tokens: int
    train_tokens: int
    valid_tokens: int
    sentences: int
    characters: int
    train_characters: int
    unknown_rate: float
    characters_per_token: float
    most_frequent: tuple[tuple[str, int], ...]
    fingerprint: str
    out: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint is, read from its JSON alone."""

    path: str
    name: str
    parameters: int
    bytes: int
    config: dict[str, Any]
    versions: dict[str, str]
    corpus: dict[str, Any]
    validation: Validation | None
    curve: tuple[Validation, ...] = field(default=())
    training_curve: tuple[tuple[int, float], ...] = field(default=())
