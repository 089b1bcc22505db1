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
    """One pass over the validation part in document context, ``<EOS>`` included.

    Attributes:
        unknown: The number of tokens that are ``<UNK>``.
        step, seconds: When in the run it was made.
    """

    loss: float
    tokens: int
    characters: int
    unknown: int = 0
    step: int = 0
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
    """One update of the weights, or the few since the last log line.

    Attributes:
        loss: Mean since the last log line.
        progress: 0 to 1.
        seconds: Since the first step, of all parts of a resumed run together.
        remaining_seconds: An estimate.
        memory_bytes: Of the process, where the system reports it.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_seen: int
    tokens_per_second: float
    progress: float
    seconds: float
    remaining_seconds: float
    memory_bytes: int | None = None


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
    """A checkpoint is complete on disk. name: ``best`` or ``last``."""

    step: int
    name: str
    path: str


@dataclass(frozen=True)
class TrainingStart:
    """A run before its first step."""

    parameters: int
    vocabulary_size: int
    train_tokens: int
    valid_tokens: int
    train_characters: int
    level: str
    device: str
    precision: str
    threads: int
    description: str
    out: str
    resumed_step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedOption:
    """An option of a run. reason: why it has this value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        state_bytes: Of weights, gradients and the moments of the optimizer.
        window_bytes: An estimate of what one update needs besides.
        tokens_per_second: As measured on this machine.
        tokens, seconds: Of the whole run.
    """

    options: tuple[PlannedOption, ...]
    parameters: int
    state_bytes: int
    window_bytes: int
    tokens_per_second: float
    tokens: float
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
    """The result of a run.

    Attributes:
        tokens_per_second: Over the seconds of training steps only.
        validation: Of the best model; None if the run was stopped before its first validation.
        last_validation: Of the weights at the end, likewise.
        uniform_loss: ln(vocabulary), the loss of the uniform distribution.
        interrupted: The number of the signal that stopped the run.
        ended_early: Why it ended before its time.
        ngram: None if the run was stopped.
        peak_memory_bytes: Of the process, where the system reports it.
    """

    checkpoint: str
    steps: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
    parameters: int
    validation: Validation | None
    last_validation: Validation | None
    uniform_loss: float
    interrupted: int | None = None
    ended_early: str | None = None
    ngram: NgramBaseline | None = None
    peak_memory_bytes: int | None = None


FinishReason = Literal["eos", "length", "stop", "blocked"]


@dataclass(frozen=True)
class Novelty:
    """How much of a text occurs verbatim in another.

    Attributes:
        longest_copied: The characters of the longest copied stretch.
        copied_share: The share of characters in stretches of at least a given length.
        stretches: Those stretches as (start, end), in characters.
    """

    longest_copied: int
    copied_share: float
    stretches: tuple[tuple[int, int], ...]

    @property
    def novelty(self) -> float:
        """The share of characters in no such stretch."""
        return 1 - self.copied_share


@dataclass(frozen=True)
class Sample:
    """A generated text.

    Attributes:
        text: Without the prompt, and without the final ``<EOS>`` or stop string.
        log_prob: Under the model without sampling rules, over the same tokens as ``tokens``.
        tokens: With the final ``<EOS>`` or the stop string, without the prompt.
        stop: The stop string that ended it.
        prompt_unknown: The characters or words of the prompt that the model does not know.
        drawn: How often it was drawn until it was novel enough.
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
    """What may come after a prompt, or stand in its blank, the most probable first.

    Attributes:
        of: What the choices are.
        entropy: Of the whole distribution, in bits; None for words, which have no end.
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

    Attributes:
        unknown_rate: The share of ``<UNK>`` in the tokens of the validation part, or of the
            training part if there is no validation part.
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


@dataclass(frozen=True, slots=True)
class PartScore:
    """A token, word or character of a sentence. The parts of a sentence sum to its score.

    Attributes:
        text: Its name; of an unknown token ``<UNK>``.
        span: Its text in the sentence, with the space before it; joined, the spans of all parts
            are the sentence.
        unknown: Whether it contains an ``<UNK>``.
        tokens: The number of its tokens.
        ends: Whether it is the ``<EOS>`` of the sentence, with the white space before that; a text
            that spells ``<EOS>`` is not.
        id: Of the first token, or of ``<EOS>``.
        rank: Of a token, 1 for the most probable.
        entropy: Of the distribution at its first token, in bits.
        entropy_reduction: The decrease since the part before, at least 0, in bits (Hale 2006).
        alternatives: The most probable tokens in its place.
    """

    text: str
    span: str
    log_prob: float
    unknown: bool = False
    tokens: int = 1
    ends: bool = False
    id: int | None = None
    rank: int | None = None
    entropy: float | None = None
    entropy_reduction: float | None = None
    alternatives: tuple[Choice, ...] = ()

    @property
    def surprisal(self) -> float:
        """-log2 p, in bits."""
        return metrics.surprisal(self.log_prob) + 0.0  # 0.0 for probability 1, not -0.0


@dataclass(frozen=True)
class ScoreSum:
    """Log-probabilities summed in float64 over some tokens.

    Attributes:
        tokens: ``<EOS>`` included.
        unknown: The number of them that are ``<UNK>``; ``unknown_log_prob`` is the sum of these.
        characters, bytes: Of the text in UTF-8, terminators included.
        words: White space separates them; each ``<EOS>`` is one, as usual in perplexity per word.
        spelled: Whether ``log_prob`` includes the spelling of what is unknown.
    """

    log_prob: float = 0.0
    tokens: int = 0
    unknown: int = 0
    unknown_log_prob: float = 0.0
    characters: int = 0
    words: int = 0
    bytes: int = 0
    spelled: bool = False
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
        """Comparable between models if ``comparable``."""
        return metrics.bits_per_character(self.log_prob, self.characters)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between models if ``comparable``."""
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
    """The score of one sentence.

    Attributes:
        line: Its number in the input, from 1.
        prefix: The text before it, if it is not a whole sentence.
        parts: Its tokens, words or characters, if requested.
        unknown_texts: The unknown words or characters of the text, in order.
    """

    line: int = 0
    text: str = ""
    prefix: str | None = None
    parts: tuple[PartScore, ...] | None = None
    unknown_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss, and when in the run it was measured.

    Attributes:
        tokens, epochs, seconds: Until then; NaN where they were not recorded.
    """

    step: int
    tokens: float
    epochs: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class LossCurves:
    """The losses of a run. training: each the mean since the point before."""

    checkpoint: str
    training: tuple[LossPoint, ...]
    validation: tuple[LossPoint, ...]
    pseudo: bool = False


@dataclass(frozen=True)
class Accuracy:
    """The number of pairs that are right. tied: pairs of equal probability, which are not right."""

    right: int = 0
    pairs: int = 0
    tied: int = 0

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
