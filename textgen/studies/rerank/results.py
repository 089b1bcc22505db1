"""What the studies of sentences return: reranked hypotheses, tuned weights, judged pairs."""

from dataclasses import dataclass

from textgen.studies.rerank.config import RerankingConfig


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
