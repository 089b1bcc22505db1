"""Two language models as one: each word's probability is the mean of both.

What one model has not seen the other may know (Jelinek and Mercer 1980). Both are asked for the
same words, those that white space separates, and for the end of each sentence.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee

import numpy as np
import numpy.typing as npt

from textgen.config import MixingConfig
from textgen.errors import UsageError
from textgen.studies.reranking import Score

LogProbs = npt.NDArray[np.float64]
Words = Callable[[Iterable[str]], Iterator[LogProbs]]
"""ln p of each word of each sentence and, last, of its end; in order, as they come."""


def mixed(first: Words, second: Words, config: MixingConfig | None = None) -> Words:
    """p = (1 - m) p1 + m p2 of each word. config: has m, the second model's share.

    The result raises UsageError where the two give different numbers of words.
    """
    weight = (config or MixingConfig()).mix_weight

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        one, two = tee(sentences)
        for ours, theirs in zip(first(one), second(two), strict=True):
            if len(ours) != len(theirs):
                raise UsageError(
                    f"one model has {len(ours) - 1} words in a sentence, the other"
                    f" {len(theirs) - 1}",
                    fix="let both give those that white space separates",
                )
            yield _mean(ours, theirs, weight)

    return words


def sentence_sums(words: Words) -> Score:
    """The log-probability of whole sentences."""

    def score(sentences: Iterable[str]) -> Iterator[float]:
        for log_probs in words(sentences):
            yield float(log_probs.sum(dtype=np.float64))

    return score


def _mean(first: LogProbs, second: LogProbs, weight: float) -> LogProbs:
    if weight in (0, 1):
        return second if weight else first
    mean: LogProbs = np.logaddexp(first + np.log1p(-weight), second + np.log(weight))
    return mean
