"""The spelling of unknown symbols: learned, stored and grown with the vocabulary; sums to one."""

import math
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.config import TokenizerConfig
from textgen.tokenizers import spelling
from textgen.tokenizers import word as rare_words
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer, save_tokenizer
from textgen.tokenizers.spelling import SCALAR_VALUES, CharacterNgram, Floats, WordSpelling
from textgen.tokenizers.word import WordTokenizer

TEXT = "walk walk talk talk, talk; walks talks (stalk)\nwalk, zoo￭ zoo café\n"
NEW = "walks walks talked talked gawk gawk newt\n"


def learned(text: str = TEXT, **options: object) -> WordTokenizer:
    config = TokenizerConfig.from_options({"level": "word", **options})
    tokenizer = learn_tokenizer(config, [(text, False)])
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


def log_probs(tokenizer: Tokenizer, *words: str) -> list[float]:
    assert tokenizer.spelling is not None
    return tokenizer.spelling.log_probs(words).tolist()


# Rare words


def test_rare_words_are_by_count_then_in_order_of_occurrence() -> None:
    assert learned().symbols == ("talk", "walk", "zoo", "￭,")
    assert learned().rare == ("￭;", "walks", "talks", "(￭", "stalk", "￭)", "￭％FFED", "café")
    assert learned(vocab_size=4).rare[:3] == ("￭,", "zoo", "￭;")
    assert learned(min_count=1).rare == learned(unk_literal="<unk>").rare == ()


def test_the_list_of_rare_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_words, "_MOST_RARE", 2)
    assert learned().rare == ("￭;", "walks")
    assert learned().extended(learned().config, [NEW]).rare == ("newt", "￭;")
    monkeypatch.setattr(rare_words, "_LONGEST_RARE", 4)
    assert learned("abcd abcde\n").rare == ("abcd",)


def test_words_newly_known_leave_the_rare_and_words_newly_unknown_enter() -> None:
    old = learned()
    new = old.extended(old.config, [NEW])
    assert new.symbols == (*old.symbols, "gawk", "talked", "walks")
    assert new.rare == ("newt", *(word for word in old.rare if word != "walks"))
    full = old.extended(TokenizerConfig(level="word", vocab_size=len(old.symbols) + 3), [NEW])
    assert full.symbols == (*old.symbols, "gawk")
    assert full.rare[:3] == ("talked", "walks", "newt")
    assert len(set(full.rare)) == len(full.rare)


def test_rare_words_come_back_and_decide_no_id(tmp_path: Path) -> None:
    tokenizer = learned()
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer({path.name: path for path in tmp_path.iterdir()})
    assert isinstance(again, WordTokenizer)
    assert again.rare == tokenizer.rare
    words = ["walks", "gawk", "Ж"]
    assert log_probs(again, *words) == log_probs(tokenizer, *words)
    assert WordTokenizer(tokenizer.config, tokenizer.symbols).fingerprint == tokenizer.fingerprint


# The spelling of each level


def test_a_known_word_has_no_spelling_and_any_other_has_one() -> None:
    tokenizer = learned()
    assert log_probs(tokenizer, "walk", "￭,", "") == [-math.inf] * 3
    unknown = log_probs(tokenizer, "walks", "walking", "Ж", "\U0010ffff" * 1024)
    assert np.isfinite(unknown).all()
    assert unknown[0] > unknown[1] > unknown[3]
    assert log_probs(tokenizer) == []
    names = tokenizer.unknown_names("walks, gawk; café\n")
    assert names == ["walks", "gawk", "￭;", "café"]
    assert np.isfinite(log_probs(tokenizer, *names)).all()


@pytest.mark.parametrize("text", ["", "\n\n", "a a a\n"])
def test_a_text_without_rare_words_leaves_every_word_a_probability(text: str) -> None:
    assert np.isfinite(log_probs(learned(text), "b", "aa")).all()


def test_known_words_are_training_data_an_even_choice_if_they_are_very_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ration, noitar = log_probs(learned("nation station nation station\n"), "ration", "noitar")
    assert ration > noitar + 3
    known = ["ab", "cd", "ef", "gh"]
    monkeypatch.setattr(spelling, "_MOST_WORDS", 3)
    few = WordSpelling(known, rare=["zz"])
    seen, left_out = few.log_probs(["efe", "cdc"])
    assert seen > left_out
    assert few.log_probs(known).tolist() == [-math.inf] * 4


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_literal_has_no_spelling(level: str) -> None:
    config = TokenizerConfig.from_options({"level": level, "unk_literal": "<unk>"})
    assert learn_tokenizer(config, [(TEXT, False)]).spelling is None


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_unknown_characters_are_alike_and_add_up_to_one(unit: str) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig.from_options({"unit": unit}), [("ab\n\n", False)])
    known = 3 if unit == "line" else 2  # the newline is <EOS>; in paragraphs it may be unknown
    expected = -math.log(SCALAR_VALUES - known)
    assert log_probs(tokenizer, "c", "a", "Ж") == [expected, -math.inf, expected]
    assert (log_probs(tokenizer, "\n") == [expected]) == (unit == "paragraph")
    assert log_probs(tokenizer, "cd", "") == [-math.inf] * 2


def test_no_subword_is_unknown() -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(level="subword", vocab_size=280), [(TEXT, False)])
    assert tokenizer.unknown_names("any ж\n") == []
    assert log_probs(tokenizer, "ж") == [-math.inf]


# The n-gram model of characters: a probability for every string

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


@settings(max_examples=10)
@given(words_of_two_letters, st.integers(1, 6))
def test_the_probabilities_of_all_strings_add_up_to_one(words: list[str], order: int) -> None:
    model = CharacterNgram(words, order)
    assert mass_of_shorter(model) + mass_of_others(model) == pytest.approx(1, abs=1e-9)


@settings(max_examples=10)
@given(words_of_two_letters, words_of_two_letters)
def test_those_of_all_unknown_words_add_up_to_one(rare: list[str], known: list[str]) -> None:
    known = [word for word in known if len(word) < LONGEST and word not in rare]
    words = WordSpelling(known, rare)
    model = CharacterNgram([*rare, *known])
    strings = [each for length in range(LONGEST) for each in weighted_strings(length)]
    weights = np.array([weight for _, weight in strings])
    shorter = np.exp(words.log_probs([word for word, _ in strings])) @ weights
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


@settings(max_examples=10)
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
    monkeypatch.setattr(spelling, "_BATCH_WORDS", 7)
    assert CharacterNgram(shuffled).log_probs(words).tolist() == expected


def test_longer_contexts_are_used_where_they_were_seen() -> None:
    words = ["nation", "station", "ration", "relation", "motion", "potion", "lotion"]
    by_order = [CharacterNgram(words, order).log_probs(["notation"])[0] for order in (1, 2, 4)]
    assert by_order == sorted(by_order)
