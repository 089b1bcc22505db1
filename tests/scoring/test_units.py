import math

import numpy as np
import pytest

from textgen.results import ScoreSum, SentenceScore
from textgen.scoring.units import nothing, sentence_score
from textgen.tokenizers.base import EOS, UNK


def score(log_probs: list[float], ids: list[int], characters: int = 4) -> SentenceScore:
    return sentence_score(
        3, "text", np.array(ids, np.uint16), np.array(log_probs), characters=characters
    )


def test_a_sentence_worked_by_hand() -> None:
    # p = 1/2 and 1/4, an unknown of 1/16, <EOS> of 1/2: 8 bits over 4 tokens.
    log_probs = [math.log(p) for p in (1 / 2, 1 / 4, 1 / 16, 1 / 2)]
    sentence = score(log_probs, [5, 6, UNK, EOS], characters=16)
    assert sentence.log_prob == pytest.approx(-8 * math.log(2))
    assert (sentence.tokens, sentence.unknown, sentence.characters) == (4, 1, 16)
    assert sentence.perplexity == pytest.approx(2 ** (8 / 4))
    assert sentence.perplexity_without_unknown == pytest.approx(2 ** (4 / 3))
    assert sentence.bits_per_character == pytest.approx(8 / 16)
    assert (sentence.line, sentence.text) == (3, "text")


def test_a_sentence_is_the_sum_of_its_tokens() -> None:
    log_probs = [-0.5, -1.25, -3.0]
    sentence = sentence_score(
        1,
        "ab",
        np.array([7, UNK, EOS], np.uint16),
        np.array(log_probs),
        characters=3,
        token={7: "a", UNK: "<UNK>", EOS: "<EOS>"}.__getitem__,
    )
    assert sentence.token_scores is not None
    assert sum(token.log_prob for token in sentence.token_scores) == sentence.log_prob == -4.75
    assert [token.token for token in sentence.token_scores] == ["a", "<UNK>", "<EOS>"]
    assert [token.id for token in sentence.token_scores] == [7, UNK, EOS]
    assert [token.unknown for token in sentence.token_scores] == [False, True, False]
    assert [token.surprisal * math.log(2) for token in sentence.token_scores] == pytest.approx(
        [0.5, 1.25, 3.0]
    )


def test_tokens_are_named_only_where_asked() -> None:
    assert score([-1.0], [EOS]).token_scores is None


def test_a_sentence_of_unknown_alone_has_no_perplexity_without_them() -> None:
    sentence = score([-1.0, -2.0], [UNK, UNK])
    assert math.isnan(sentence.perplexity_without_unknown)
    assert sentence.perplexity == pytest.approx(math.exp(1.5))


def test_sums_add_what_they_count() -> None:
    one, other = score([-1.0, -2.0], [UNK, EOS]), score([-4.0], [EOS], characters=1)
    total = nothing() + one + other
    assert total == ScoreSum(
        log_prob=-7.0, tokens=3, unknown=1, unknown_log_prob=-1.0, characters=5
    )
    assert total.perplexity == pytest.approx(math.exp(7 / 3))
    assert total.perplexity_without_unknown == pytest.approx(math.exp(6 / 2))


def test_the_sum_over_nothing_is_nothing_and_has_no_perplexity() -> None:
    assert nothing() + nothing() == nothing()
    assert math.isnan(nothing().perplexity)
    assert math.isnan(nothing().perplexity_without_unknown)
    assert math.isnan(nothing().bits_per_character)


def test_a_million_improbable_tokens_neither_underflow_nor_lose_the_sum() -> None:
    count, log_prob = 1_000_000, math.log(1e-30)
    sentence = sentence_score(
        1, "", np.full(count, 5, np.uint16), np.full(count, log_prob), characters=count
    )
    assert sentence.log_prob == pytest.approx(count * log_prob, rel=1e-12)
    assert sentence.perplexity == pytest.approx(1e30, rel=1e-9)
    assert sentence.bits_per_character == pytest.approx(30 * math.log2(10), rel=1e-12)


def test_small_differences_survive_a_long_sum() -> None:
    log_probs = np.full(1_000_000, -70.0)
    log_probs[::2] -= 1e-7
    ids = np.full(1_000_000, 5, np.uint16)
    total = sentence_score(1, "", ids, log_probs, characters=1).log_prob
    assert total + 70e6 == pytest.approx(-0.05, abs=1e-6)


def test_scores_of_1e30_have_an_infinite_perplexity_and_no_error() -> None:
    sentence = score([-1e30], [EOS])
    assert sentence.perplexity == math.inf
    assert math.isfinite(sentence.bits_per_character)
