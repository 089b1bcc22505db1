"""Results of training, sampling and scoring, frozen and typed.

Log-probabilities are natural and losses are in nats per token; surprisal and entropy are in bits.

A result that is ``pseudo`` comes from a bidirectional model, which predicts each token from all the
others: its sums are pseudo-log-likelihoods (Besag 1975; Salazar et al. 2020). They are
shown under other names (``presentation.numbers``), and are comparable only with one another.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textgen import metrics
from textgen.config import Amount, Count, Loss
from textgen.errors import missing_package

if TYPE_CHECKING:
    import pandas

_SPECIAL_IDS = (0, 1)  # ``<UNK>`` and ``<EOS>`` of every vocabulary

_MOST_PLACES = 5


@dataclass(frozen=True)
class Validation:
    """One pass over the validation part in document context, ``<EOS>`` included."""

    loss: Loss
    tokens: Count
    characters: Count
    unknown: Count = 0  # how many of the tokens are ``<UNK>``
    step: Count = 0  # when in the run it was made, as are the seconds
    seconds: Amount = 0.0
    pseudo: bool = False

    @property
    def perplexity(self) -> float:
        return metrics.perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        return metrics.bits_per_character(-self.loss * self.tokens, self.characters)


PhaseName = Literal[
    "reading",
    "learning",  # a tokenizer
    "encoding",
    "loading",  # PyTorch, or the resumed run
    "measuring",  # the speed of the machine
    "counting",  # n-grams
    "validating",
    "saving",
    "baseline",
]


@dataclass(frozen=True)
class TrainingPhase:
    """What a run begins to do besides updates; while text is read, also how far it is."""

    name: PhaseName
    what: str = ""  # the text, or its size in tokens
    done: int = 0  # bytes while reading, else characters
    total: int | None = None  # where it is known


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a run: at its start, after the first update, every second, at the end."""

    step: int
    epoch: float
    loss: float  # the mean since the last log line; NaN before the first update
    learning_rate: float
    gradient_norm: float
    tokens_seen: int
    tokens_per_second: float
    progress: float  # of the run, 0 to 1
    seconds: float  # since the first step, of all parts of a resumed run together
    remaining_seconds: float
    memory_bytes: int | None = None  # of the process, where the system reports it
    next_validation: float = math.nan  # at which share of the run it is due, as far as known


@dataclass(frozen=True)
class TrainingStep(TrainingProgress):
    """A log line: one update of the weights, or the few since the last line."""


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
    name: str  # ``best``, ``last`` or ``at/5M``
    path: str


@dataclass(frozen=True)
class TrainingStart:
    """A run before its first step."""

    parameters: int | None  # None before the n-grams of the model have been counted
    vocabulary_size: int
    device: str
    precision: str
    description: str
    out: str
    resumed_step: int = 0
    notes: tuple[str, ...] = ()
    # Of a resumed run so far:
    losses: tuple[tuple[int, float], ...] = ()  # (step, training loss)
    validations: tuple[Validation, ...] = ()
    best: Validation | None = None


@dataclass(frozen=True)
class HeldOut:
    """The end of a file, or all of it, that is held out for validation.

    Attributes:
        line: The first line of it, from 1.
        characters: How many are held out.
    """

    source: str
    line: int
    characters: int


def held_out_text(parts: Sequence[HeldOut], characters: int) -> str:
    """The files and places of a validation part, and its share of all characters."""
    names = [each.source for each in parts]
    short = [Path(name).name for name in names]
    names = short if len(set(short)) == len(names) else names
    places = [
        f"{name} from line {each.line:,}"
        for name, each in zip(names[:_MOST_PLACES], parts, strict=False)
    ]
    more = f" and {len(names) - _MOST_PLACES:,} more files" if names[_MOST_PLACES:] else ""
    share = sum(each.characters for each in parts) / max(characters, 1)
    return f"{', '.join(places)}{more} ({share:.1%})" if places else ""


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
    held_out: tuple[HeldOut, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


TrainingEvent = (
    TrainingPhase
    | TrainingStart
    | TrainingProgress
    | Validation
    | TrainingSample
    | TrainingWarning
    | CheckpointSaved
)


@dataclass(frozen=True)
class NgramBaseline:
    """The loss of a Kneser-Ney n-gram model on the validation part, or on its beginning."""

    order: int
    loss: float
    train_tokens: int
    valid_tokens: int
    # Nats per token by which the best mixture with a trained LSTM, of one weight for all tokens,
    # predicts better than that alone.
    mixture_gain: float | None = None


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
    model: str = ""  # the kind
    same_text: tuple[str, ...] = ()  # arguments of ``train`` for the same text and tokens
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
    ids: tuple[int, ...] = ()  # of the tokens

    @property
    def perplexity(self) -> float:
        return metrics.mean_perplexity(self.log_prob, self.tokens)


@dataclass(frozen=True)
class Choice:
    """A token, which has an id, or a word that may come next."""

    text: str  # as a text has it; of a special token its name
    log_prob: float
    id: int | None = None
    token: str | None = None  # the entry of the vocabulary, such as ``￭,`` for a comma

    @property
    def probability(self) -> float:
        return math.exp(self.log_prob)

    @property
    def ends(self) -> bool:
        """Whether it is ``<EOS>``, not a text that spells it."""
        return self.id == _SPECIAL_IDS[1]


def by_text(choices: Iterable[Choice]) -> list[Choice]:
    """The choices with those of one text together, the most probable first.

    A vocabulary may have a symbol several times, as with and without a space beside it.
    """
    together: dict[tuple[str, bool], Choice] = {}
    for choice in choices:
        key = choice.text, choice.id in _SPECIAL_IDS
        first = together.get(key)
        if first is not None:
            total = first.probability + choice.probability
            choice = replace(first, log_prob=math.log(total) if total else -math.inf)
        together[key] = choice
    return sorted(together.values(), key=lambda choice: -choice.log_prob)


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
    most_frequent: tuple[tuple[str, int], ...]  # entries of the vocabulary
    most_frequent_texts: tuple[tuple[str, int], ...]  # their texts, each once
    out: str | None = None
    notes: tuple[str, ...] = ()
    held_out: tuple[HeldOut, ...] = ()


def _bits(log_prob: float) -> float:
    return metrics.surprisal(log_prob) + 0.0  # 0.0 for probability 1, not -0.0


@dataclass(frozen=True, slots=True)
class PartScore:
    """A token, word or character of a sentence. The parts of a sentence sum to its score."""

    text: str  # as a text has it; of a special token its name
    span: str  # its text with the space before it; joined, the spans are the sentence
    log_prob: float
    unknown: bool = False  # whether it contains an ``<UNK>``
    tokens: int = 1
    ends: bool = False  # whether it is the sentence's ``<EOS>``, not a text that spells it
    id: int | None = None  # of the first token, or of ``<EOS>``
    rank: int | None = None  # of a token, 1 for the most probable
    entropy: float | None = None  # of the distribution of its first token, in bits
    entropy_reduction: float | None = None  # since the part before, at least 0, bits (Hale 2006)
    alternatives: tuple[Choice, ...] = ()  # the most probable tokens, or words, in its place
    token: str | None = None  # of a token, its entry in the vocabulary
    surprisal: float = field(init=False, compare=False)  # -log2 p, in bits
    perplexity: float = field(init=False, compare=False)  # per token

    def __post_init__(self) -> None:
        object.__setattr__(self, "surprisal", _bits(self.log_prob))
        object.__setattr__(self, "perplexity", metrics.mean_perplexity(self.log_prob, self.tokens))


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
    # Fields, so that data frames and JSON have them.
    surprisal: float = field(init=False, compare=False)  # -log2 p, in bits
    perplexity: float = field(init=False, compare=False)  # per token

    def __post_init__(self) -> None:
        object.__setattr__(self, "surprisal", _bits(self.log_prob))
        object.__setattr__(self, "perplexity", metrics.mean_perplexity(self.log_prob, self.tokens))

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

    def to_frame(self) -> "pandas.DataFrame":
        """As ``SentenceScores.to_frame``."""
        return SentenceScores([self]).to_frame()

    def _repr_html_(self) -> str:
        return SentenceScores([self])._repr_html_()


class SentenceScores(list[SentenceScore]):
    """The scores of several sentences. A notebook shows their heat map."""

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame for pandas.

        Where the scores have parts, a row for each: ``line``, the ``number`` of the part in the
        sentence, from 1, and the fields of ``PartScore`` without its alternatives. Otherwise a
        row for each sentence, with the fields of ``SentenceScore`` that are numbers or texts.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise missing_package("to_frame()", "pandas", "pandas") from error
        if any(score.parts is not None for score in self):
            columns = [each.name for each in fields(PartScore) if each.name != "alternatives"]
            rows = [
                [score.line, number, *(getattr(part, name) for name in columns)]
                for score in self
                for number, part in enumerate(score.parts or (), start=1)
            ]
            return pandas.DataFrame(rows, columns=["line", "number", *columns])
        left_out = ("parts", "unknown_texts")
        columns = [each.name for each in fields(SentenceScore) if each.name not in left_out]
        rows = [[getattr(score, name) for name in columns] for score in self]
        return pandas.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        # By name, because presentation is a layer above: it is loaded where something is shown.
        html: str = import_module("textgen.presentation.html").heat_map(self)
        return html


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A loss, and when in the run it was measured."""

    step: Count
    loss: Loss
    tokens: Amount = math.nan  # until then, as are epochs and seconds; NaN if they are unknown
    epochs: Amount = math.nan
    seconds: Amount = math.nan


@dataclass(frozen=True)
class LossCurves:
    """The losses of a run.

    Attributes:
        training: Each the mean since the point before.
        kept: When checkpoints on the way were saved, by name (``at/5M``), in the order of steps.
    """

    checkpoint: str
    training: tuple[LossPoint, ...]
    validation: tuple[LossPoint, ...]
    pseudo: bool = False
    kept: tuple[tuple[str, LossPoint], ...] = ()


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
