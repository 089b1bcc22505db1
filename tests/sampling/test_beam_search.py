"""Beam search, against every text there is."""

import itertools
import math
from collections.abc import Callable
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
from textgen.scoring.scorer import SentenceReader
from textgen.tokenizers.base import EOS, UNK
from textgen.tokenizers.registry import learn_tokenizer

MakeModel = Callable[..., Model]
TOKENIZER = learn_tokenizer(TokenizerConfig(), [("abc\n", False)])
SIZE = TOKENIZER.vocabulary_size  # <UNK>, <EOS> and three characters
PROMPT = "ab"


@pytest.fixture(params=range(3))
def model(request: pytest.FixtureRequest, make_model: MakeModel) -> Model:
    return make_model(SIZE, seed=request.param, spread=6.0, dtype=torch.float64)


def found(model: Model, **options: Any) -> list[Sample]:
    config = SamplingConfig.from_options({"length": 5} | options)
    return list(TextGenerator(model, TOKENIZER, config).generate([PROMPT]))


def brute_force(
    model: Model, length: int = 4, sentences: int | None = None
) -> list[tuple[float, int, str]]:
    """(ln p, tokens, text) of every text of ``length`` tokens, or ended by its last sentence."""
    read = TOKENIZER.encode(PROMPT)
    found = []
    for tokens in range(1, length + 1):
        for ids in itertools.product([EOS, *range(2, SIZE)], repeat=tokens):
            ends = sentences is not None and ids.count(EOS) == sentences and ids[-1] == EOS
            continues = sentences is None or ids.count(EOS) < sentences
            if ends or (tokens == length and continues):
                found.append(ids)
    whole = [np.array([*read, *ids], np.uint32) for ids in found]
    statistics = SentenceReader(model).read(whole)
    return [
        (float(values[len(read) :, 0].sum()), len(ids), TOKENIZER.decode(ids))
        for values, ids in zip(statistics, found, strict=True)
    ]


@pytest.mark.parametrize("sentences", [None, 1, 2])
def test_with_beams_enough_the_best_of_all_come_first(model: Model, sentences: int | None) -> None:
    every = brute_force(model, 4, sentences)
    for penalty in (0.0, 0.6, 2.0):
        best = sorted(every, key=lambda text: text[0] / text[1] ** penalty, reverse=True)
        options: dict[str, Any] = {"length_penalty": penalty, "sentences": sentences, "length": 4}
        samples = found(model, beams=300, count=10, **options)
        assert [sample.index for sample in samples] == list(range(10))
        for sample, (log_prob, _, text) in zip(samples, best[:10], strict=True):
            assert sample.log_prob == pytest.approx(log_prob, abs=1e-9)
            ended = "\n" if sample.finish_reason == "eos" else ""
            assert sample.text + ended == text


def test_one_beam_is_greedy(model: Model) -> None:
    (sample,) = found(model, beams=1, length=30)
    (greedy,) = found(model, temperature=0, length=30)
    assert sample.text == greedy.text
    assert sample.log_prob == pytest.approx(greedy.log_prob, abs=1e-9)


def test_a_banned_string_is_in_no_text_found(model: Model) -> None:
    allowed = [each for each in brute_force(model) if "bc" not in PROMPT + each[2]]
    samples = found(model, beams=300, count=5, length=4, ban=["bc"])
    assert [sample.text for sample in samples] == [
        text for *_, text in sorted(allowed, reverse=True)[:5]
    ]


def test_no_ngram_comes_twice(model: Model) -> None:
    for sample in found(model, beams=8, count=8, length=9, no_repeat_ngram=2):
        text = PROMPT + sample.text
        pairs = [text[at : at + 2] for at in range(len(text) - 1)]
        assert len(pairs) == len(set(pairs))


def test_a_stop_string_ends_a_text_and_is_not_in_it(model: Model) -> None:
    samples = found(model, beams=50, count=30, length=6, stop=["c"])
    assert "stop" in {sample.finish_reason for sample in samples}
    for sample in samples:
        assert "c" not in sample.text
        assert (sample.stop == "c") == (sample.finish_reason == "stop")
        read = TOKENIZER.encode(PROMPT)
        ids = TOKENIZER.encode(sample.text + (sample.stop or ""))
        whole = np.array([*read, *ids], np.uint32)
        expected = Document(model, EOS).read(whole)[len(read) :].sum()
        assert sample.log_prob == pytest.approx(expected, abs=1e-9)


def test_unknown_is_found_only_where_it_is_allowed(make_model: MakeModel) -> None:
    model = make_model(SIZE, dtype=torch.float64)
    with torch.no_grad():
        model.get_parameter("output.bias")[UNK] = 50.0
    assert "<UNK>" not in found(model, beams=3)[0].text
    assert "<UNK>" in found(model, beams=3, allow_unk=True)[0].text


def test_fewer_texts_than_beams_are_all_of_them(model: Model) -> None:
    samples = found(model, beams=300, count=300, length=1)
    assert len(samples) == SIZE - 1
    assert sum(math.exp(sample.log_prob) for sample in samples) < 1


def test_what_is_found_cannot_be_drawn_again(make_model: MakeModel) -> None:
    generator = TextGenerator(make_model(SIZE), TOKENIZER, SamplingConfig(beams=2))
    with pytest.raises(UsageError, match="cannot be drawn again"):
        generator.generate([""], accept=lambda sample: False)
