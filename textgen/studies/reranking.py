"""The hypotheses of a speech recogniser in a new order: a language model has its say.

The total is TheanoLM's and Kaldi's: language models are weighted in the logarithm (Kaldi's
``(1 - w) * old + w * new``), their sum is scaled, and what each word adds is not.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, tee
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from textgen.config import RerankingConfig
from textgen.results import RankedHypothesis, RankedUtterance, Utterance

Score = Callable[[Iterable[str]], Iterator[float]]
"""The natural log-probability of each sentence, ``<EOS>`` counted, in order, as they come."""

_Number = TypeVar("_Number", float, npt.NDArray[np.float64])


def rerank(
    utterances: Iterable[Utterance], score: Score, config: RerankingConfig | None = None
) -> Iterator[RankedUtterance]:
    """Each utterance's hypotheses, the best first; of equals, the first in the list.

    Utterances are read as ``score`` reads sentences, and given as soon as theirs are known.
    Raises UsageError where a weight is set and there is no old score to weigh against.
    """
    config = config or RerankingConfig()
    waiting, to_score = tee(utterances)
    log_probs = score(each.text for utterance in to_score for each in utterance.hypotheses)
    for utterance in waiting:
        scores = islice(log_probs, len(utterance.hypotheses))
        yield _ranked(utterance, list(scores), config)
    next(log_probs, None)  # raises what ended the utterances before their end


def mixed_score(old: _Number, new: _Number, weight: float) -> _Number:
    """The language models' score; one that has no weight does not count, though it be infinite."""
    if weight in (0, 1):
        return new if weight else old
    return (1 - weight) * old + weight * new


def total_score(acoustic: _Number, lm: _Number, words: _Number, config: RerankingConfig) -> _Number:
    """What hypotheses are ranked by. lm: what ``mixed_score`` gives."""
    total = acoustic + config.length_penalty * words
    return total + config.lm_scale * lm if config.lm_scale else total


def _ranked(
    utterance: Utterance, log_probs: list[float], config: RerankingConfig
) -> RankedUtterance:
    ranked = []
    for hypothesis, new in zip(utterance.hypotheses, log_probs, strict=True):
        weights = config.settled(old=hypothesis.lm is not None)
        assert weights.weight is not None
        lm = mixed_score(hypothesis.lm or 0.0, new, weights.weight)
        total = total_score(hypothesis.acoustic or 0.0, lm, float(hypothesis.words), weights)
        ranked.append(RankedHypothesis(hypothesis, new, lm, total))
    ranked.sort(key=lambda each: each.total, reverse=True)
    return RankedUtterance(utterance.id, tuple(ranked))
