"""Tokenizers of every level, for what writes text."""

from typing import Any

import pytest

from textgen.config import TokenizerConfig
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
