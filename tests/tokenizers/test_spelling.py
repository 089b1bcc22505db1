"""What stands behind <UNK>: learned with the vocabulary, stored with it, grown with it."""

import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers import spelling
from textgen.tokenizers import word as rare_words
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer, save_tokenizer
from textgen.tokenizers.spelling import SCALAR_VALUES
from textgen.tokenizers.word import WordTokenizer

TEXT = "walk walk talk talk, talk; walks talks (stalk)\nwalk, zoo￭ zoo café\n"
NEW = "walks walks talked talked gawk gawk newt\n"


def learned(text: str = TEXT, **options: object) -> WordTokenizer:
    config = TokenizerConfig.from_options({"level": "word", **options})
    tokenizer = learn_tokenizer(config, [(text, False)])
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer


def stored(tokenizer: Tokenizer, folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    save_tokenizer(tokenizer, folder)
    return {path.name: path for path in folder.iterdir()}


# What is learned


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=5))
def test_where_a_text_was_cut_changes_no_rare_word(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(TEXT)]
    pieces = [(TEXT[start:end], False) for start, end in pairwise(places)]
    tokenizer = learn_tokenizer(TokenizerConfig(level="word"), pieces)
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.rare == learned().rare


def test_of_very_many_known_words_an_even_choice_is_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = ["ab", "cd", "ef", "gh"]
    monkeypatch.setattr(spelling, "_MOST_WORDS", 3)
    few = spelling.WordSpelling(known, rare=["zz"])
    seen, left_out = few.log_probs(["efe", "cdc"])
    assert seen > left_out
    assert few.log_probs(known).tolist() == [-math.inf] * 4


def test_rare_words_are_kept_by_count_then_as_they_came() -> None:
    assert learned().symbols == ("talk", "walk", "zoo", "￭,")
    assert learned().rare == ("￭;", "walks", "talks", "(￭", "stalk", "￭)", "￭％FFED", "café")
    assert learned(vocab_size=4).rare[:3] == ("￭,", "zoo", "￭;")
    assert learned(min_count=1).rare == ()


def test_the_list_of_rare_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_words, "_MOST_RARE", 2)
    assert learned().rare == ("￭;", "walks")
    assert learned().extended(learned().config, [NEW]).rare == ("newt", "￭;")
    monkeypatch.setattr(rare_words, "_LONGEST_RARE", 4)
    assert learned("abcd abcde\n").rare == ("abcd",)


def test_a_known_word_has_no_spelling_and_any_other_has_one() -> None:
    model = learned().spelling
    assert model is not None
    known = model.log_probs(["walk", "￭,", ""])
    assert known.tolist() == [-math.inf] * 3
    unknown = model.log_probs(["walks", "walking", "Ж", "\U0010ffff" * 1024])
    assert np.isfinite(unknown).all()
    assert unknown[0] > unknown[1] > unknown[3]
    assert model.log_probs([]).shape == (0,)


@pytest.mark.parametrize("text", ["", "\n\n", "a a a\n"])
def test_a_text_without_rare_words_leaves_every_word_a_probability(text: str) -> None:
    model = learned(text).spelling
    assert model is not None
    assert np.isfinite(model.log_probs(["b", "aa"])).all()


def test_known_words_say_how_words_are_spelled() -> None:
    model = learned("nation station nation station\n").spelling
    assert model is not None
    ration, noitar = model.log_probs(["ration", "noitar"])
    assert ration > noitar + 3


def test_the_unknown_in_a_text_are_what_the_spelling_spells() -> None:
    tokenizer = learned()
    assert tokenizer.spelling is not None
    names = tokenizer.unknown_names("walks, gawk; café\n")
    assert names == ["walks", "gawk", "￭;", "café"]
    assert np.isfinite(tokenizer.spelling.log_probs(names)).all()


def test_a_literal_has_no_spelling() -> None:
    for level in ("char", "word", "subword"):
        config = TokenizerConfig.from_options({"level": level, "unk_literal": "<unk>"})
        tokenizer = learn_tokenizer(config, [(TEXT, False)])
        assert tokenizer.spelling is None
    assert learned(unk_literal="<unk>").rare == ()


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_unknown_characters_are_alike_and_add_up_to_one(unit: str) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig.from_options({"unit": unit}), [("ab\n\n", False)])
    model = tokenizer.spelling
    assert model is not None
    known = 3 if unit == "line" else 2  # the newline is <EOS>; in paragraphs it may come alone
    expected = -math.log(SCALAR_VALUES - known)
    assert model.log_probs(["c", "a", "Ж"]).tolist() == [expected, -math.inf, expected]
    assert (model.log_probs(["\n"])[0] == expected) == (unit == "paragraph")
    assert model.log_probs(["cd", ""]).tolist() == [-math.inf] * 2


def test_of_subwords_nothing_is_unknown() -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(level="subword", vocab_size=280), [(TEXT, False)])
    assert tokenizer.unknown_names("any ж\n") == []
    assert tokenizer.spelling is not None
    assert tokenizer.spelling.log_probs(["ж"]).tolist() == [-math.inf]


# What grows


def test_words_newly_known_leave_the_rare_and_words_newly_unknown_enter() -> None:
    old = learned()
    new = old.extended(old.config, [NEW])
    assert new.symbols == (*old.symbols, "gawk", "talked", "walks")
    assert new.rare == ("newt", *(word for word in old.rare if word != "walks"))
    full = old.extended(TokenizerConfig(level="word", vocab_size=len(old.symbols) + 3), [NEW])
    assert full.symbols == (*old.symbols, "gawk")
    assert full.rare[:3] == ("talked", "walks", "newt")
    assert len(set(full.rare)) == len(full.rare)


# What is stored


def test_a_spelling_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tokenizer = learned()
    again = load_tokenizer(stored(tokenizer, tmp_path))
    assert isinstance(again, WordTokenizer)
    assert again.rare == tokenizer.rare
    words = ["walks", "gawk", "Ж"]
    assert again.spelling is not None and tokenizer.spelling is not None
    assert again.spelling.log_probs(words).tolist() == tokenizer.spelling.log_probs(words).tolist()


def test_how_text_is_encoded_does_not_depend_on_rare_words() -> None:
    tokenizer = learned()
    assert WordTokenizer(tokenizer.config, tokenizer.symbols).fingerprint == tokenizer.fingerprint


def test_a_missing_list_of_rare_words_is_refused(tmp_path: Path) -> None:
    files = stored(learned(), tmp_path)
    files.pop(rare_words.RARE_WORDS_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"incomplete.*spelling\.json"):
        load_tokenizer(files)


def test_only_words_have_the_file(tmp_path: Path) -> None:
    for name, options in {
        "literal": {"level": "word", "unk_literal": "<unk>"},
        "characters": {"level": "char"},
    }.items():
        config = TokenizerConfig.from_options(options)
        files = stored(learn_tokenizer(config, [(TEXT, False)]), tmp_path / name)
        assert rare_words.RARE_WORDS_FILE not in files
        shutil.rmtree(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: [],
        lambda value: {**value, "format": True},
        lambda value: {**value, "format": 2},
        lambda value: {"format": 1},
        lambda value: {**value, "rare": "abc"},
        lambda value: {**value, "rare": ["a", "a"]},
        lambda value: {**value, "rare": [""]},
        lambda value: {**value, "rare": [1]},
        lambda value: {**value, "rare": ["\ud800"]},
        lambda value: {**value, "rare": ["walk"]},
    ],
)
def test_a_damaged_list_of_rare_words_is_refused(
    tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    files = stored(learned(), tmp_path)
    path = files[rare_words.RARE_WORDS_FILE]
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")
    with pytest.raises(CheckpointError, match=r"spelling\.json"):
        load_tokenizer(files)
