import math

import pytest

from textgen import metrics


def test_perplexity_is_e_to_the_loss() -> None:
    assert metrics.perplexity(0.0) == 1
    assert metrics.perplexity(math.log(66)) == pytest.approx(66)


def test_a_loss_too_large_for_a_float_is_an_infinite_perplexity() -> None:
    assert metrics.perplexity(710.0) == math.inf
    assert metrics.perplexity(math.inf) == math.inf
    assert math.isnan(metrics.perplexity(math.nan))


def test_bits_a_character_by_hand() -> None:
    # Four characters of probability 1/8, 1/2, 1/4 and 1/4: 8 bits.
    log_prob = math.log(1 / 8) + math.log(1 / 2) + 2 * math.log(1 / 4)
    assert metrics.bits_per_character(log_prob, 4) == pytest.approx(2)


def test_bits_a_character_do_not_depend_on_how_the_text_was_cut() -> None:
    by_character = sum(math.log(p) for p in (0.5, 0.25, 0.5))
    by_word = math.log(0.5 * 0.25 * 0.5)
    assert metrics.bits_per_character(by_character, 3) == pytest.approx(
        metrics.bits_per_character(by_word, 3)
    )


def test_no_characters_have_no_bits() -> None:
    assert math.isnan(metrics.bits_per_character(-1.0, 0))


def test_surprisal_is_in_bits() -> None:
    assert metrics.surprisal(math.log(1 / 8)) == pytest.approx(3)
    assert metrics.surprisal(0.0) == 0


@pytest.mark.parametrize(
    ("base", "shown"), [(math.e, math.log(0.001)), (2, -9.965784), (10, -3), (7, -3.549884)]
)
def test_a_log_probability_in_each_base(base: float, shown: float) -> None:
    assert metrics.in_base(math.log(0.001), base) == pytest.approx(shown)
