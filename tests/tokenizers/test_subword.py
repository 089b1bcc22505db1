"""Subwords: sentencepiece's own ids, and every text given back."""

import copy
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import TokenizerConfig, Unit
from textgen.errors import CheckpointError, UsageError
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer
from textgen.tokenizers.subword import FILE, SubwordTokenizer

UNITS: tuple[Unit, ...] = ("line", "paragraph", "document")
TEXT = "low lower lowest, slow slower\nnew newer  newest (wide)\n\nthe widest of the new\n" * 5
any_text = st.text(st.characters(exclude_categories=["Cs"]))
hard_text = st.text(st.sampled_from("low ▁▅  \n\n\0\1\t\r\ufeff\ufffd<unk>s\u2028é漢😀"))


def learned(text: str = TEXT, **options: object) -> Tokenizer:
    config = TokenizerConfig.from_options({"level": "subword", "vocab_size": 310, **options})
    return learn_tokenizer(config, [(text, False)])


TOKENIZERS = {unit: learned(unit=unit) for unit in UNITS}
BPE = {unit: learned(unit=unit, subword_model="bpe") for unit in UNITS}
both_models = st.sampled_from([TOKENIZERS, BPE])


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token(id) for id in tokenizer.encode(text).tolist()]


@given(st.one_of(any_text, hard_text), st.sampled_from(UNITS), both_models)
def test_decoding_gives_back_every_text(
    text: str, unit: Unit, models: dict[Unit, Tokenizer]
) -> None:
    tokenizer = models[unit]
    ids = tokenizer.encode(text).tolist()
    assert UNK not in ids
    assert tokenizer.decode(ids) == text
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == text


@given(st.lists(st.integers(0, TOKENIZERS["line"].vocabulary_size - 1)), st.sampled_from(UNITS))
def test_the_streaming_decoder_equals_decode_for_any_ids(ids: list[int], unit: Unit) -> None:
    tokenizer = TOKENIZERS[unit]
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == tokenizer.decode(ids)


def test_a_copied_decoder_goes_its_own_way() -> None:
    first, second, third = TOKENIZERS["line"].encode("é").tolist()[0], 2 + 0xA9, 2 + 0xA8
    decoder = TOKENIZERS["line"].decoder()
    assert decoder.feed(first) == ""
    other = copy.deepcopy(decoder)
    assert (decoder.feed(second), other.feed(third)) == ("é", "è")


@pytest.mark.parametrize("text", ["a b", "  ", "ab", "é", "\t", "▁ x", "漢字"])
@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_even_a_tiny_text_can_be_learned(text: str, model: str) -> None:
    tokenizer = learned(text, subword_model=model, vocab_size=None)
    for other in (text, " ", "▁", "other text\n"):
        assert tokenizer.decode(tokenizer.encode(other)) == other
    assert any("supports no more" in note for note in tokenizer.notes)


@pytest.mark.parametrize("model", ["unigram", "bpe"])
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
    assert tokens(TOKENIZERS["line"], "\n\n") == ["<EOS>", "<EOS>"]
    assert tokens(TOKENIZERS["paragraph"], "\n\n\n") == ["<EOS>", "<0x0A>"]
    assert tokens(TOKENIZERS["document"], "\n\n") == ["<0x0A>", "<0x0A>"]


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


@pytest.mark.parametrize("tokenizer", [TOKENIZERS["line"], BPE["line"]])
def test_a_long_line_has_the_ids_of_its_words(tokenizer: Tokenizer) -> None:
    words = " lower slower newest".replace(" ", "\0 ").split("\0")[1:] * 200  # 4,200 characters
    expected = list(chain.from_iterable(tokenizer.encode(word).tolist() for word in words))
    assert tokenizer.encode("".join(words)).tolist() == expected


@pytest.mark.parametrize("tokenizer", [TOKENIZERS["line"], BPE["line"]])
def test_ids_do_not_depend_on_the_lines_before(tokenizer: Tokenizer) -> None:
    lines = [*TEXT.splitlines(keepends=True), "▁ lower\n", "slow " * 300 + "\n"] * 100
    expected = list(chain.from_iterable(tokenizer.encode(line).tolist() for line in lines))
    assert tokenizer.encode("".join(lines)).tolist() == expected


def test_an_endless_word_is_cut_and_comes_back() -> None:
    text = "low" * 3000 + "▁" * 1500
    tokenizer = learned()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"PK\x03\x04", b"<html>", b"version https://git-lfs\n"]
)
def test_what_is_no_model_of_ours_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        SubwordTokenizer.load(TokenizerConfig(level="subword"), {FILE: path})


def test_a_foreign_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["low lower"] * 9), model_writer=model, vocab_size=11, minloglevel=2
    )
    path = tmp_path / FILE
    path.write_bytes(model.getvalue())
    with pytest.raises(CheckpointError, match="not one of textgen's"):
        SubwordTokenizer.load(TokenizerConfig(level="subword"), {FILE: path})
