"""Prompts in, samples out, of models whose weights are drawn."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from textgen.config import SamplingConfig, TokenizerConfig
from textgen.errors import UsageError
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.results import Sample
from textgen.sampling.text import TextGenerator
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

MakeModel = Callable[..., Model]


Write = Callable[..., list[Sample]]


def log_prob(model: Model, tokenizer: Tokenizer, prompt: str, text: str) -> float:
    """ln p of a text after a prompt, as the scorer finds it."""
    read = tokenizer.continuation(prompt).ids.tolist()
    ids = [*read, *tokenizer.encode(text).tolist()]
    return float(Document(model, EOS).read(np.array(ids, np.uint32))[len(read) :].sum())


def test_samples_are_numbered_through_all_prompts(write: Write) -> None:
    samples = write("the ", "a ", count=3)
    assert [sample.index for sample in samples] == list(range(6))
    assert [sample.prompt for sample in samples] == ["the "] * 3 + ["a "] * 3
    assert len({sample.text for sample in samples}) == 6


def test_a_larger_count_only_adds(write: Write) -> None:
    assert write("the ", count=9)[:4] == write("the ", count=4)


def test_more_samples_than_are_written_at_once_all_come(write: Write) -> None:
    samples = write("the ", count=150, sentences=1)
    assert [sample.index for sample in samples] == list(range(150))
    assert samples[140].text == write(*["the "] * 141, sentences=1)[140].text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stop": ["a", "he"]},
        {"sentences": 2},
        {"ban": ["a", " c"]},
        {"temperature": (0.5, 1.5), "top_p": 0.9},
        {"repetition_penalty": 1.2, "no_repeat_ngram": 3},
    ],
)
def test_text_read_as_it_comes_is_the_text_of_all_at_once(
    text_model: Model, tokenizer: Tokenizer, write: Write, options: dict[str, Any]
) -> None:
    pieces: dict[int, str] = {}

    def on_text(index: int, prompt: str, piece: str) -> None:
        assert prompt == "the"
        assert piece
        assert index == max([index, *pieces])  # one after another
        pieces[index] = pieces.get(index, "") + piece

    config = SamplingConfig.from_options({"length": 30, "count": 7} | options)
    alone = list(TextGenerator(text_model, tokenizer, config).generate(["the"], on_text))
    together = write("the", count=7, **options)
    for one, other in zip(alone, together, strict=True):
        assert one.text == other.text == pieces.get(one.index, "")
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-9)


def test_log_prob_is_the_scorers(text_model: Model, tokenizer: Tokenizer, write: Write) -> None:
    checked = 0
    for sample in write("the ", count=40, sentences=2, length=60, temperature=0.7):
        if sample.finish_reason != "eos" or "\ufffd" in sample.text:
            continue
        ids = tokenizer.encode(sample.text + "\n").tolist()
        if len(ids) != sample.tokens or UNK in ids:
            continue  # the model spelt it in another way than the tokenizer does
        prompted = tokenizer.continuation("the ").ids.tolist()
        whole = tokenizer.encode("the " + sample.text + "\n").tolist()
        if whole[: len(prompted)] != prompted or len(whole) != len(prompted) + len(ids):
            continue
        expected = Document(text_model, EOS).read(np.array(whole, np.uint32))[len(prompted) :].sum()
        assert sample.log_prob == pytest.approx(expected, abs=1e-9)
        checked += 1
    assert checked > 0 or tokenizer.level == "subword"


def test_the_perplexity_is_that_of_the_tokens(write: Write) -> None:
    (sample,) = write("the ")
    assert sample.perplexity == pytest.approx(np.exp(-sample.log_prob / sample.tokens))


def test_a_stop_string_ends_a_sample_and_is_not_in_it(write: Write) -> None:
    free = write("the ", count=30, length=60)
    stopped = write("the ", count=30, length=60, stop=["a", "t "])
    for one, whole in zip(stopped, free, strict=True):
        if one.finish_reason == "stop":
            assert one.stop in ("a", "t ")
            assert whole.text.startswith(one.text + one.stop)
            assert one.tokens <= whole.tokens
        else:
            assert one.text == whole.text
        assert "a" not in one.text
        assert "t " not in one.text
    assert {sample.finish_reason for sample in stopped} >= {"stop"}


def test_banned_text_is_never_written(write: Write) -> None:
    free = write("the ", count=30, length=60)
    assert any("a" in sample.text for sample in free)
    for sample in write("the ", count=30, length=60, ban=["a", "the", "\n"]):
        assert not any(banned in sample.text for banned in ("a", "the", "\n"))


def test_where_all_is_banned_the_sample_ends(make_model: MakeModel) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("ab\n", False)])
    config = SamplingConfig(ban=("a", "b", "\n"))
    (sample,) = TextGenerator(make_model(4), tokenizer, config).generate([""])
    assert (sample.text, sample.tokens, sample.finish_reason) == ("", 0, "blocked")
    assert np.isnan(sample.perplexity)


def test_every_text_is_utf_8(write: Write) -> None:
    for sample in write("", count=60, length=25):
        assert "\ufffd" not in sample.text


class TestUnknown:
    PROMPT = "the ñ cats"

    def test_it_is_read_as_unknown_and_named(self, write: Write, tokenizer: Tokenizer) -> None:
        (sample,) = write(self.PROMPT)
        expected = () if tokenizer.level == "subword" else ("ñ",)
        assert sample.prompt_unknown == expected
        assert sample.prompt == self.PROMPT

    def test_it_can_be_skipped(self, write: Write, tokenizer: Tokenizer) -> None:
        (skipped,) = write(self.PROMPT, on_unknown="skip")
        (read,) = write(self.PROMPT)
        without = {"char": "the  cats", "word": "the cats"}
        if tokenizer.level == "subword":
            assert skipped == read
        else:
            assert skipped.log_prob != read.log_prob
            assert skipped.text == write(without[tokenizer.level])[0].text
            assert skipped.prompt_unknown == ("ñ",)

    def test_it_can_be_an_error(self, write: Write, tokenizer: Tokenizer) -> None:
        if tokenizer.level == "subword":
            assert write(self.PROMPT, on_unknown="error") == write(self.PROMPT)
            return
        with pytest.raises(UsageError, match=r"the model does not know 'ñ' \(in the prompt\)"):
            write(self.PROMPT, on_unknown="error")

    def test_a_prompt_of_unknowns_alone_is_not_skipped(
        self, write: Write, tokenizer: Tokenizer
    ) -> None:
        if tokenizer.level != "subword":
            with pytest.raises(UsageError, match=r"all of the prompt is unknown .*: 'ñжñ'"):
                write("ñжñ", on_unknown="skip")
            (sample,) = write("ñжñ")
            assert sample.text


def test_prompts_are_taken_as_room_comes(text_model: Model, tokenizer: Tokenizer) -> None:
    taken: list[str] = []

    def prompts() -> Iterator[str]:
        for number in range(200):
            taken.append("the")
            assert number < 199, "the last is not needed"
            yield "the"

    config = SamplingConfig(length=3)
    samples: Iterable[Sample] = TextGenerator(text_model, tokenizer, config).generate(prompts())
    first = next(iter(samples))
    assert len(taken) < 150
    assert first.finish_reason == "length"


def test_a_prompt_far_longer_than_a_window_is_read_whole(
    make_model: MakeModel,
) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("ab\n", False)])
    model = make_model(4, dtype=torch.float64)
    config = SamplingConfig(length=5, temperature=(0,))
    prompt = "ab" * 5_000
    (sample,) = TextGenerator(model, tokenizer, config).generate([prompt])
    assert sample.log_prob == pytest.approx(log_prob(model, tokenizer, prompt, sample.text))


LENGTHS = (1, 2, 3, 7, 20, 41, 58)


@pytest.mark.parametrize(
    "options",
    [{}, {"stop": ("a", "t ")}, {"ban": ("a", "the")}, {"sentences": 2}, {"temperature": (1, 2)}],
)
def test_drawn_ahead_or_one_by_one_a_text_is_the_same(
    tokenizer: Tokenizer,
    make_model: MakeModel,
    options: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    model = make_model(tokenizer.vocabulary_size, spread=1.0)  # half characters are written too

    def text(length: int) -> tuple[Sample, list[str]]:
        pieces: list[str] = []
        config = SamplingConfig.from_options({"length": length, "seed": length} | options)
        generator = TextGenerator(model, tokenizer, config)
        (sample,) = generator.generate(["the "], lambda index, prompt, piece: pieces.append(piece))
        return sample, pieces

    plain = [text(length) for length in LENGTHS]
    request.getfixturevalue("compiled")
    for (one, its_pieces), (other, pieces) in zip(plain, map(text, LENGTHS), strict=True):
        assert pieces == its_pieces
        assert other.text == one.text
        assert (other.tokens, other.finish_reason) == (one.tokens, one.finish_reason)
        assert other.log_prob == pytest.approx(one.log_prob, abs=1e-4 * max(1, one.tokens))
