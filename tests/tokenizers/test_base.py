"""What holds for every tokenizer: texts come back, and each id has its part of the text."""

import subprocess
import sys
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.config import TokenizerConfig, Unit
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.pretokenization import LONGEST_CHUNK
from textgen.tokenizers.registry import learn_tokenizer
from textgen.tokenizers.vocabulary import SymbolTokenizer

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
# What marks, spaces and reserved characters could be confused by, often enough to be adjacent.
hard_text = st.lists(
    st.sampled_from(
        [
            *"ab1  \n\n\n'’￭％.,-(\"\t\u00a0\u0301é\u2028F0D▁▅\0\1\r\ufeff\ufffd\ud7ff漢€😀",
            "<unk>",
            "0020",
        ]
    ),
    max_size=30,
).map("".join)
texts = st.one_of(any_text, hard_text)
units = st.sampled_from(UNITS)
each_level = pytest.mark.parametrize("name", LEVELS)


def learned(name: str, text: str, **options: Any) -> Tokenizer:
    config = TokenizerConfig.from_options({**LEVELS[name], **options})
    return learn_tokenizer(config, [(text, False)])


@cache
def known(name: str, unit: Unit = "line", literal: str | None = None) -> Tokenizer:
    return learned(name, TEXT, unit=unit, unk_literal=literal)


# Encoding


@pytest.mark.parametrize("name", ["char", "word", "unigram", "bpe"])
@given(text=texts, unit=units)
def test_decoding_gives_back_every_text(name: str, text: str, unit: Unit) -> None:
    of_any_text = LEVELS[name]["level"] == "subword"
    tokenizer = known(name, unit) if of_any_text else learned(name, text, unit=unit)
    ids = tokenizer.encode(text)
    assert UNK not in ids.tolist()
    assert ids.max(initial=0) < tokenizer.vocabulary_size
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text


@pytest.mark.parametrize("name", ["char", "word", "whitespace"])
@settings(max_examples=50)
@given(parts=st.lists(hard_text, max_size=5), unit=st.sampled_from(["line", "document"]))
def test_where_a_text_is_split_changes_no_id_and_no_symbol(
    name: str, parts: list[str], unit: Unit
) -> None:
    whole, pieces = "".join(parts), [(part, False) for part in parts]
    tokenizer = learned(name, whole, unit=unit, min_count=None)
    ids = [id for part in tokenizer.encode_pieces(pieces) for id in part.tolist()]
    assert ids == tokenizer.encode(whole).tolist()
    again = learn_tokenizer(tokenizer.config, pieces)
    assert again.fingerprint == tokenizer.fingerprint
    assert getattr(again, "rare", None) == getattr(tokenizer, "rare", None)


@each_level
@given(text=texts, unit=units, literal=st.sampled_from([None, "<unk>"]))
def test_each_id_has_its_part_of_the_text(
    name: str, text: str, unit: Unit, literal: str | None
) -> None:
    tokenizer = known(name, unit, literal)
    ids, token_texts = tokenizer.encode(text).tolist(), tokenizer.token_texts(text)
    assert len(token_texts) == len(ids)
    if name != "whitespace" or ids:
        assert "".join(token_texts) == text
    ends = [part for id, part in zip(ids, token_texts, strict=True) if id == EOS]
    assert all(tokenizer.terminator in end for end in ends)
    unknown = tokenizer.unknown_names(text)
    assert len(unknown) == ids.count(UNK)
    if literal is None:
        texts_of = tokenizer.symbol_text if isinstance(tokenizer, SymbolTokenizer) else str
        assert set(map(texts_of, unknown)) == set(tokenizer.unknown_in(text))


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
def test_token_texts_by_hand(name: str, text: str, expected: list[str]) -> None:
    assert known(name, "line", "<unk>").token_texts(text) == expected


@each_level
def test_a_blank_line_is_the_text_of_a_paragraphs_end(name: str) -> None:
    tokenizer, text = known(name, "paragraph"), "ab\n\n\nab\n\n"
    assert tokenizer.token_texts(text)[tokenizer.encode(text).tolist().index(EOS)] == "\n\n"


@pytest.mark.parametrize("name", ["word", "whitespace"])
def test_a_very_long_word_has_the_texts_of_its_parts(name: str) -> None:
    tokenizer, text = known(name), "a " + "b" * (70 * LONGEST_CHUNK + 1) + " c"
    ids, token_texts = tokenizer.encode(text).tolist(), tokenizer.token_texts(text)
    assert len(token_texts) == len(ids)
    assert "".join(token_texts) == text
    assert len(tokenizer.unknown_names(text)) == ids.count(UNK)


@each_level
def test_what_is_unknown_is_listed_once(name: str) -> None:
    tokenizer, text = known(name), "the ñ ñandú, ж said\n"
    unknown = tokenizer.unknown_in(text)
    assert bool(unknown) == (UNK in tokenizer.encode(text).tolist())
    assert len(set(unknown)) == len(unknown)
    assert all(tokenizer.encode(symbol).tolist() == [UNK] for symbol in unknown)
    assert tokenizer.unknown_in(TEXT) == ()


def test_an_unknown_word_is_named_with_its_joiner_marks() -> None:
    assert known("word").unknown_names("the zebra; [10]\n") == ["zebra", "￭;", "[￭", "￭]"]
    assert known("word", "line", "<unk>").unknown_names("the <unk> x") == ["<unk>", "x"]


@pytest.mark.parametrize("name", ["char", "word", "whitespace"])
def test_vocab_size_counts_the_special_tokens(name: str) -> None:
    tokenizer = learned(
        name, "a a a b b c\n".replace(" ", "" if name == "char" else " "), vocab_size=4
    )
    assert [tokenizer.token(id) for id in range(4)] == ["<UNK>", "<EOS>", "a", "b"]
    assert tokenizer.vocabulary_size == 4


def test_hashes_change_nothing_and_packages_are_imported_only_if_needed() -> None:
    code = (
        "import sys, textgen.data.encoded\n"
        "from textgen.config import TokenizerConfig as C\n"
        "from textgen.tokenizers.registry import learn_tokenizer as learn\n"
        "text = 'the cat, the dog\\nthe cow\\n'\n"
        "for level in ('char', 'word', 'subword'):\n"
        "    assert 'sentencepiece' not in sys.modules\n"
        "    print(learn(C(level=level), [(text, False)]).fingerprint)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command, environment = [sys.executable, "-c", code], {"PYTHONPATH": ":".join(sys.path)}
    outputs = {
        subprocess.check_output(command, env=environment | {"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


# Decoding


@each_level
@given(numbers=st.lists(st.integers(0, 10**6)), unit=units)
def test_the_streaming_decoder_equals_decode_for_any_ids(
    name: str, numbers: list[int], unit: Unit
) -> None:
    tokenizer = known(name, unit)
    ids = [number % tokenizer.vocabulary_size for number in numbers]
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == tokenizer.decode(ids)


@each_level
@pytest.mark.parametrize("prompt", ["", "the", "the ", "the king said,", "wide (", "€\n"])
def test_the_decoder_of_a_prompt_gives_the_text_that_it_announced(name: str, prompt: str) -> None:
    tokenizer = known(name)
    decoder = tokenizer.continuation(prompt).decoder
    for id in tokenizer.encode(TEXT).tolist():
        announced, within = decoder.next_bytes(), decoder.mid_character
        assert len(announced) == tokenizer.vocabulary_size
        text = decoder.feed(id)
        if not within and not decoder.mid_character:
            assert text.encode() == announced[id]


@each_level
def test_an_encoded_text_is_allowed_and_equal_contexts_have_equal_successors(name: str) -> None:
    tokenizer = known(name)
    decoder = tokenizer.decoder()
    by_context: dict[Hashable, tuple[object, object]] = {}
    by_joined: dict[bool, object] = {}
    for id in tokenizer.encode(TEXT).tolist():
        mask = decoder.next_mask()
        assert mask is None or mask[id]
        successors = (decoder.next_bytes(), None if mask is None else mask.tolist())
        assert by_context.setdefault(decoder.context, successors) == successors
        assert by_joined.setdefault(decoder.joined, successors[0]) == successors[0]
        decoder.feed(id)


@each_level
def test_a_copied_decoder_is_independent(name: str) -> None:
    tokenizer = learned(name, "the king café cafè\n" * 4)
    start = tokenizer.continuation("the ")
    ids = tokenizer.encode("the café king").tolist()[len(start.ids) :]
    for place in range(len(ids)):
        copy = start.decoder.copy()
        rest = [decoder.feed(ids[place]) for decoder in (copy, start.decoder)]
        assert rest[0] == rest[1]
        copy.feed(ids[0])
    assert not start.decoder.mid_character
