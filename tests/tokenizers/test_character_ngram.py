"""A probability for every string, checked by adding all of them up."""

import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.tokenizers import spelling as character_ngram
from textgen.tokenizers.spelling import SCALAR_VALUES, CharacterNgram, Floats, WordSpelling

LONGEST = 4
words_of_two_letters = st.lists(st.text("ab", min_size=1, max_size=6), max_size=8, unique=True)


def characters(model: CharacterNgram, word: str) -> Floats:
    """ln of the probability of each character after those before it, then of the end."""
    return np.log(model._probabilities([word]))


def weighted_strings(length: int) -> list[tuple[str, float]]:
    """Strings of a, b and z, where z stands for every character but those two."""
    letters = map("".join, product("abz", repeat=length))
    return [(each, (SCALAR_VALUES - 2.0) ** each.count("z")) for each in letters]


def mass_of_shorter(model: CharacterNgram, leave_out: frozenset[str] = frozenset()) -> float:
    found = (each for length in range(LONGEST) for each in weighted_strings(length))
    kept = [(word, weight) for word, weight in found if word not in leave_out]
    probabilities = np.exp(model.log_probs([word for word, _ in kept]))
    return float(probabilities @ np.array([weight for _, weight in kept]))


def mass_of_others(model: CharacterNgram) -> float:
    """Of all strings that begin with one of this length, by what comes before their end."""
    return sum(
        math.exp(characters(model, word)[:-1].sum()) * weight
        for word, weight in weighted_strings(LONGEST)
    )


@settings(max_examples=10, deadline=None)
@given(words_of_two_letters, st.integers(1, 6))
def test_the_probabilities_of_all_strings_add_up_to_one(words: list[str], order: int) -> None:
    model = CharacterNgram(words, order)
    assert mass_of_shorter(model) + mass_of_others(model) == pytest.approx(1, abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(words_of_two_letters, words_of_two_letters)
def test_those_of_all_unknown_words_add_up_to_one(rare: list[str], known: list[str]) -> None:
    known = [word for word in known if len(word) < LONGEST and word not in rare]
    spelling = WordSpelling(known, rare)
    model = CharacterNgram([*rare, *known])
    strings = [each for length in range(LONGEST) for each in weighted_strings(length)]
    weights = np.array([weight for _, weight in strings])
    shorter = np.exp(spelling.log_probs([word for word, _ in strings])) @ weights
    is_unknown = 1 - np.exp(model.log_probs(["", *known])).sum()
    assert shorter + mass_of_others(model) / is_unknown == pytest.approx(1, abs=1e-9)


def test_a_model_of_pairs_by_hand() -> None:
    # Of "a": start-a and a-end once each, so that half of each count goes to the order below;
    # there a and the end come after one symbol each, and half of these goes to all characters.
    below = 0.5 / 2 + 0.5 / (SCALAR_VALUES + 1)
    one = 0.5 + 0.5 * below
    model = CharacterNgram(["a"], order=2)
    assert model.log_probs(["a"])[0] == pytest.approx(2 * math.log(one))
    # After what was never seen nothing is known but how often each symbol comes at all.
    unseen = 0.5 / (SCALAR_VALUES + 1)
    expected = math.log(0.5 * unseen) + math.log(below) + math.log(one)
    assert model.log_probs(["za"])[0] == pytest.approx(expected)


def test_a_discount_is_estimated_from_what_is_counted_once_and_twice() -> None:
    # Pairs: start-b, start-c, a-end, a-c, b-end once; start-a and c-end twice.
    of_pairs = 5 / (5 + 2 * 2)
    # Symbols: a and b come after one other each, c after two, the end after three.
    of_symbols = 2 / (2 + 2 * 1)
    below = (1 - of_symbols) / 7 + 4 * of_symbols / 7 / (SCALAR_VALUES + 1)
    first = (2 - of_pairs) / 4 + 3 * of_pairs / 4 * below
    model = CharacterNgram(["a", "b", "c", "ac"], order=2)
    assert characters(model, "a")[0] == pytest.approx(math.log(first))


def test_what_starts_a_word_counts_as_often_as_it_is_seen() -> None:
    # Pairs of three words: start-a twice, start-b once; a-b, a-c and c-end after one symbol each,
    # b-end after two. Symbols: a and c come after one other each, b and the end after two.
    of_pairs, of_symbols = 4 / (4 + 2 * 2), 2 / (2 + 2 * 2)
    below = (1 - of_symbols) / 6 + 4 * of_symbols / 6 / (SCALAR_VALUES + 1)
    first = (2 - of_pairs) / 3 + 2 * of_pairs / 3 * below
    model = CharacterNgram(["ab", "ac", "b"], order=3)
    assert characters(model, "a")[0] == pytest.approx(math.log(first))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=12))
def test_a_words_probability_is_its_characters_and_depends_on_no_other(words: list[str]) -> None:
    model = CharacterNgram(["spell", "spelling", "smell"])
    together = model.log_probs(words)
    assert together.dtype == np.float64
    alone = [float(characters(model, word).sum()) for word in words]
    assert together.tolist() == pytest.approx(alone)
    assert np.isfinite(together).all()


def test_the_order_of_the_words_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdeé", k=rng.randint(1, 9))) for _ in range(400)]
    words = sorted(set(words))
    expected = CharacterNgram(words).log_probs(words).tolist()
    rng.shuffle(shuffled := list(words))
    monkeypatch.setattr(character_ngram, "_BATCH_WORDS", 7)
    assert CharacterNgram(shuffled).log_probs(words).tolist() == expected


def test_longer_contexts_are_used_where_they_were_seen() -> None:
    words = ["nation", "station", "ration", "relation", "motion", "potion", "lotion"]
    by_order = [CharacterNgram(words, order).log_probs(["notation"])[0] for order in (1, 2, 4)]
    assert by_order == sorted(by_order)
