"""Characters: the ids' order, the units, and nothing lost."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import TokenizerConfig, Unit
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.registry import learn_tokenizer

UNITS: tuple[Unit, ...] = ("line", "paragraph", "document")
any_text = st.text(st.characters(exclude_categories=["Cs"]))
# Few symbols, so that newlines meet; bytes, UTF-16 and UTF-32 look-ups all take part.
narrow_text = st.text(st.sampled_from("ab\n\n\0é\u2028漢😀"))


def learned(text: str, **options: object) -> Tokenizer:
    return learn_tokenizer(TokenizerConfig.from_options(options), [(text, False)])


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode(text).tolist()]


def test_ids_go_by_descending_count_then_by_code_point() -> None:
    tokenizer = learned("ccc\nbb\naa\nd\n")
    assert [tokenizer.token(id) for id in range(tokenizer.vocabulary_size)] == [
        "<UNK>",
        "<EOS>",
        "c",
        "a",
        "b",
        "d",
    ]


def test_the_newline_is_eos_and_an_unseen_character_unk() -> None:
    tokenizer = learned("ab\n")
    assert tokenizer.encode("a\nz").tolist() == [2, EOS, UNK]
    assert tokenizer.decode([2, EOS, UNK]) == "a\n<UNK>"


def test_a_literal_eos_is_ordinary_text() -> None:
    tokenizer = learned("<EOS> <UNK>\n")
    ids = tokenizer.encode("<EOS> <UNK>\n").tolist()
    assert ids.index(EOS) == len(ids) - 1
    assert UNK not in ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n\nb", ["a", "<EOS>", "b"]),
        ("a\n\n\nb", ["a", "<EOS>", "\n", "b"]),
        ("a\nb\n\n\n\n", ["a", "\n", "b", "<EOS>", "<EOS>"]),
        ("\n", ["\n"]),
        ("\n\n", ["<EOS>"]),
    ],
)
def test_a_paragraph_ends_at_the_leftmost_pair_of_newlines(text: str, expected: list[str]) -> None:
    tokenizer = learned("b\na\n\na\n", unit="paragraph")
    assert tokens(tokenizer, text) == expected


def test_a_document_has_no_eos_inside() -> None:
    tokenizer = learned("a\n\nb\n", unit="document")
    assert tokens(tokenizer, "a\n\nb\n") == ["a", "\n", "\n", "b", "\n"]
    pieces = [("a\n", False), ("b\n", True), ("a\n", True)]
    ids = [id for part in tokenizer.encode_pieces(pieces) for id in part.tolist()]
    assert [tokenizer.token(id) for id in ids] == [
        "a",
        "\n",
        "b",
        "\n",
        "<EOS>",
        "a",
        "\n",
        "<EOS>",
    ]


@given(st.one_of(any_text, narrow_text), st.sampled_from(UNITS))
def test_decoding_gives_back_every_text_over_the_learned_symbols(text: str, unit: Unit) -> None:
    tokenizer = learned(text, unit=unit)
    ids = tokenizer.encode(text)
    assert UNK not in ids.tolist()
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.encode(text).max(initial=0) < tokenizer.vocabulary_size


@given(any_text, st.sampled_from(UNITS))
def test_the_streaming_decoder_equals_decode(text: str, unit: Unit) -> None:
    tokenizer = learned("abc\n", unit=unit)
    ids = tokenizer.encode(text).tolist()
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == tokenizer.decode(ids)


@given(st.lists(narrow_text), st.sampled_from(["line", "document"]))
def test_where_pieces_are_cut_changes_no_id(parts: list[str], unit: Unit) -> None:
    tokenizer = learned("".join(parts), unit=unit)
    pieces = [(part, False) for part in parts]
    ids = [id for part in tokenizer.encode_pieces(pieces) for id in part.tolist()]
    assert ids == tokenizer.encode("".join(parts)).tolist()


def test_min_count_leaves_rare_characters_out() -> None:
    tokenizer = learned("aab\n", min_count=2)
    assert tokens(tokenizer, "ab") == ["a", "<UNK>"]


def test_vocab_size_counts_the_special_tokens() -> None:
    tokenizer = learned("aaabbc\n", vocab_size=4)
    assert tokenizer.vocabulary_size == 4
    assert tokens(tokenizer, "abc") == ["a", "b", "<UNK>"]


def test_the_unk_literal_is_unk_and_teaches_no_symbol() -> None:
    tokenizer = learned("a<unk>b\n", unk_literal="<unk>")
    assert tokens(tokenizer, "a<unk>b") == ["a", "<UNK>", "b"]
    assert tokenizer.vocabulary_size == 4


@pytest.mark.parametrize("literal", ["a b", " ", "x\n", "\ud800"])
def test_an_unk_literal_that_is_not_one_word_is_refused(literal: str) -> None:
    with pytest.raises(UsageError):
        learned("a\n", unk_literal=literal)


def test_a_vocabulary_wider_than_a_byte_is_looked_up_whole() -> None:
    text = "".join(map(chr, range(0x100, 0x300))) + "az\n"
    tokenizer = learned(text)
    assert tokenizer.decode(tokenizer.encode("az")) == "az"
    assert sorted(tokenizer.encode(text).tolist()) == list(range(1, tokenizer.vocabulary_size))


def test_a_lone_surrogate_is_never_learned() -> None:
    tokenizer = learned("a\ud800\n")
    assert tokens(tokenizer, "a\ud800") == ["a", "<UNK>"]


def test_the_fingerprint_tells_what_decides_the_ids() -> None:
    prints = [
        learned("ab\n").fingerprint,
        learned("aab\n").fingerprint,
        learned("bba\n").fingerprint,
        learned("ab\n", unit="paragraph").fingerprint,
        learned("ab\n", unk_literal="x").fingerprint,
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_a_prompt_is_continued_from_its_own_ids() -> None:
    tokenizer = learned("ab\n")
    start = tokenizer.continuation("ab")
    assert start.ids.tolist() == tokenizer.encode("ab").tolist()
    assert start.decoder.feed(EOS) == "\n"
    assert start.decoder.next_mask() is None
    assert not start.decoder.mid_character


def test_hash_randomisation_changes_nothing() -> None:
    code = (
        "from textgen.config import TokenizerConfig as C\n"
        "from textgen.tokenizers.registry import learn_tokenizer as learn\n"
        "text = 'the cat, the dog\\nthe cow\\n'\n"
        "for level in ('char', 'word', 'subword'):\n"
        "    print(learn(C(level=level), [(text, False)]).fingerprint)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_no_torch_is_imported_and_sentencepiece_only_for_subwords() -> None:
    code = (
        "import sys, textgen.data.encoded, textgen.data.corpus\n"
        "assert not {'torch', 'sentencepiece'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_character_counts_of_pieces_add_up() -> None:
    whole = CharacterTokenizer.learn(TokenizerConfig(), ["aabé漢\n"])
    parts = CharacterTokenizer.learn(TokenizerConfig(), ["aa", "bé", "漢\n"])
    assert whole.fingerprint == parts.fingerprint
    counts = [whole.token(id) for id in range(2, whole.vocabulary_size)]
    assert counts[0] == "a"
    assert all(ord(a) < ord(b) for a, b in pairwise(counts[1:]))
