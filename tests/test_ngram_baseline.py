"""The n-gram that a model is held against, worked by hand and on real text."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from textgen import ngram_baseline
from textgen.ngram_baseline import kneser_ney_loss, kneser_ney_probabilities


def test_the_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(ngram_baseline)
    assert tried > 0
    assert failed == 0


def test_the_bigrams_of_a_text_of_five_tokens_worked_by_hand() -> None:
    # Twice 01, twice 10, and 0 once after the mark: too few to estimate discounts from, so one is
    # taken from a count of 2 and a half from a count of 1.
    # Before 0 stood two things, before 1 one: p(0) = (2 - 1 + 1.5/2) / 3 and p(1) the rest.
    p_0, p_1 = 7 / 12, 5 / 12
    first = (1 - 0.5) / 1 + 0.5 * p_0  # 0, after the mark
    second = (2 - 1) / 2 + 1 / 2 * p_1  # 1, after 0
    third = 0 / 2 + 1 / 2 * p_1  # 1, after 1, which was never seen
    expected = -(math.log(first) + math.log(second) + math.log(third)) / 3
    loss = kneser_ney_loss(np.array([0, 1, 0, 1, 0]), np.array([0, 1, 1]), 2, 2)
    assert loss == pytest.approx(expected, abs=1e-12)


def test_three_discounts_are_estimated_from_the_counts_of_counts() -> None:
    # Four tokens once, two twice, one three times, one four times; token 8 and 9 never.
    ids = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 3, 4])
    # Y = 4 / (4 + 2*2); the discounts are 1 - 2Y 2/4, 2 - 3Y 1/2 and 3 - 4Y 1/1.
    once, twice, often = 0.5, 1.25, 1.0
    evenly = (4 * once + 2 * twice + 2 * often) / 10
    found = kneser_ney_probabilities(ids, np.array([0, 4, 6, 7, 9]), 1, 10)
    expected = np.array([1 - once, 2 - twice, 3 - often, 4 - often, 0]) + evenly
    np.testing.assert_allclose(found, expected / 15)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_sum_to_one_after_any_history(order: int) -> None:
    vocabulary_size = 5  # of which token 4 is never seen
    ids = np.random.default_rng(1).integers(0, 4, 300)
    for history in itertools.chain.from_iterable(
        itertools.product(range(vocabulary_size), repeat=length) for length in range(4)
    ):
        total = sum(
            kneser_ney_probabilities(ids, np.array([*history, token]), order, vocabulary_size)[-1]
            for token in range(vocabulary_size)
        )
        assert total == pytest.approx(1, abs=1e-12)


def test_only_the_end_of_the_training_part_and_the_beginning_of_the_other_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ngram_baseline, "TRAIN_TOKENS", 50)
    monkeypatch.setattr(ngram_baseline, "VALID_TOKENS", 20)
    drawn = np.random.default_rng(2).integers(0, 3, 200)
    whole = kneser_ney_loss(drawn[:100], drawn[100:], 3, 3)
    assert whole == kneser_ney_loss(drawn[50:100], drawn[100:120], 3, 3)
    assert whole != kneser_ney_loss(drawn[49:99], drawn[100:120], 3, 3)


def test_real_text_is_predicted_as_well_as_the_literature_s_model_does(corpora: Path) -> None:
    text = (corpora / "tinyshakespeare.txt").read_text(encoding="utf-8")
    symbols = {symbol: id for id, symbol in enumerate(sorted(set(text)), start=1)}
    ids = np.array([symbols[symbol] for symbol in text], np.uint16)
    boundary = int(0.9 * len(ids))
    loss = kneser_ney_loss(ids[:boundary], ids[boundary:], 6, len(symbols) + 1)
    assert 1.51 < loss < 1.55  # 1.543 by another estimate of the discounts
