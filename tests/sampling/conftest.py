"""Tokenizers of every level, models of their vocabularies, and samples of these."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from textgen.config import SamplingConfig, TokenizerConfig
from textgen.models import Model
from textgen.results import Sample
from textgen.sampling.text import TextGenerator
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

TEXT = "the cats, (a hat) and\na café, the hat\n"
CONFIGS: dict[str, dict[str, Any]] = {
    "char": {},
    "word": {"level": "word", "min_count": 1},
    "subword": {"level": "subword", "vocab_size": 290},
}


@pytest.fixture(params=CONFIGS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Learned from a text of two lines."""
    config = TokenizerConfig.from_options(CONFIGS[request.param])
    return learn_tokenizer(config, [(TEXT * 3, False)])


@pytest.fixture
def text_model(tokenizer: Tokenizer, make_model: Callable[..., Model]) -> Model:
    return make_model(tokenizer.vocabulary_size, dtype=torch.float64)


@pytest.fixture
def write(text_model: Model, tokenizer: Tokenizer) -> Callable[..., list[Sample]]:
    """write("the ", length=30): the samples of these prompts, in order."""

    def write(*prompts: str, **options: Any) -> list[Sample]:
        config = SamplingConfig.from_options({"length": 30} | options)
        samples = TextGenerator(text_model, tokenizer, config).generate(prompts or ("the ",))
        return sorted(samples, key=lambda sample: sample.index)

    return write
