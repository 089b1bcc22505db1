"""Results of training, sampling and scoring, frozen and typed.

Log-probabilities are natural and losses are in nats per token; surprisal and entropy are in bits.

A result that is ``pseudo`` comes from a bidirectional model, which predicts each token from all the
others: its sums are pseudo-log-likelihoods (Besag 1975; Salazar et al. 2020). They are
shown under other names (``presentation.numbers``), and are comparable only with one another.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from textgen import metrics


@dataclass(frozen=True)
class Validation:
    """One pass over the validation part in document context, ``<EOS>`` included."""

    loss: float
    tokens: int
    characters: int
    unknown: int = 0  # how many of the tokens are ``<UNK>``
    step: int = 0  # when in the run it was made, as are the seconds
    seconds: float = 0.0
    pseudo: bool = False

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        return metrics.bits_per_character(-self.loss * self.tokens, self.characters)


@dataclass(frozen=True)
class TrainingStep:
    """One update of the weights, or the few since the last log line."""

    step: int
    epoch: float
    loss: float  # the mean since the last log line
    learning_rate: float
    gradient_norm: float
    tokens_seen: int
    tokens_per_second: float
    progress: float  # of the run, 0 to 1
    seconds: float  # since the first step, of all parts of a resumed run together
    remaining_seconds: float
    memory_bytes: int | None = None  # of the process, where the system reports it


@dataclass(frozen=True)
class TrainingSample:
    """A short sample from the model during training."""

    step: int
    text: str


@dataclass(frozen=True)
class TrainingWarning:
    """A problem that the user may act on; training continues."""

    step: int
    text: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is complete on disk."""

    step: int
    name: str  # ``best`` or ``last``
    path: str


@dataclass(frozen=True)
class TrainingStart:
    """A run before its first step."""

    parameters: int
    vocabulary_size: int
    device: str
    precision: str
    description: str
    out: str
    resumed_step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedOption:
    """An option of a run, and the reason for its value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """The plan of a run."""

    options: tuple[PlannedOption, ...]
    parameters: int
    state_bytes: int  # of weights, gradients and the moments of the optimizer
    window_bytes: int  # an estimate of what one update needs besides
    tokens_per_second: float
    tokens: float  # of the whole run, as are the seconds
    seconds: float
    epochs: float
    vocabulary_size: int
    train_tokens: int
    device: str
    precision: str
    threads: int


TrainingEvent = (
    TrainingStart | TrainingStep | Validation | TrainingSample | TrainingWarning | CheckpointSaved
)


@dataclass(frozen=True)
class NgramBaseline:
    """The loss of a Kneser-Ney n-gram model on the validation part, or on its beginning."""

    order: int
    loss: float
    train_tokens: int
    valid_tokens: int


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run."""

    checkpoint: str
    steps: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float  # over the seconds of training steps only
    parameters: int
    validation: Validation | None  # of the best model; None if stopped before the first
    last_validation: Validation | None  # of the weights at the end, likewise
    uniform_loss: float  # ln(vocabulary), the loss of the uniform distribution
    interrupted: int | None = None  # the number of the signal that stopped the run
    ended_early: str | None = None  # why it ended before its time
    ngram: NgramBaseline | None = None  # None if the run was stopped
    peak_memory_bytes: int | None = None


FinishReason = Literal["eos", "length", "stop", "blocked"]


@dataclass(frozen=True)
class Novelty:
    """How much of a text occurs verbatim in another."""

    longest_copied: int  # characters of the longest copied stretch
    copied_share: float  # of characters, in stretches of at least a given length
    stretches: tuple[tuple[int, int], ...]  # those, as (start, end) in characters

    @property
    def novelty(self) -> float:
        return 1 - self.copied_share


@dataclass(frozen=True)
class Sample:
    """A generated text."""

    index: int
    text: str  # without the prompt, and without the final ``<EOS>`` or stop string
    prompt: str
    log_prob: float  # under the model without sampling rules, of the same tokens as ``tokens``
    tokens: int  # with the final ``<EOS>`` or stop string, without the prompt
    finish_reason: FinishReason
    seed: int
    stop: str | None = None  # the stop string that ended it
    prompt_unknown: tuple[str, ...] = ()  # characters or words that the model does not know
    novelty: Novelty | None = None
    drawn: int = 1  # how often it was drawn until it was novel enough

    @property
    def perplexity(self) -> float:
        return metrics.mean_perplexity(self.log_prob, self.tokens)


@dataclass(frozen=True)
class Choice:
    """A token, which has an id, or a word that may come next."""

    text: str
    log_prob: float
    id: int | None = None

    @property
    def probability(self) -> float:
        return math.exp(self.log_prob)


@dataclass(frozen=True)
class Prediction:
    """What may come after a prompt, or stand in its blank, the most probable first."""

    prompt: str
    of: Literal["token", "word"]
    choices: tuple[Choice, ...]
    entropy: float | None  # of the whole distribution, in bits; None for words, which have no end

    @property
    def rest(self) -> float:
        """The probability of all that is not among the choices."""
        return max(0.0, 1 - math.fsum(choice.probability for choice in self.choices))


@dataclass(frozen=True)
class TokenizerSummary:
    """What a tokenizer learned from a corpus."""

    level: str
    vocabulary_size: int
    tokens: int
    characters: int
    unknown_rate: float  # of the tokens held out; of those for training if none are
    fingerprint: str
    unit: str
    train_tokens: int
    valid_tokens: int
    sentences: int
    train_characters: int
    characters_per_token: float
    most_frequent: tuple[tuple[str, int], ...]
    out: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartScore:
    """A token, word or character of a sentence. The parts of a sentence sum to its score."""

    text: str  # its name; of an unknown token ``<UNK>``
    span: str  # its text with the space before it; joined, the spans are the sentence
    log_prob: float
    unknown: bool = False  # whether it contains an ``<UNK>``
    tokens: int = 1
    ends: bool = False  # whether it is the sentence's ``<EOS>``, not a text that spells it
    id: int | None = None  # of the first token, or of ``<EOS>``
    rank: int | None = None  # of a token, 1 for the most probable
    entropy: float | None = None  # of the distribution at its first token, in bits
    entropy_reduction: float | None = None  # since the part before, at least 0, bits (Hale 2006)
    alternatives: tuple[Choice, ...] = ()  # the most probable tokens in its place

    @property
    def surprisal(self) -> float:
        """-log2 p, in bits."""
        return metrics.surprisal(self.log_prob) + 0.0  # 0.0 for probability 1, not -0.0


@dataclass(frozen=True)
class ScoreSum:
    """Log-probabilities summed in float64 over some tokens."""

    log_prob: float = 0.0
    tokens: int = 0  # ``<EOS>`` included
    unknown: int = 0  # how many of them are ``<UNK>``
    unknown_log_prob: float = 0.0  # the sum of these
    characters: int = 0  # of the text, terminators included, as are the bytes
    words: int = 0  # between white space; each ``<EOS>`` is one, as usual in perplexity per word
    bytes: int = 0  # of the text in UTF-8
    spelled: bool = False  # whether ``log_prob`` includes the spelling of what is unknown
    pseudo: bool = False

    @property
    def perplexity(self) -> float:
        return metrics.mean_perplexity(self.log_prob, self.tokens)

    @property
    def perplexity_without_unknown(self) -> float:
        """Over the known tokens only, as KenLM's "excluding OOVs"."""
        known = self.tokens - self.unknown
        return metrics.mean_perplexity(self.log_prob - self.unknown_log_prob, known)

    @property
    def perplexity_per_word(self) -> float:
        return metrics.mean_perplexity(self.log_prob, self.words)

    @property
    def bits_per_character(self) -> float:
        return metrics.bits_per_character(self.log_prob, self.characters)

    @property
    def bits_per_byte(self) -> float:
        return metrics.bits_per_character(self.log_prob, self.bytes)

    @property
    def comparable(self) -> bool:
        """Whether ``log_prob`` is that of the text as written, unknown words included."""
        return self.spelled or not self.unknown

    def __add__(self, other: "ScoreSum") -> "ScoreSum":
        return ScoreSum(
            self.log_prob + other.log_prob,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            self.unknown_log_prob + other.unknown_log_prob,
            self.characters + other.characters,
            self.words + other.words,
            self.bytes + other.bytes,
            self.spelled or other.spelled,
            self.pseudo or other.pseudo,
        )


@dataclass(frozen=True)
class SentenceScore(ScoreSum):
    """The score of one sentence."""

    line: int = 0  # its number in the input, from 1
    text: str = ""
    prefix: str | None = None  # the text before it, if it is not a whole sentence
    parts: tuple[PartScore, ...] | None = None  # tokens, words or characters, if requested
    unknown_texts: tuple[str, ...] = ()  # the unknown words or characters, in order


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss, and when in the run it was measured."""

    step: int
    tokens: float  # until then, as are epochs and seconds; NaN where they were not recorded
    epochs: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class LossCurves:
    """The losses of a run."""

    checkpoint: str
    training: tuple[LossPoint, ...]  # each the mean since the point before
    validation: tuple[LossPoint, ...]
    pseudo: bool = False


@dataclass(frozen=True)
class Accuracy:
    """How many pairs are right."""

    right: int = 0
    pairs: int = 0
    tied: int = 0  # pairs of equal probability, which are not right

    @property
    def share(self) -> float:
        return self.right / self.pairs if self.pairs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson 1927)."""
        if not self.pairs:
            return math.nan, math.nan
        normal = 1.959963984540054  # the 97.5 % quantile of the normal distribution
        z2 = normal**2 / self.pairs
        middle = (self.share + z2 / 2) / (1 + z2)
        spread = self.share * (1 - self.share) / self.pairs + z2 / self.pairs / 4
        half = normal * math.sqrt(spread) / (1 + z2)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __add__(self, other: "Accuracy") -> "Accuracy":
        return Accuracy(self.right + other.right, self.pairs + other.pairs, self.tied + other.tied)
