"""Subwords: sentencepiece's own ids, and every text given back."""

import io
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError, UsageError
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer
from textgen.tokenizers.subword import FILE, SubwordTokenizer

TEXT = "low lower lowest, slow slower\nnew newer  newest (wide)\n\nthe widest of the new\n" * 5
both_models = pytest.mark.parametrize("model", ["unigram", "bpe"])


@cache
def learned(text: str = TEXT, **options: Any) -> Tokenizer:
    config = TokenizerConfig.from_options({"level": "subword", "vocab_size": 310, **options})
    return learn_tokenizer(config, [(text, False)])


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode(text).tolist()]


@both_models
@pytest.mark.parametrize("text", ["a b", "  ", "ab", "é", "\t", "▁ x", "漢字"])
def test_even_a_tiny_text_can_be_learned(text: str, model: str) -> None:
    tokenizer = learned(text, subword_model=model, vocab_size=None)
    for other in (text, " ", "▁", "other text\n"):
        assert tokenizer.decode(tokenizer.encode(other)) == other
    assert any("supports no more" in note for note in tokenizer.notes)


@both_models
def test_the_ids_are_those_of_sentencepiece_on_whole_lines(model: str) -> None:
    tokenizer = learned(subword_model=model)
    assert isinstance(tokenizer, SubwordTokenizer)
    whole = tokenizer._processor.encode(TEXT.split("\n"), add_eos=True)
    assert tokenizer.encode(TEXT).tolist() == list(chain.from_iterable(whole))[:-1]


def test_special_ids_are_ours_and_literals_are_text() -> None:
    tokenizer = learned()
    assert [tokenizer.token(id) for id in (UNK, EOS, 2, 257)] == [
        "<UNK>", "<EOS>", "<0x00>", "<0xFF>",
    ]  # fmt: skip
    assert {UNK, EOS}.isdisjoint(tokenizer.encode("<unk> <UNK> </s> <EOS> <0x41>").tolist())


def test_newlines_are_eos_or_a_byte_by_unit() -> None:
    assert tokens(learned(), "\n\n") == ["<EOS>", "<EOS>"]
    assert tokens(learned(unit="paragraph"), "\n\n\n") == ["<EOS>", "<0x0A>"]
    assert tokens(learned(unit="document"), "\n\n") == ["<0x0A>", "<0x0A>"]


def test_a_vocabulary_too_small_for_bytes_says_the_least_size() -> None:
    with pytest.raises(UsageError, match=r"give at least \d+") as caught:
        learned(vocab_size=100)
    least = int(str(caught.value).rsplit(" ", 1)[1])
    assert learned(vocab_size=least).vocabulary_size == least
    with pytest.raises(UsageError):
        learned(vocab_size=least - 1)


def test_a_default_vocabulary_grows_for_a_script_of_many_characters() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 4200))) + "\n"
    assert learned(text, vocab_size=None).vocabulary_size > 4200


def test_rare_characters_are_bytes_with_min_count() -> None:
    tokenizer = learned(TEXT + "é\n", min_count=2)
    assert tokens(tokenizer, "é") == ["<0xC3>", "<0xA9>"]


def test_the_unk_literal_is_unk() -> None:
    tokenizer = learned(TEXT.replace("(wide)", "<unk>"), unk_literal="<unk>")
    assert tokenizer.encode("low <unk>!").tolist().count(UNK) == 1
    assert tokenizer.decode(tokenizer.encode("low <unk>!")) == "low <UNK>!"


def test_a_text_too_long_to_learn_from_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.tokenizers.subword._SAMPLE_CHARACTERS", 2000)
    config = TokenizerConfig(level="subword", vocab_size=300)
    pieces = [(TEXT, False)] * 50
    tokenizer = learn_tokenizer(config, pieces)
    assert any("one line in" in note for note in tokenizer.notes)
    assert tokenizer.fingerprint == learn_tokenizer(config, pieces).fingerprint
    one_line = [("low lower " * 300, False)]  # longer than the sample may be
    assert learn_tokenizer(config, one_line).vocabulary_size > 258


def test_a_space_at_the_end_of_a_prompt_belongs_to_the_next_piece() -> None:
    tokenizer = learned()
    start = tokenizer.continuation("the ")
    whole = tokenizer.encode("the widest").tolist()
    assert start.ids.tolist() == whole[: len(start.ids)]
    first = start.decoder.next_mask()
    assert first is not None
    assert first[whole[len(start.ids)]]
    assert not first[tokenizer.encode("the\n").tolist()[-1]]
    assert "the " + "".join(map(start.decoder.feed, whole[len(start.ids) :])) == "the widest"


def test_only_what_goes_on_with_a_half_written_character_fits() -> None:
    tokenizer = learned()
    byte = {value: 2 + value for value in range(256)}
    decoder = tokenizer.decoder()
    for come, fitting, others in [
        (b"", [0x41, 0xC3, 0xE2, 0xF0], [0x80, 0xBF, 0xC0, 0xC1, 0xF5, 0xFF]),
        (b"\xe2", [0x80, 0xBF], [0x41, 0xC3, 0xE2, 0xFF]),
        (b"\x82", [0x80, 0xAC], [0x41, 0xC3]),
        (b"\xac", [0x41, 0xC3], [0x80]),
        (b"\xe0", [0xA0], [0x80, 0x9F]),  # what could be said in fewer bytes is not UTF-8
        (b"\xa0\x80\xed", [0x80, 0x9F], [0xA0, 0xBF]),  # nor is a surrogate
    ]:
        text = "".join(decoder.feed(byte[value]) for value in come)
        assert text == {b"\xac": "€", b"\xa0\x80\xed": "\u0800"}.get(come, "")
        fits = decoder.next_mask()
        assert fits is not None
        assert all(fits[byte[value]] for value in fitting)
        assert not any(fits[byte[value]] for value in others)
        assert decoder.mid_character == (come not in (b"", b"\xac"))
        assert fits[EOS] == (not decoder.mid_character)


@both_models
@pytest.mark.parametrize(
    "parts",
    [
        [" lower", " slower", " newest"] * 200,  # a line of 4,200 characters
        [*TEXT.splitlines(keepends=True), "▁ lower\n", "slow " * 300 + "\n"] * 40,
    ],
    ids=["words", "lines"],
)
def test_ids_do_not_depend_on_the_words_and_lines_before(model: str, parts: list[str]) -> None:
    tokenizer = learned(subword_model=model)
    expected = list(chain.from_iterable(tokenizer.encode(part).tolist() for part in parts))
    assert tokenizer.encode("".join(parts)).tolist() == expected


def test_an_endless_word_is_cut_and_comes_back() -> None:
    text = "low" * 3000 + "▁" * 1500
    tokenizer = learned()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_is_no_model_of_textgen_is_refused(tmp_path: Path) -> None:
    model, path = io.BytesIO(), tmp_path / FILE
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["low lower"] * 9), model_writer=model, vocab_size=11, minloglevel=2
    )
    foreign = model.getvalue()
    for data in (b"", b"\0" * 100, b"PK\x03\x04", b"<html>", b"version https\n", foreign):
        path.write_bytes(data)
        with pytest.raises(
            CheckpointError, match="not one of textgen's" if data is foreign else None
        ):
            SubwordTokenizer.load(TokenizerConfig(level="subword"), {FILE: path})


def test_a_piece_longer_than_sentencepiece_learns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned().save(tmp_path)
    config, files = TokenizerConfig(level="subword"), {FILE: tmp_path / FILE}
    SubwordTokenizer.load(config, files)
    monkeypatch.setattr("textgen.tokenizers.subword._LONGEST_PIECE", 3)
    with pytest.raises(CheckpointError, match=r"damaged .* pieces are not as textgen learns them"):
        SubwordTokenizer.load(config, files)


def test_a_sum_of_1024_unigram_scores_is_exact_in_float32() -> None:
    config = TokenizerConfig(level="subword", vocab_size=300)
    tokenizer = SubwordTokenizer.learn(config, ["low lower\n", "so slow... a slow row!!\n"])
    scores = np.array([score for _, score in tokenizer.scored_pieces()])
    drawn = np.random.default_rng(0).choice(scores, (50, 1024))
    in_float32 = np.cumsum(drawn, axis=1, dtype=np.float32)
    assert (in_float32 == np.cumsum(drawn, axis=1, dtype=np.float64)).all()
