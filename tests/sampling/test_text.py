"""Prompts in, samples out, of models whose weights are drawn."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from textgen.config import SamplingConfig, ScoringConfig, TokenizerConfig
from textgen.data.lines import Text
from textgen.errors import UsageError
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.results import Sample, SentenceScore
from textgen.sampling.text import TextGenerator
from textgen.scoring.scorer import Scorer, sample_log_prob
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

MakeModel = Callable[..., Model]
Write = Callable[..., list[Sample]]


def test_samples_are_numbered_through_all_prompts_and_more_than_are_written_at_once_come(
    write: Write,
) -> None:
    samples = write("the ", "a ", count=75, sentences=1)
    assert [sample.index for sample in samples] == list(range(150))
    assert [sample.prompt for sample in samples] == ["the "] * 75 + ["a "] * 75
    assert samples[140].text == write(*["a "] * 141, sentences=1)[140].text
    for sample in samples[:9]:
        assert sample.perplexity == pytest.approx(np.exp(-sample.log_prob / sample.tokens))


@pytest.mark.parametrize(
    "options",
    [
        {"length": 58},
        {"stop": ["a", "he"]},
        {"sentences": 2, "ban": ["a", " c"]},
        {"temperature": (0.5, 1.5)},
        {"repetition_penalty": 1.2, "no_repeat_ngram": 3, "top_p": 0.9},
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_text_read_as_it_comes_is_the_text_of_all_at_once(
    make_model: MakeModel,
    tokenizer: Tokenizer,
    options: dict[str, Any],
    compiled: bool,
    request: pytest.FixtureRequest,
) -> None:
    """Where steps are compiled it is drawn ahead; half characters are written, too."""
    if compiled:
        request.getfixturevalue("compiled")
    model = make_model(tokenizer.vocabulary_size, spread=1.0)
    pieces: dict[int, str] = {}

    def on_text(index: int, prompt: str, piece: str) -> None:
        assert prompt == "the"
        assert piece
        assert index == max([index, *pieces])  # one after another
        pieces[index] = pieces.get(index, "") + piece

    config = SamplingConfig.from_options({"length": 30, "count": 4} | options)
    generator = TextGenerator(model, tokenizer, config)
    alone = list(generator.generate(["the"], on_text))
    together = sorted(generator.generate(["the"]), key=lambda sample: sample.index)
    for one, other in zip(alone, together, strict=True):
        assert one.text == other.text == pieces.get(one.index, "")
        assert (one.tokens, one.finish_reason) == (other.tokens, other.finish_reason)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4 * max(1, one.tokens))


def test_a_stop_string_ends_a_sample_and_is_not_in_it(write: Write) -> None:
    free = write("the ", count=15, length=60)
    stopped = write("the ", count=15, length=60, stop=["a", "t "])
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
    assert any("a" in sample.text for sample in write("the ", count=15))
    for sample in write("the ", count=15, length=60, ban=["a", "the", "\n"]):
        assert not any(banned in sample.text for banned in ("a", "the", "\n"))


def test_where_all_is_banned_the_sample_ends(make_model: MakeModel) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("ab\n", False)])
    config = SamplingConfig(ban=("a", "b", "\n"))
    (sample,) = TextGenerator(make_model(4), tokenizer, config).generate([""])
    assert (sample.text, sample.tokens, sample.finish_reason) == ("", 0, "blocked")
    assert np.isnan(sample.perplexity)


def test_an_unknown_character_of_a_prompt_is_read_skipped_or_an_error(
    write: Write, tokenizer: Tokenizer
) -> None:
    prompt = "the ñ cats"
    (read,), (skipped,) = write(prompt), write(prompt, on_unknown="skip")
    assert read.prompt == prompt
    if tokenizer.level == "subword":
        assert read.prompt_unknown == ()
        assert [read] == [skipped] == write(prompt, on_unknown="error")
        return
    assert read.prompt_unknown == skipped.prompt_unknown == ("ñ",)
    assert skipped.log_prob != read.log_prob
    without = {"char": "the  cats", "word": "the cats"}
    assert skipped.text == write(without[tokenizer.level])[0].text
    with pytest.raises(UsageError, match=r"the model does not know 'ñ' \(in the prompt\)"):
        write(prompt, on_unknown="error")
    with pytest.raises(UsageError, match=r"all of the prompt is unknown .*: 'ñжñ'"):
        write("ñжñ", on_unknown="skip")
    assert write("ñжñ")[0].text


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


def test_a_prompt_far_longer_than_a_window_is_read_whole(make_model: MakeModel) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("ab\n", False)])
    model = make_model(4, dtype=torch.float64)
    config = SamplingConfig(length=5, temperature=(0,))
    prompt = "ab" * 2_000
    (sample,) = TextGenerator(model, tokenizer, config).generate([prompt])
    scored = Document(model, EOS).read(tokenizer.encode(prompt + sample.text))[len(prompt) :]
    assert sample.log_prob == pytest.approx(scored.sum())


@pytest.mark.parametrize("prompt", ["the ", "", "the cats, (a", "a café"])
def test_a_sample_has_the_log_probability_that_its_text_is_scored_with(
    write: Write, text_model: Model, tokenizer: Tokenizer, prompt: str
) -> None:
    """Where other subwords were drawn than the tokenizer cuts, both figures are to be had."""
    scorer = Scorer(text_model, tokenizer, ScoringConfig(eos=True))
    for sample in write(prompt, count=20, sentences=1):
        if sample.finish_reason != "eos" or "\n" in sample.text:
            continue
        (scored,) = scorer.scores([[Text(1, sample.text, prompt)]])
        assert isinstance(scored, SentenceScore)
        found = sample_log_prob(text_model, tokenizer, sample)
        assert found == pytest.approx(scored.log_prob)
        if tokenizer.level == "char":
            assert found == sample.log_prob


def test_subwords_that_the_tokenizer_cuts_otherwise_are_read_again(make_model: MakeModel) -> None:
    text = "the cats, the hat and the cat sat\n" * 5
    config = TokenizerConfig(level="subword", vocab_size=275)
    tokenizer = learn_tokenizer(config, [(text, False)])
    model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
    sampling = SamplingConfig(length=30, count=40)
    samples = list(TextGenerator(model, tokenizer, sampling).generate(["the"]))
    found = [sample_log_prob(model, tokenizer, each) for each in samples]
    pairs = [(a, b.log_prob) for a, b in zip(found, samples, strict=True) if a is not None]
    assert any(scored != pytest.approx(drawn) for scored, drawn in pairs)
    whole = tokenizer.encode("the" + samples[0].text)
    if found[0] is not None and samples[0].finish_reason == "length":
        read = Document(model, EOS).read(whole)
        assert found[0] == pytest.approx(read[len(tokenizer.encode("the")) :].sum())


def test_what_is_unknown_in_a_sample_has_no_score(write: Write, tokenizer: Tokenizer) -> None:
    (sample,) = write("the ñ cats")
    if tokenizer.level != "subword":
        assert sample_log_prob(Mock(), tokenizer, sample) is None
    assert sample_log_prob(Mock(), tokenizer, dataclasses.replace(sample, ids=())) is None
    assert sample_log_prob(Mock(), tokenizer, dataclasses.replace(sample, ids=(UNK,))) is None


def test_a_repetition_ends_at_a_breaker(make_model: MakeModel) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("ab;c\n", False)])
    model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
    bias = ((int(tokenizer.encode("a")[0]), 3.0),)  # the model repeats itself

    def most(**options: Any) -> int:
        config = SamplingConfig(length=200, logit_bias=bias, **options)
        (sample,) = TextGenerator(model, tokenizer, config).generate([""])
        return sample.text.count("aaaa")

    assert most() > most(dry_multiplier=5.0)
    assert most() > most(dry_multiplier=5.0, dry_sequence_breaker=())
    assert most() == most(dry_multiplier=5.0, dry_sequence_breaker=("a",))


@pytest.mark.parametrize("bias", ["15", "x+1", "-1+2", "3+nan", "3+1e9", [(1, "2")], {1.5: 2}, 7])
def test_a_bias_that_is_none_is_refused(bias: object) -> None:
    with pytest.raises(UsageError, match="logit-bias"):
        SamplingConfig.from_options({"logit_bias": bias})


def test_a_bias_of_an_id_that_is_not_there_is_refused(
    text_model: Model, tokenizer: Tokenizer
) -> None:
    size = tokenizer.vocabulary_size
    TextGenerator(text_model, tokenizer, SamplingConfig(logit_bias=((size - 1, 1.0),)))
    with pytest.raises(UsageError, match=f"from 0 to {size - 1}"):
        TextGenerator(text_model, tokenizer, SamplingConfig(logit_bias=((size, 1.0),)))
