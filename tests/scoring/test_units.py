import math

import numpy as np
import numpy.typing as npt
import pytest

from textgen.data.lines import Text
from textgen.results import ScoreSum, SentenceScore
from textgen.scoring.scorer import Prepared, sentence_score
from textgen.tokenizers.base import EOS, UNK


def prepared(ids: npt.NDArray[np.uint16], text: str = "") -> Prepared:
    """All scored; what is unknown is a question mark."""
    return Prepared(Text(3, text), ids, slice(None), ("?",) * len(ids))


def score(log_probs: list[float], ids: list[int], characters: int = 4) -> SentenceScore:
    """Of a text of so many characters, the newline counted."""
    text = "x" * (characters - 1)
    return sentence_score(prepared(np.array(ids, np.uint16), text), np.array(log_probs), "line")


def test_a_sentence_worked_by_hand() -> None:
    # p = 1/2 and 1/4, an unknown of 1/16, <EOS> of 1/2: 8 bits over 4 tokens.
    log_probs = [math.log(p) for p in (1 / 2, 1 / 4, 1 / 16, 1 / 2)]
    sentence = score(log_probs, [5, 6, UNK, EOS], characters=16)
    assert sentence.log_prob == pytest.approx(-8 * math.log(2))
    assert (sentence.tokens, sentence.unknown, sentence.characters) == (4, 1, 16)
    assert sentence.perplexity == pytest.approx(2 ** (8 / 4))
    assert sentence.perplexity_without_unknown == pytest.approx(2 ** (4 / 3))
    assert sentence.bits_per_character == pytest.approx(8 / 16)
    assert (sentence.line, sentence.text) == (3, "x" * 15)
    assert sentence.unknown_surfaces == ("?",)


def test_words_and_bytes_are_counted_with_the_end() -> None:
    text = " né à  Gand "
    ids = np.array([5, 5, EOS], np.uint16)
    sentence = sentence_score(prepared(ids, text), np.array([-3.0, -3.0, -2.0]), "line")
    assert (sentence.words, sentence.characters, sentence.bytes) == (4, 13, 15)
    assert sentence.perplexity_per_word == pytest.approx(math.exp(8 / 4))
    assert sentence.bits_per_byte == pytest.approx(8 / math.log(2) / 15)
    without = sentence_score(prepared(ids[:2], text), np.array([-3.0, -3.0]), "line")
    assert (without.tokens, without.words, without.characters, without.bytes) == (2, 3, 12, 14)


def test_a_text_is_comparable_unless_something_in_it_is_not_spelled() -> None:
    ids, log_probs = np.array([UNK, EOS], np.uint16), np.array([-1.0, -1.0])
    assert not sentence_score(prepared(ids), log_probs, "line").comparable
    assert sentence_score(prepared(ids), log_probs, "line", spelled=True).comparable
    assert score([-1.0], [EOS]).comparable


def test_a_sentence_of_unknown_alone_has_no_perplexity_without_them() -> None:
    sentence = score([-1.0, -2.0], [UNK, UNK])
    assert math.isnan(sentence.perplexity_without_unknown)
    assert sentence.perplexity == pytest.approx(math.exp(1.5))


def test_sums_add_what_they_count() -> None:
    one, other = score([-1.0, -2.0], [UNK, EOS]), score([-4.0], [EOS], characters=1)
    total = ScoreSum() + one + other
    assert total == ScoreSum(
        log_prob=-7.0,
        tokens=3,
        unknown=1,
        unknown_log_prob=-1.0,
        characters=5,
        words=3,
        bytes=5,
    )
    assert total.perplexity == pytest.approx(math.exp(7 / 3))
    assert total.perplexity_without_unknown == pytest.approx(math.exp(6 / 2))


def test_the_sum_over_nothing_is_nothing_and_has_no_perplexity() -> None:
    assert ScoreSum() + ScoreSum() == ScoreSum()
    assert math.isnan(ScoreSum().perplexity)
    assert math.isnan(ScoreSum().perplexity_without_unknown)
    assert math.isnan(ScoreSum().bits_per_character)


def test_a_million_improbable_tokens_neither_underflow_nor_lose_the_sum() -> None:
    count, log_prob = 1_000_000, math.log(1e-30)
    ids = np.full(count, 5, np.uint16)
    text = "x" * count
    sentence = sentence_score(prepared(ids, text), np.full(count, log_prob), "line")
    assert sentence.log_prob == pytest.approx(count * log_prob, rel=1e-12)
    assert sentence.perplexity == pytest.approx(1e30, rel=1e-9)
    assert sentence.bits_per_character == pytest.approx(30 * math.log2(10), rel=1e-12)


def test_small_differences_survive_a_long_sum() -> None:
    log_probs = np.full(1_000_000, -70.0)
    log_probs[::2] -= 1e-7
    ids = np.full(1_000_000, 5, np.uint16)
    total = sentence_score(prepared(ids), log_probs, "line").log_prob
    assert total + 70e6 == pytest.approx(-0.05, abs=1e-6)


def test_scores_of_1e30_have_an_infinite_perplexity_and_no_error() -> None:
    sentence = score([-1e30], [EOS])
    assert sentence.perplexity == math.inf
    assert math.isfinite(sentence.bits_per_character)
