"""Units of quality, by hand."""

import math

import pytest

from textgen import metrics
from textgen.results import Validation


@pytest.mark.parametrize(
    ("loss", "perplexity"),
    [(0, 1), (math.log(66), 66), (710, math.inf), (math.inf, math.inf), (math.nan, math.nan)],
)
def test_perplexity_is_e_to_the_loss_or_infinite(loss: float, perplexity: float) -> None:
    assert metrics.perplexity(loss) == pytest.approx(perplexity, nan_ok=True)


def test_bits_per_character_do_not_depend_on_how_the_text_is_tokenized() -> None:
    # Four characters of probability 1/8, 1/2, 1/4 and 1/4: 8 bits.
    by_character = sum(map(math.log, (1 / 8, 1 / 2, 1 / 4, 1 / 4)))
    by_word = math.log(1 / 8 * 1 / 2) + math.log(1 / 4 * 1 / 4)
    for log_prob in (by_character, by_word):
        assert metrics.bits_per_character(log_prob, 4) == pytest.approx(2)
    assert math.isnan(metrics.bits_per_character(-1.0, 0))


def test_surprisal_is_in_bits() -> None:
    assert metrics.surprisal(math.log(1 / 8)) == pytest.approx(3)
    assert metrics.surprisal(0.0) == 0


@pytest.mark.parametrize(
    ("base", "expected"), [(math.e, math.log(0.001)), (2, -9.965784), (10, -3), (7, -3.549884)]
)
def test_a_log_probability_in_each_base(base: float, expected: float) -> None:
    assert metrics.in_base(math.log(0.001), base) == pytest.approx(expected)


def test_a_validation_has_its_loss_in_three_units() -> None:
    # 100 tokens of 3 bits each over 150 characters.
    validation = Validation(loss=3 * math.log(2), tokens=100, characters=150)
    assert validation.perplexity == pytest.approx(8)
    assert validation.bits_per_character == pytest.approx(2)
