"""Words: the joiner marks by hand, and the spacing given back exactly."""

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from textgen.config import TokenizerConfig
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.pretokenization import (
    LONGEST_CHUNK,
    ChunkStream,
    chunk_splitter,
    chunks,
    is_word_character,
    token_pattern,
)
from textgen.tokenizers.registry import learn_tokenizer


def learned(text: str, **options: object) -> Tokenizer:
    config = TokenizerConfig.from_options({"level": "word", "min_count": 1, **options})
    return learn_tokenizer(config, [(text, False)])


def tokens(text: str, **options: object) -> list[str]:
    tokenizer = learned(text, **options)
    return [tokenizer.token(id) for id in tokenizer.encode(text).tolist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said, "well-known (sic)."', 'He said ￭, "￭ well ￭-￭ known (￭ sic ￭) ￭. ￭"'),
        ("don't l’été rock'n'roll", "don't l’été rock'n'roll"),
        ("'tis the dogs'", "'￭ tis the dogs ￭'"),
        ("a , b", "a , b"),
        ("3.14 x_1", "3 ￭.￭ 14 x ￭_￭ 1"),
        ("a  b", "a ％0020 b"),
        (" a", "％0020 a"),
        ("a ", "a ％0020"),
        ("a\tb", "a ￭\t￭ b"),
        ("a￭b ￭", "a ￭％FFED￭ b ％FFED"),
        ("％FFED ％0020", "％￭ FFED ％￭ 0020"),
        ("e\u0301t हिन्दी", "e\u0301t हिन्दी"),
        ("", ""),
    ],
)
def test_a_line_becomes_words_and_marked_symbols(text: str, expected: str) -> None:
    assert tokens(text) == (expected.split(" ") if expected else [])


def test_an_empty_line_is_only_its_eos() -> None:
    assert tokens("a\n\n\nb\n") == ["a", "<EOS>", "<EOS>", "<EOS>", "b", "<EOS>"]
    assert tokens("\n\na") == ["<EOS>", "<EOS>", "a"]
    assert tokens(" \n") == ["％0020", "％0020", "<EOS>"]


def test_inside_a_paragraph_the_newline_is_a_token() -> None:
    text = "a b\nc\n\n\nd\n\n"
    assert tokens(text, unit="paragraph") == ["a", "b", "\n", "c", "<EOS>", "\n", "d", "<EOS>"]


def test_white_space_splitting_keeps_words_as_they_are() -> None:
    text = "No,\tno. \u2003 <EOS>\nend\n"
    tokenizer = learned(text, split="whitespace")
    assert tokens(text, split="whitespace") == ["No,", "no.", "<EOS>", "<EOS>", "end", "<EOS>"]
    assert tokenizer.encode("<EOS>").tolist() != [EOS]
    assert tokenizer.decode(tokenizer.encode(text)) == "No, no. <EOS>\nend\n"


@pytest.mark.parametrize("length", [LONGEST_CHUNK, LONGEST_CHUNK + 1, 5 * LONGEST_CHUNK + 7])
@pytest.mark.parametrize("symbol", ["a", ",", "a,"])
def test_an_endless_word_is_cut_and_joined_again(length: int, symbol: str) -> None:
    text = f"b {symbol * length} b\n"
    tokenizer = learned(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert all(len(tokenizer.token(id)) <= LONGEST_CHUNK for id in range(tokenizer.vocabulary_size))


def test_an_endless_word_is_cut_alike_wherever_its_pieces_end() -> None:
    text = "x" * 200_000 + "," * 70_000 + " end\n"
    tokenizer = learned(text)
    for size in (50_000, 99_999, 131_072):
        pieces = [(text[at : at + size], False) for at in range(0, len(text), size)]
        parts = [part.tolist() for part in tokenizer.encode_pieces(pieces)]
        assert list(chain.from_iterable(parts)) == tokenizer.encode(text).tolist()


def test_no_more_than_a_chunk_is_held_back() -> None:
    stream = ChunkStream(TokenizerConfig(level="word"))
    for _ in range(8):
        for _ in stream.feed("y" * 100_000):
            pass
    assert sum(len(block.text) for block in stream.finish()) <= 2**16


def test_a_word_has_one_id_whatever_stands_beside_it() -> None:
    tokenizer = learned('word "word" (word), word. word-word\n')
    assert sum(tokenizer.token(id) == "word" for id in range(tokenizer.vocabulary_size)) == 1
    assert tokenizer.encode('"word"').tolist()[1] == tokenizer.encode("word").tolist()[0]


def test_words_seen_once_are_unknown_by_default() -> None:
    config = TokenizerConfig(level="word")
    tokenizer = learn_tokenizer(config, [("the cat the dog\nthe cat\n", False)])
    assert [tokenizer.token(id) for id in range(2, tokenizer.vocabulary_size)] == ["the", "cat"]
    assert tokenizer.decode(tokenizer.encode("the dog, the cat\n")) == "the <UNK> <UNK> the cat\n"


def test_the_unk_literal_is_found_beside_symbols_but_not_inside_words() -> None:
    for split in ("punctuation", "whitespace"):
        found = tokens("a <unk> b <unk>\n", unk_literal="<unk>", split=split)
        assert found == ["a", "<UNK>", "b", "<UNK>", "<EOS>"]
    assert tokens("(unk), unknown", unk_literal="unk") == ["(￭", "<UNK>", "￭)", "￭,", "unknown"]
    tokenizer = learned("a<unk>b <unk>.\n", unk_literal="<unk>")
    assert tokenizer.decode(tokenizer.encode("a<unk>b <unk>.\n")) == "a<UNK>b <UNK>.\n"


def test_a_prompt_is_a_prefix_of_the_text_it_starts() -> None:
    tokenizer = learned("the king said, (so) the king\n" * 3)
    for prompt in ("the king", "the king ", "the king said", "the king said,"):
        start = tokenizer.continuation(prompt)
        whole = tokenizer.encode("the king said, (so)\n").tolist()
        assert whole[: len(start.ids)] == start.ids.tolist()
        written = "".join(start.decoder.feed(id) for id in whole[len(start.ids) :])
        assert prompt + written == "the king said, (so)\n"


def test_after_a_space_only_what_takes_a_space_can_come() -> None:
    tokenizer = learned("the king, the king\n")
    decoder = tokenizer.continuation("the ").decoder
    first = decoder.next_mask()
    assert first is not None
    allowed = {tokenizer.token(id) for id in range(tokenizer.vocabulary_size) if first[id]}
    assert allowed == {"<UNK>", "the", "king"}
    decoder.feed(tokenizer.encode("king").tolist()[0])
    assert decoder.next_mask() is None


def test_an_open_bracket_at_the_end_of_a_prompt_awaits_a_word() -> None:
    tokenizer = learned("a (b) (c) ( d\n")
    ids = tokenizer.continuation("a (").ids.tolist()
    assert [tokenizer.token(id) for id in ids] == ["a", "(￭"]


def test_rare_words_are_dropped_rather_than_memory_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.tokenizers.word._MOST_CHUNKS", 10)
    monkeypatch.setattr("textgen.tokenizers.word._MOST_TOKENS", 20)
    lines = [(f"often w{number}x\n", False) for number in range(200)]
    tokenizer = learn_tokenizer(TokenizerConfig(level="word", min_count=1), lines)
    assert tokenizer.encode("often").tolist() == [2]
    assert tokenizer.vocabulary_size <= 22
    assert tokenizer.notes


def test_forgetting_remembered_chunks_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.tokenizers.base.ChunkCache._MOST_CHUNKS", 3)
    text = "a b c d e f\na b c d\n"
    tokenizer = learned(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_war_and_peace_comes_back_whole(corpora: Path) -> None:
    text = (corpora / "war_and_peace_90.txt").read_text("utf-8")[:300_000]
    tokenizer = learned(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


_HOSTILE = st.text(
    st.sampled_from("ab1é\u0301Ж字'’.,-_￭％\t\u2003\x00\ud800\U0001f600   \n\n"), max_size=80
)


def one_by_one(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids by the definition: each chunk split and each of its tokens looked up."""
    config, ids = tokenizer.config, []
    symbols = {tokenizer.token(id): id for id in range(2, tokenizer.vocabulary_size)}
    split = chunk_splitter(config)
    for chunk in chain.from_iterable(chunks(config, [text])):
        ends_unit = bool(chunk) and chunk == tokenizer.terminator
        ids += [EOS] if ends_unit else [symbols.get(token, UNK) for token in split(chunk)]
    return ids


@pytest.mark.parametrize("unit", ["line", "paragraph", "document"])
@pytest.mark.parametrize("split", ["punctuation", "whitespace"])
@given(seen=_HOSTILE, text=_HOSTILE, literal=st.sampled_from([None, "a", "a'b", "-"]))
@example(seen="a ", text=" \n \n  \n\n\n\n a", literal=None)
@example(seen="''", text="'a'b''b' ’", literal=None)
def test_words_in_blocks_have_the_ids_of_words_one_by_one(
    split: str, unit: str, seen: str, text: str, literal: str | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textgen.tokenizers.word._SHORTEST_BLOCK", 0)
        patch.setattr("textgen.tokenizers.pretokenization._BLOCK_CHARACTERS", 16)
        tokenizer = learned(seen, split=split, unit=unit, unk_literal=literal)
        assert tokenizer.encode(text).tolist() == one_by_one(tokenizer, text)


@pytest.mark.parametrize("split", ["punctuation", "whitespace"])
@pytest.mark.parametrize("others", ["", "".join(map(chr, range(0x4E00, 0x5000)))])
def test_words_of_every_length_have_the_ids_of_words_one_by_one(split: str, others: str) -> None:
    words = [letter * length for length in range(1, 40) for letter in ("x", "é", "xé", "y")]
    words += ["x'" * 20 + "x", *others]
    tokenizer = learned(" ".join(words[::2]) + "\n", split=split)
    for longest in ("", " " + "x" * LONGEST_CHUNK, " " + "xy" * LONGEST_CHUNK):
        text = " ".join(words * 9) + longest + "\n"
        assert tokenizer.encode(text).tolist() == one_by_one(tokenizer, text)


def test_a_character_is_of_a_word_where_the_pattern_of_words_says_so() -> None:
    characters = "".join(map(chr, range(0x110000)))
    found = "".join(word for word, _ in token_pattern(False, None).findall(characters) if word)
    assert [c for c in characters if is_word_character(c)] == list(found)


@pytest.mark.parametrize("split", ["punctuation", "whitespace"])
def test_war_and_peace_has_the_ids_of_words_one_by_one(corpora: Path, split: str) -> None:
    text = (corpora / "war_and_peace_90.txt").read_text("utf-8")
    tokenizer = learned(text[:300_000], split=split)
    assert tokenizer.encode(text).tolist() == one_by_one(tokenizer, text)
