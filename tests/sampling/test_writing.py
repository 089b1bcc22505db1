"""The text of a sample: what it may not hold, what ends it, and what is never cut in half."""

from collections.abc import Sequence
from typing import Any

import pytest

from textgen.config import SamplingConfig, TokenizerConfig
from textgen.results import FinishReason
from textgen.sampling.text import Rules, Writing
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

CHARACTERS = learn_tokenizer(TokenizerConfig(), [("the cats and a hat €é\n", False)])
SUBWORDS = learn_tokenizer(
    TokenizerConfig(level="subword", vocab_size=300), [("the cats and a hat\n" * 9, False)]
)
WORDS = learn_tokenizer(
    TokenizerConfig(level="word", min_count=1), [("the cats, the (hat) and\n", False)]
)


def writing(tokenizer: Tokenizer, prompt: str = "", **options: Any) -> Writing:
    config = SamplingConfig.from_options(options)
    rules = Rules(config, tokenizer.vocabulary_size)
    return Writing(rules, tokenizer.continuation(prompt).decoder, prompt)


def written(
    one: Writing, ids: Sequence[int], length: int | None = None
) -> tuple[list[str], FinishReason | None]:
    """The pieces that settle as these ids come, each of ln p -1, and why that ended."""
    pieces = []
    for place, id in enumerate(ids, start=1):
        finished = one.take(id) or ("length" if place == length else None)
        pieces.append(one.settle(-1.0, finished))
        if finished:
            return pieces, finished
    return pieces, None


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [int(id) for id in tokenizer.encode(text)]


def allowed(tokenizer: Tokenizer, one: Writing) -> set[str]:
    return {tokenizer.token(int(id)) for id in one.allowed().nonzero()[0]}


def test_without_stop_strings_every_character_settles_at_once() -> None:
    pieces, finished = written(writing(CHARACTERS), ids(CHARACTERS, "the cat"))
    assert (pieces, finished) == (list("the cat"), None)


def test_what_may_begin_a_stop_string_is_held_back_until_it_cannot() -> None:
    one = writing(CHARACTERS, stop=["hat", "cats"])
    pieces, finished = written(one, ids(CHARACTERS, "a cat and a hath"))
    assert pieces == [*"a ", "", "", "", *("cat ", "a", "n", "d", " ", "a", " "), "", "", ""]
    assert finished == "stop"
    assert (one.text, one.stop) == ("a cat and a ", "hat")
    assert (one.tokens, one.log_prob) == (15, -15)  # those of the stop string too


@pytest.mark.parametrize("tokenizer", [CHARACTERS, SUBWORDS, WORDS])
@pytest.mark.parametrize("stop", ["and", "s, th", " the", "(", "ats", "the"])
def test_a_stop_string_is_found_wherever_the_tokens_cut_it(tokenizer: Tokenizer, stop: str) -> None:
    text = "the cats, the (hat) and\n"
    if UNK in ids(tokenizer, text):
        text = "the cats and a hat\n"
    one = writing(tokenizer, stop=[stop])
    pieces, finished = written(one, ids(tokenizer, text))
    assert "".join(pieces) == one.text
    if stop in text:
        assert finished == "stop"
        assert one.text == text[: text.index(stop)]
        assert one.stop == stop
    else:
        assert finished is None
        assert text.startswith(one.text)


def test_of_two_stop_strings_that_end_at_once_the_longer_counts() -> None:
    one = writing(CHARACTERS, stop=["at", "hat"])
    assert written(one, ids(CHARACTERS, "a hat"))[1] == "stop"
    assert (one.text, one.stop) == ("a ", "hat")


def test_what_was_held_back_is_text_where_the_sample_ends() -> None:
    one = writing(CHARACTERS, stop=["hat"])
    pieces, _ = written(one, ids(CHARACTERS, "a ha"), length=4)
    assert pieces == ["a", " ", "", "ha"]


def test_a_stop_string_does_not_begin_in_the_prompt() -> None:
    one = writing(CHARACTERS, prompt="a ha", stop=["hat"])
    assert written(one, ids(CHARACTERS, "t the"))[1] is None


def test_a_character_is_never_cut_in_half() -> None:
    bytes_of = [2 + byte for byte in "a€".encode()]
    one = writing(SUBWORDS)
    assert written(one, bytes_of) == (["a", "", "", "€"], None)
    for length in (2, 3):
        one = writing(SUBWORDS)
        pieces, finished = written(one, bytes_of, length)
        assert "".join(pieces) == one.text == "a"
        assert finished == "length"
        assert (one.tokens, one.log_prob) == (1, -1.0)
    one = writing(SUBWORDS)
    written(one, bytes_of, 4)
    assert (one.text, one.tokens) == ("a€", 4)


def test_only_what_goes_on_with_a_character_may_come_within_it() -> None:
    one = writing(SUBWORDS)
    one.take(2 + "€".encode()[0])
    assert "<0x82>" in allowed(SUBWORDS, one)
    assert {"a", "<EOS>", "<0xE2>"}.isdisjoint(allowed(SUBWORDS, one))


def test_unknown_may_come_only_where_it_is_allowed() -> None:
    assert "<UNK>" not in allowed(CHARACTERS, writing(CHARACTERS))
    assert "<UNK>" in allowed(CHARACTERS, writing(CHARACTERS, allow_unk=True))


def test_what_would_complete_a_banned_string_may_not_come() -> None:
    one = writing(CHARACTERS, ban=["hat", "é"])
    assert "é" not in allowed(CHARACTERS, one)
    written(one, ids(CHARACTERS, "a ha"))
    assert "t" not in allowed(CHARACTERS, one)
    assert "n" in allowed(CHARACTERS, one)
    written(one, ids(CHARACTERS, "n"))
    assert "t" in allowed(CHARACTERS, one)


def test_a_banned_string_may_not_be_completed_across_the_prompts_end() -> None:
    assert "t" not in allowed(CHARACTERS, writing(CHARACTERS, prompt="a ha", ban=["hat"]))


def test_a_banned_newline_keeps_the_sentence_from_ending() -> None:
    assert "<EOS>" not in allowed(CHARACTERS, writing(CHARACTERS, ban=["\n"]))


def test_a_ban_knows_the_space_that_a_word_brings() -> None:
    one = writing(WORDS, ban=["the cats"])
    written(one, ids(WORDS, "the"))
    assert "cats" not in allowed(WORDS, one)
    assert "and" in allowed(WORDS, one)


def test_after_a_space_the_prompt_goes_on_with_what_takes_one() -> None:
    one = writing(WORDS, prompt="the ")
    assert "cats" in allowed(WORDS, one)
    assert "￭," not in allowed(WORDS, one)


def test_samples_of_the_same_rules_do_not_share_their_text() -> None:
    config = SamplingConfig(stop=("hat",), ban=("cat",))
    rules = Rules(config, CHARACTERS.vocabulary_size)
    decoder = CHARACTERS.decoder()
    one, other = (Writing(rules, decoder, "") for _ in range(2))
    written(one, ids(CHARACTERS, "a ca"))
    assert "t" not in allowed(CHARACTERS, one)
    assert "t" in allowed(CHARACTERS, other)
    assert (one.text, other.text) == ("a ca", "")


def test_the_mask_is_the_same_object_in_the_same_place() -> None:
    rules = Rules(SamplingConfig(ban=("cat",)), CHARACTERS.vocabulary_size)
    one, other = (Writing(rules, CHARACTERS.decoder(), "") for _ in range(2))
    assert one.allowed() is other.allowed()


def test_eos_that_ends_a_sample_is_counted_and_not_written() -> None:
    one = writing(CHARACTERS)
    written(one, ids(CHARACTERS, "a"))
    assert one.settle(-2.0, "eos") == ""
    assert (one.text, one.tokens, one.log_prob) == ("a", 2, -3.0)


def test_what_could_not_be_drawn_is_not_counted() -> None:
    one = writing(CHARACTERS, stop=["ab"])
    written(one, ids(CHARACTERS, "a"))
    assert one.settle(0.0, "blocked") == "a"
    assert (one.text, one.tokens) == ("a", 1)


def test_eos_within_a_sample_is_its_text() -> None:
    one = writing(CHARACTERS)
    written(one, [*ids(CHARACTERS, "a"), EOS, *ids(CHARACTERS, "a")])
    assert one.text == "a\na"
