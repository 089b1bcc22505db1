"""Which stretch of a text each id stands for, over every tokenizer and unit."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import TokenizerConfig, Unit
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.pretokenization import LONGEST_CHUNK
from textgen.tokenizers.registry import learn_tokenizer

UNITS: tuple[Unit, ...] = ("line", "paragraph", "document")
LEVELS: Mapping[str, Mapping[str, Any]] = {
    "char": {"level": "char"},
    "word": {"level": "word", "min_count": 1},
    "whitespace": {"level": "word", "min_count": 1, "split": "whitespace"},
    "unigram": {"level": "subword", "vocab_size": 290},
    "bpe": {"level": "subword", "vocab_size": 290, "subword_model": "bpe"},
}
TEXT = 'the ab 10 king said, (so) "the" café.\nwide wider widest €\n\nab b 1 <unk>\n' * 3
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hard_text = st.lists(
    st.sampled_from(
        [*"ab1  \n\n\n'’￭％.,-(\"\t\u00a0\u0301é\u2028F0D▁\0\ud7ff€😀", "<unk>", "0020"]
    ),
    max_size=30,
).map("".join)


@cache
def tokenizer(name: str, unit: Unit, literal: str | None = None) -> Tokenizer:
    options = {**LEVELS[name], "unit": unit, "unk_literal": literal}
    return learn_tokenizer(TokenizerConfig.from_options(options), [(TEXT, False)])


@pytest.mark.parametrize("literal", [None, "<unk>"])
@pytest.mark.parametrize("name", LEVELS)
@given(text=st.one_of(any_text, hard_text), unit=st.sampled_from(UNITS))
def test_each_id_has_its_stretch_of_the_text(
    name: str, literal: str | None, text: str, unit: Unit
) -> None:
    known = tokenizer(name, unit, literal)
    ids, token_texts = known.encode(text).tolist(), known.token_texts(text)
    assert len(token_texts) == len(ids)
    if name != "whitespace" or ids:
        assert "".join(token_texts) == text
    ends = [span for id, span in zip(ids, token_texts, strict=True) if id == EOS]
    assert all(known.terminator in end for end in ends)
    assert len(known.unknown_names(text)) == ids.count(UNK)


@pytest.mark.parametrize("name", ["char", "word", "whitespace"])
@given(text=st.one_of(any_text, hard_text), unit=st.sampled_from(UNITS))
def test_an_unknown_symbol_is_what_would_be_learned_from_the_text(
    name: str, text: str, unit: Unit
) -> None:
    known = tokenizer(name, unit)
    assert set(known.unknown_names(text)) == set(known.unknown_in(text))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("char", "ab\n?", ["a", "b", "\n", "?"]),
        ("char", "a<unk>b", ["a", "<unk>", "b"]),
        ("word", 'No,  (so) "x".\n', ["No", ",", " ", " (", "so", ")", ' "', "x", '"', ".", "\n"]),
        ("word", "\n y ", ["\n", "", " y", " "]),
        ("word", "a<unk>.\n", ["a", "", "<unk>", ".", "\n"]),
        ("whitespace", "\tNo,  so \n <unk>\u2003", ["\tNo,", "  so", " \n", " <unk>\u2003"]),
        ("whitespace", " \t", []),
        ("unigram", "\x02éж\n", ["\x02", "é", "", "ж", "\n"]),
    ],
)  # fmt: skip
def test_surfaces_by_hand(name: str, text: str, expected: list[str]) -> None:
    assert tokenizer(name, "line", "<unk>").token_texts(text) == expected


@pytest.mark.parametrize("name", LEVELS)
def test_a_blank_line_is_the_surface_of_a_paragraphs_end(name: str) -> None:
    known = tokenizer(name, "paragraph")
    text = "ab\n\n\nab\n\n"
    at = known.encode(text).tolist().index(EOS)
    assert known.token_texts(text)[at] == "\n\n"


@pytest.mark.parametrize("name", ["word", "whitespace"])
def test_a_very_long_word_has_the_surfaces_of_its_parts(name: str) -> None:
    text = "a " + "b" * (70 * LONGEST_CHUNK + 1) + " c"
    known = tokenizer(name, "line")
    token_texts = known.token_texts(text)
    assert len(token_texts) == len(known.encode(text))
    assert "".join(token_texts) == text
    assert len(known.unknown_names(text)) == known.encode(text).tolist().count(UNK)


def test_an_unknown_word_is_named_with_its_joiner_marks() -> None:
    known = tokenizer("word", "line")
    assert known.unknown_names("the zebra; [10]\n") == ["zebra", "￭;", "[￭", "￭]"]
    assert tokenizer("word", "line", "<unk>").unknown_names("the <unk> x") == ["<unk>", "x"]
