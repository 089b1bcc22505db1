"""Two models' words as one's, worked by hand."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice, repeat

import numpy as np
import pytest

from textgen.errors import UsageError
from textgen.studies.rerank.config import MixingConfig
from textgen.studies.rerank.mixing import LogProbs, Words, mixed, sentence_sums


def always(*probabilities: float) -> Words:
    """These for each sentence, whatever it is."""

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        with np.errstate(divide="ignore"):
            log_probs = np.log(np.array(probabilities))
        for _ in sentences:
            yield log_probs

    return words


def one(words: Words) -> list[float]:
    (log_probs,) = words(["a b"])
    return np.exp(log_probs).tolist()


def test_each_words_probability_is_the_mean_of_both() -> None:
    first, second = always(0.5, 0.2, 0.8), always(0.1, 0.4, 0.6)
    assert one(mixed(first, second)) == pytest.approx([0.3, 0.3, 0.7])
    quarter = mixed(first, second, MixingConfig(mix_weight=0.25))
    assert one(quarter) == pytest.approx([0.4, 0.25, 0.75])


def test_a_model_without_a_share_does_not_count_and_one_with_it_may_know_nothing() -> None:
    first, second = always(0.5, 0.2), always(0.0, 0.4)
    assert one(mixed(first, second, MixingConfig(mix_weight=0.0))) == pytest.approx([0.5, 0.2])
    assert one(mixed(first, second, MixingConfig(mix_weight=1.0))) == pytest.approx([0.0, 0.4])
    assert one(mixed(first, second)) == pytest.approx([0.25, 0.3])


def test_a_sentence_is_the_sum_of_its_words() -> None:
    score = sentence_sums(mixed(always(0.5, 0.2), always(0.1, 0.4)))
    assert list(score(["x", "y"])) == pytest.approx([2 * math.log(0.3)] * 2)


def test_sentences_are_mixed_as_they_come() -> None:
    score = sentence_sums(mixed(always(0.5), always(0.5)))
    assert list(islice(score(repeat("x")), 2)) == pytest.approx([math.log(0.5)] * 2)


def test_models_of_other_words_are_refused() -> None:
    with pytest.raises(UsageError, match="2 words in a sentence, the other 1"):
        one(mixed(always(0.5, 0.5, 0.5), always(0.5, 0.5)))


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(weight: float) -> None:
    with pytest.raises(UsageError, match=r"--mix-weight must lie in \[0, 1\]"):
        MixingConfig(mix_weight=weight)
