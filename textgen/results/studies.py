"""What the studies of sentences return: reranked hypotheses, tuned weights, judged pairs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from textgen.config import RerankingConfig

_NORMAL_95 = 1.959963984540054  # 95 % of a normal distribution lie within so many deviations


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recogniser may have heard.

    id: as it stands in the list. text: without white space around it. acoustic: the
    recogniser's own score; lm: the old language model's; None: the list has none. Both are
    natural log-probabilities, however scaled: higher is better.
    """

    id: str
    text: str
    acoustic: float | None = None
    lm: float | None = None

    @property
    def words(self) -> int:
        """What white space separates."""
        return len(self.text.split())


@dataclass(frozen=True, slots=True)
class Utterance:
    """All that a recogniser may have heard in one piece of speech, in the list's order."""

    id: str
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True, slots=True)
class RankedHypothesis:
    """A hypothesis and what it is ranked by.

    log_prob: the new language model's, natural. lm: the old and the new together. total: of all
    scores, higher is better.
    """

    hypothesis: Hypothesis
    log_prob: float
    lm: float
    total: float


@dataclass(frozen=True, slots=True)
class RankedUtterance:
    """The hypotheses of an utterance, the best first."""

    id: str
    hypotheses: tuple[RankedHypothesis, ...]


@dataclass(frozen=True)
class TuningResult:
    """The weights at which the best hypotheses have the fewest word errors.

    wer_before: of the best by the old scores, or, in a list without any, by the new language
    model alone; wer_after: of the best by ``weights``; both as a part of the references' words.
    """

    weights: RerankingConfig
    wer_before: float
    wer_after: float
    words: int
    utterances: int


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
