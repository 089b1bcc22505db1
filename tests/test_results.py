import dataclasses
import math

import pytest

from textgen.results import PartScore, Sample, Validation


def test_a_validation_tells_its_loss_in_three_units() -> None:
    # 100 tokens of 3 bits each over 150 characters.
    validation = Validation(loss=3 * math.log(2), tokens=100, characters=150)
    assert validation.perplexity == pytest.approx(8)
    assert validation.bits_per_character == pytest.approx(2)


def test_a_token_tells_its_surprisal_in_bits() -> None:
    assert PartScore("a", "a", math.log(1 / 16)).surprisal == pytest.approx(4)


def test_results_cannot_be_changed() -> None:
    sample = Sample(0, "text", "", -1.0, 1, "length", 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.text = "other"
