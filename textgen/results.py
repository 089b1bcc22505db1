"""What training tells while it runs, before it begins and at its end.

What is known of texts, of tokenizers and of checkpoints.

How probable a text is: sums over sentences, and the parts of a sentence.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from textgen import metrics


@dataclass(frozen=True)
class Validation:
    """One pass over the whole validation part in document context.

    loss: nats a token, ``<EOS>`` included. unknown: how many of the tokens were ``<UNK>``.
    step, seconds: when in the run it was made. pseudo: whether each token was given what comes
    after it, too: then it is shown as ``pseudo_loss`` and compares with others such alone.
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
    """One update of the weights (or the few since the last log line).

    loss: nats a training token, mean since the last log line. progress: 0 to 1.
    seconds: since the first step, of all the parts of a resumed run together.
    remaining_seconds: what the run still takes, as far as can be told.
    memory_bytes: of the whole process, where the system tells.
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
    """A few words that the model writes while it learns."""

    step: int
    text: str


@dataclass(frozen=True)
class TrainingWarning:
    """Something a person should know while there is time to act; training goes on."""

    step: int
    text: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is whole on disk. name: ``best`` or ``last``."""

    step: int
    name: str
    path: str


@dataclass(frozen=True)
class TrainingStart:
    """What is about to be trained, said before the first step."""

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
    """One of a run's options. reason: why it has this value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run will be. state_bytes: weights, gradients and the optimizer's moments.

    window_bytes: roughly what one update holds besides. tokens, seconds: of the whole run;
    tokens_per_second was measured on this machine.
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
    """What a Kneser-Ney n-gram model reaches on the validation part, or on its beginning.

    loss: nats a token. train_tokens, valid_tokens: how many it learned from and was tried on.
    """

    order: int
    loss: float
    train_tokens: int
    valid_tokens: int


@dataclass(frozen=True)
class TrainingResult:
    """What a run of training reached.

    validation: of the best model. last_validation: of the weights at the end.
    Both are None in a run that was stopped before its first.
    tokens_per_second: training tokens over the seconds of training steps alone.
    uniform_loss: ln(vocabulary), what a model that knows nothing reaches.
    interrupted: the signal's number, where the run was stopped by one. ended_early: why it
    was ended before its time, where it was.
    ngram: what counting reaches; None in a run that was stopped.
    peak_memory_bytes: the most the process held, where the system tells.
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


@dataclass(frozen=True, slots=True)
class PartScore:
    """A part of a sentence as the model saw it coming: a token, a word or a character.

    The parts of a sentence add up to it; its ``<EOS>`` is the last of them.

    text: how it is called; of a token its name (``<UNK>`` where it is unknown). span: as it
    stands in the sentence, with what space is before it; the token_texts of all parts, joined, are
    the sentence. log_prob: natural. unknown: whether an ``<UNK>`` is in it. tokens: how many it
    has. ends: whether it is the sentence's ``<EOS>``, with what white space is before it; a text
    that spells ``<EOS>`` does not. id: of the first token, or of ``<EOS>``.

    entropy: of the distribution over what may come in its place, in bits; of several tokens, that
    before the first. entropy_reduction: by how much it is lower than at the part before, not less
    than 0 (Hale 2006), in bits. rank: of a token, the likeliest being 1. alternatives: the
    likeliest tokens in its place.
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
        return metrics.surprisal(self.log_prob) + 0.0  # of what is certain 0.0, not -0.0


@dataclass(frozen=True)
class ScoreSum:
    """Log-probabilities summed in float64 over some tokens.

    log_prob: natural. tokens: all, ``<EOS>`` included. unknown: those that are ``<UNK>``,
    with unknown_log_prob of the sum. characters, bytes: of the text in UTF-8, terminators
    included. words: what white space separates, and each ``<EOS>``, as in perplexities a word.
    spelled: whether the spelling of what is unknown is in log_prob. pseudo: whether each token
    was given all others of its sentence, those after it too: then the sum is no probability of the
    text but its pseudo-log-likelihood (Besag 1975; Salazar et al. 2020), and is shown as that.
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
        return metrics.perplexity(-self.log_prob / self.tokens) if self.tokens else float("nan")

    @property
    def perplexity_without_unknown(self) -> float:
        """Over the known tokens alone, as KenLM's "excluding OOVs"."""
        known = self.tokens - self.unknown
        if not known:
            return float("nan")
        return metrics.perplexity(-(self.log_prob - self.unknown_log_prob) / known)

    @property
    def perplexity_per_word(self) -> float:
        return metrics.perplexity(-self.log_prob / self.words) if self.words else float("nan")

    @property
    def bits_per_character(self) -> float:
        """Comparable between models where ``comparable``."""
        return metrics.bits_per_character(self.log_prob, self.characters)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between models where ``comparable``."""
        return metrics.bits_per_character(self.log_prob, self.bytes)

    @property
    def comparable(self) -> bool:
        """Whether log_prob is of the text as it is written: nothing unknown is left unspelled."""
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
    """How probable one sentence is. line: its number in the input, from 1.

    prefix: what it goes on from, where it is not a whole sentence.

    parts: its tokens, words or characters, where they were asked for. unknown_surfaces: what in
    the text is unknown, in its order.
    """

    line: int = 0
    text: str = ""
    prefix: str | None = None
    parts: tuple[PartScore, ...] | None = None
    unknown_surfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss in nats a token, and when in its run it was measured.

    tokens: seen until then. seconds, epochs: likewise; nan where the record does not tell.
    """

    step: int
    tokens: float
    epochs: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class LossCurves:
    """The training loss, mean since the point before, and the validation loss of a run.

    pseudo: whether they are of tokens predicted from both sides, which no true loss compares with.
    """

    checkpoint: str
    training: tuple[LossPoint, ...]
    validation: tuple[LossPoint, ...]
    pseudo: bool = False


_NORMAL_95 = 1.959963984540054  # 95 % of a normal distribution lie within so many deviations


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in what makes one of them good.

    line: in the file, from 1. fields: what else the file says of the pair.
    """

    line: int
    good: str
    bad: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairScore:
    """A pair and the natural log-probability of each side."""

    pair: Pair
    good_log_prob: float
    bad_log_prob: float

    @property
    def right(self) -> bool:
        """Whether the good one is the likelier; of two equally likely ones none is."""
        return self.good_log_prob > self.bad_log_prob

    @property
    def tied(self) -> bool:
        return self.good_log_prob == self.bad_log_prob


@dataclass(frozen=True)
class Accuracy:
    """How many of some pairs are right. tied: those equally likely, which are not right."""

    right: int = 0
    pairs: int = 0
    tied: int = 0

    @property
    def share(self) -> float:
        return self.right / self.pairs if self.pairs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The share's 95 % interval by Wilson's score (1927)."""
        if not self.pairs:
            return math.nan, math.nan
        z2 = _NORMAL_95**2 / self.pairs
        middle = (self.share + z2 / 2) / (1 + z2)
        spread = self.share * (1 - self.share) / self.pairs + z2 / self.pairs / 4
        half = _NORMAL_95 * math.sqrt(spread) / (1 + z2)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __add__(self, other: "PairScore") -> "Accuracy":
        return Accuracy(self.right + other.right, self.pairs + 1, self.tied + other.tied)
