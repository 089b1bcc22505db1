"""How frequent words are in a text that comes in pieces."""

import math

import pytest

from textgen.data.training_text import log_frequencies

TEXT = "The cat — the “cat”! — saw\tThe\ncat's 猫 (cat)."
COUNTS = {"the": 3, "cat": 3, "saw": 1, "cat's": 1, "猫": 1}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_words_are_counted_wherever_pieces_end(size: int) -> None:
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    found = log_frequencies(pieces, [*COUNTS, "dog", "c", "—", ""], spaced=True)
    total = sum(COUNTS.values())
    assert found == {word: math.log(count / total) for word, count in COUNTS.items()}


def test_case_and_punctuation_around_a_word_make_no_difference() -> None:
    found = log_frequencies([TEXT], ["THE", "(cat", "cat.", "the cat", "n't"], spaced=True)
    assert found == dict.fromkeys(["THE", "(cat", "cat."], math.log(3 / 9))


def test_what_stands_between_white_space_in_a_script_without_spaces_is_no_word() -> None:
    assert log_frequencies([TEXT], ["猫", "saw"], spaced=False).keys() == {"saw"}


def test_no_word_has_a_frequency_in_an_empty_text() -> None:
    assert log_frequencies([], ["a"], spaced=True) == {}
