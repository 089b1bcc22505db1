"""Characters: the order of the ids, the units, and the largest code points."""

from itertools import pairwise

import pytest

from textgen.config import TokenizerConfig
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.registry import learn_tokenizer


def learned(text: str, **options: object) -> Tokenizer:
    return learn_tokenizer(TokenizerConfig.from_options(options), [(text, False)])


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode(text).tolist()]


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.token(id) for id in range(tokenizer.vocabulary_size)]


def test_ids_are_by_descending_count_then_by_code_point() -> None:
    assert vocabulary(learned("ccc\nbb\naa\nd\n")) == ["<UNK>", "<EOS>", *"cabd"]
    whole = CharacterTokenizer.learn(TokenizerConfig(), ["aabé漢\n"])
    parts = CharacterTokenizer.learn(TokenizerConfig(), ["aa", "bé", "漢\n"])
    assert vocabulary(whole) == vocabulary(parts)
    assert whole.symbols[0] == "a"
    assert all(ord(a) < ord(b) for a, b in pairwise(whole.symbols[1:]))


def test_the_newline_is_eos_and_an_unseen_character_unk_and_their_names_are_text() -> None:
    tokenizer = learned("ab\n")
    assert tokenizer.encode("a\nz").tolist() == [2, EOS, UNK]
    assert tokenizer.decode([2, EOS, UNK]) == "a\n<UNK>"
    ids = learned("<EOS> <UNK>\n").encode("<EOS> <UNK>\n").tolist()
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
    assert tokens(learned("b\na\n\na\n", unit="paragraph"), text) == expected


def test_a_document_has_no_eos_inside() -> None:
    tokenizer = learned("a\n\nb\n", unit="document")
    assert tokens(tokenizer, "a\n\nb\n") == list("a\n\nb\n")
    pieces = [("a\n", False), ("b\n", True), ("a\n", True)]
    ids = [id for part in tokenizer.encode_pieces(pieces) for id in part.tolist()]
    assert [tokenizer.token(id) for id in ids] == [*"a\nb\n", "<EOS>", *"a\n", "<EOS>"]


@pytest.mark.parametrize(
    ("options", "learnable", "text", "expected"),
    [
        ({"min_count": 2}, "aab\n", "ab", ["a", "<UNK>"]),
        ({"unk_literal": "<unk>"}, "a<unk>b\n", "a<unk>b<", ["a", "<UNK>", "b", "<UNK>"]),
        ({}, "a\ud800\n", "a\ud800", ["a", "<UNK>"]),
    ],
)
def test_what_is_rare_or_a_literal_or_a_lone_surrogate_is_not_learned(
    options: dict[str, object], learnable: str, text: str, expected: list[str]
) -> None:
    assert tokens(learned(learnable, **options), text) == expected


@pytest.mark.parametrize("literal", ["a b", " ", "x\n", "\ud800"])
def test_an_unk_literal_that_is_not_one_word_is_refused(literal: str) -> None:
    with pytest.raises(UsageError):
        learned("a\n", unk_literal=literal)


def test_a_vocabulary_larger_than_a_byte_is_looked_up_whole() -> None:
    text = "".join(map(chr, range(0x100, 0x300))) + "az\n"
    tokenizer = learned(text)
    assert tokenizer.decode(tokenizer.encode("az")) == "az"
    assert sorted(tokenizer.encode(text).tolist()) == list(range(1, tokenizer.vocabulary_size))


def test_the_fingerprint_depends_on_what_decides_the_ids() -> None:
    learn = [("ab\n", {}), ("aab\n", {}), ("bba\n", {})]
    learn += [("ab\n", {"unit": "paragraph"}), ("ab\n", {"unk_literal": "x"})]
    prints = [learned(text, **options).fingerprint for text, options in learn]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_a_prompt_is_continued_from_its_own_ids() -> None:
    tokenizer = learned("ab\n")
    start = tokenizer.continuation("ab")
    assert start.ids.tolist() == tokenizer.encode("ab").tolist()
    assert start.decoder.feed(EOS) == "\n"
    assert start.decoder.next_mask() is None
