"""The text of a sample: what it may not hold, what ends it, and what is never cut in half."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from textgen.config import SamplingConfig, TokenizerConfig
from textgen.results import FinishReason
from textgen.sampling.automaton import Automaton
from textgen.sampling.constraints import ConstrainedText, TextRules
from textgen.sampling.sequence import NOTHING
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

CHARACTERS = learn_tokenizer(TokenizerConfig(), [("the cats and a hat €é\n", False)])
SUBWORDS = learn_tokenizer(
    TokenizerConfig(level="subword", vocab_size=300), [("the cats and a hat\n" * 9, False)]
)
WORDS = learn_tokenizer(
    TokenizerConfig(level="word", min_count=1), [("the cats, the (hat) and\n", False)]
)


def constrained(tokenizer: Tokenizer, prompt: str = "", **options: Any) -> ConstrainedText:
    config = SamplingConfig.from_options(options)
    rules = TextRules(config, tokenizer.vocabulary_size)
    return ConstrainedText(rules, tokenizer.continuation(prompt).decoder, prompt)


def written(
    one: ConstrainedText, ids: Sequence[int], length: int | None = None
) -> tuple[list[str], FinishReason | None]:
    """The complete pieces of text as these ids come, each of ln p -1, and why that ended."""
    pieces = []
    for place, id in enumerate(ids, start=1):
        piece, finished = one.append(id, -1.0, "length" if place == length else None)
        pieces.append(piece)
        if finished:
            return pieces, finished
    return pieces, None


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [int(id) for id in tokenizer.encode(text)]


def allowed(tokenizer: Tokenizer, one: ConstrainedText) -> set[str]:
    return {tokenizer.token(int(id)) for id in one.allowed().mask.nonzero()[0]}


def test_what_may_begin_a_stop_string_is_held_back_until_it_cannot() -> None:
    one = constrained(CHARACTERS, stop=["hat", "cats"])
    pieces, finished = written(one, ids(CHARACTERS, "a cat and a hath"))
    assert pieces == [*"a ", "", "", "", *("cat ", "a", "n", "d", " ", "a", " "), "", "", ""]
    assert finished == "stop"
    assert ("".join(pieces), one.stop) == ("a cat and a ", "hat")
    assert (one.tokens, one.log_prob) == (15, -15)  # those of the stop string too


@pytest.mark.parametrize("tokenizer", [CHARACTERS, SUBWORDS, WORDS])
@pytest.mark.parametrize("stop", ["and", "s, th", " the", "(", "ats", "the"])
def test_a_stop_string_is_found_wherever_the_tokens_cut_it(tokenizer: Tokenizer, stop: str) -> None:
    text = "the cats, the (hat) and\n"
    if UNK in ids(tokenizer, text):
        text = "the cats and a hat\n"
    one = constrained(tokenizer, stop=[stop])
    pieces, finished = written(one, ids(tokenizer, text))
    if stop in text:
        assert (finished, one.stop) == ("stop", stop)
        assert "".join(pieces) == text[: text.index(stop)]
    else:
        assert finished is None
        assert text.startswith("".join(pieces))


def test_of_two_stop_strings_that_end_at_once_the_longer_counts() -> None:
    one = constrained(CHARACTERS, stop=["at", "hat"])
    pieces, finished = written(one, ids(CHARACTERS, "a hat"))
    assert ("".join(pieces), finished, one.stop) == ("a ", "stop", "hat")


@pytest.mark.parametrize("tokenizer", [CHARACTERS, SUBWORDS, WORDS])
def test_a_text_that_ends_on_a_phrase_keeps_it_and_nothing_after_it(tokenizer: Tokenizer) -> None:
    one = constrained(tokenizer, end_on=["cats a", "cats"], stop=["hat"])
    pieces, finished = written(one, ids(tokenizer, "the cats and a hat"))
    assert ("".join(pieces), finished, one.stop) == ("the cats", "stop", None)
    one = constrained(tokenizer, end_on=["cats and"], stop=["cats"])
    assert "".join(written(one, ids(tokenizer, "the cats and"))[0]).rstrip() == "the"


def test_what_was_held_back_is_text_where_the_sample_ends() -> None:
    one = constrained(CHARACTERS, stop=["hat"])
    pieces, _ = written(one, ids(CHARACTERS, "a ha"), length=4)
    assert pieces == ["a", " ", "", "ha"]


def test_a_stop_string_does_not_begin_in_the_prompt() -> None:
    one = constrained(CHARACTERS, prompt="a ha", stop=["hat"])
    assert written(one, ids(CHARACTERS, "t the"))[1] is None


def test_a_character_is_never_cut_in_half() -> None:
    bytes_of = [2 + byte for byte in "a€".encode()]
    one = constrained(SUBWORDS)
    assert written(one, bytes_of) == (["a", "", "", "€"], None)
    for length in (2, 3):
        one = constrained(SUBWORDS)
        pieces, finished = written(one, bytes_of, length)
        assert ("".join(pieces), finished) == ("a", "length")
        assert (one.tokens, one.log_prob) == (1, -1.0)
    one = constrained(SUBWORDS)
    assert "".join(written(one, bytes_of, 4)[0]) == "a€"
    assert one.tokens == 4


def test_only_what_goes_on_with_a_character_may_come_within_it() -> None:
    one = constrained(SUBWORDS)
    one.append(2 + "€".encode()[0], -1.0, None)
    assert "<0x82>" in allowed(SUBWORDS, one)
    assert {"a", "<EOS>", "<0xE2>"}.isdisjoint(allowed(SUBWORDS, one))


@pytest.mark.parametrize(
    ("tokenizer", "options", "prompt", "text", "excluded", "included"),
    [
        pytest.param(CHARACTERS, {}, "", "", "<UNK>", "a", id="unknown"),
        pytest.param(CHARACTERS, {"allow_unk": True}, "", "", None, "<UNK>", id="unknown allowed"),
        pytest.param(CHARACTERS, {"ban": ["hat", "é"]}, "", "", "é", "t", id="one character"),
        pytest.param(CHARACTERS, {"ban": ["hat", "é"]}, "", "a ha", "t", "n", id="the last of it"),
        pytest.param(CHARACTERS, {"ban": ["hat", "é"]}, "", "a han", "é", "t", id="no more"),
        pytest.param(CHARACTERS, {"ban": ["hat"]}, "a ha", "", "t", "n", id="across the prompt"),
        pytest.param(CHARACTERS, {"ban": ["\n"]}, "", "", "<EOS>", "a", id="end of a sentence"),
        pytest.param(WORDS, {"ban": ["the cats"]}, "", "the", "cats", "and", id="space of a word"),
        pytest.param(WORDS, {}, "the ", "", "￭,", "cats", id="after a space"),
    ],
)
def test_what_may_not_come(
    tokenizer: Tokenizer,
    options: dict[str, Any],
    prompt: str,
    text: str,
    excluded: str | None,
    included: str,
) -> None:
    """Unknown; what completes a banned string; what cannot follow a space."""
    one = constrained(tokenizer, prompt, **options)
    written(one, ids(tokenizer, text))
    assert excluded not in allowed(tokenizer, one)
    assert included in allowed(tokenizer, one)


def test_samples_of_the_same_rules_do_not_share_their_text() -> None:
    rules = TextRules(SamplingConfig(stop=("hat",), ban=("cat",)), CHARACTERS.vocabulary_size)
    one, other = (ConstrainedText(rules, CHARACTERS.decoder(), "") for _ in range(2))
    copied = one.copy()
    assert "".join(written(one, ids(CHARACTERS, "a ca"))[0]) == "a ca"
    assert "t" not in allowed(CHARACTERS, one)
    for each in (other, copied):
        assert "t" in allowed(CHARACTERS, each)
        assert each.tokens == 0


def test_equal_masks_have_equal_keys_and_others_have_not() -> None:
    rules = TextRules(SamplingConfig(ban=("cat",)), CHARACTERS.vocabulary_size)
    texts = {
        prompt: ConstrainedText(rules, CHARACTERS.decoder(), prompt).allowed()
        for prompt in ("", "a", "ca", "the ca", "c")
    }
    # After "c" as after "" nothing is excluded, though the automaton is in another state.
    assert texts[""].key == texts["a"].key == texts["c"].key != texts["ca"].key
    assert texts["ca"].key == texts["the ca"].key
    assert texts[""].mask.sum() == texts["ca"].mask.sum() + 1


def test_eos_that_ends_a_sample_is_counted_and_not_written() -> None:
    one = constrained(CHARACTERS)
    written(one, ids(CHARACTERS, "a"))
    assert one.append(EOS, -2.0, "eos") == ("", "eos")
    assert (one.tokens, one.log_prob) == (2, -3.0)


def test_what_could_not_be_drawn_is_not_counted() -> None:
    one = constrained(CHARACTERS, stop=["ab"])
    assert written(one, ids(CHARACTERS, "a")) == ([""], None)
    assert one.append(NOTHING, 0.0, "blocked") == ("a", "blocked")
    assert one.tokens == 1


def test_without_stop_strings_every_character_is_complete_at_once_eos_too() -> None:
    pieces = list("the cat\na")
    assert written(constrained(CHARACTERS), ids(CHARACTERS, "the cat\na")) == (pieces, None)


def test_a_replay_gives_the_text_unless_a_token_is_excluded_or_ends_it() -> None:
    def replay(text: str, **options: Any) -> str | None:
        tokens = ids(CHARACTERS, text)
        return constrained(CHARACTERS, **options).replay(tokens, [-1.0] * len(tokens))

    assert replay("a cat") == "a cat"
    assert replay("a ca", ban=["cat"]) == "a ca"
    assert replay("a cat", ban=["cat"]) is None
    assert replay("a cat", stop=["cat"]) is None


STRINGS = ["ab", "abcab", "bcb", "c", "aaa", "aab"]


def first_found(strings: list[str], text: str) -> tuple[int, int] | None:
    """Where the first string ends, and the length of the longest that ends there, plainly."""
    for end in range(1, len(text) + 1):
        lengths = [len(each) for each in strings if text[:end].endswith(each)]
        if lengths:
            return end, max(lengths)
    return None


def found(strings: list[str], text: str) -> tuple[int, int] | None:
    automaton, state = Automaton(strings), 0
    for end, character in enumerate(text, start=1):
        state = automaton.step(state, character)
        if automaton.found[state]:
            return end, automaton.found[state]
    return None


def test_it_finds_what_a_plain_search_finds() -> None:
    chance = random.Random(0)
    for _ in range(1000):
        strings = chance.sample(STRINGS, chance.randint(1, 4))
        text = "".join(chance.choices("abc", k=chance.randint(0, 12)))
        assert found(strings, text) == first_found(strings, text), (strings, text)


def test_reading_in_pieces_is_reading_at_once() -> None:
    automaton = Automaton(STRINGS)
    assert automaton.read(automaton.read(0, "aab"), "cab") == automaton.read(0, "aabcab")
    assert automaton.completes(automaton.read(0, "b"), "cb")
    assert not Automaton(["xyz"]).completes(0, "xyxyyz")


@pytest.mark.parametrize("text", [b"", b"x", b"the ca", "é".encode(), b"caf\xc3", b"ab"])
def test_a_spelling_that_would_complete_a_banned_string_is_found(text: bytes) -> None:
    strings = [each.encode() for each in ("cat", "é", "é!", "bb")]
    banned = Automaton(strings)
    state = banned.read(0, text)
    for spelling in (b"t", b"at", b"cat", b"!", b"xbb", b"ba", b"\xa9", b"\xa8", b"\xc3\xa9", b""):
        ends = [(text + spelling)[: len(text) + end] for end in range(1, len(spelling) + 1)]
        expected = any(end.endswith(tuple(strings)) for end in ends)
        assert banned.completes(state, spelling) == expected, spelling
