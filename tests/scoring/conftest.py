"""Scoring with small models whose weights are drawn, over tokenizers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from textgen.config import ScoringConfig, TokenizerConfig
from textgen.results import SentenceScore
from textgen.scoring.jobs import groups
from textgen.scoring.scorer import Scorer, Skipped
from textgen.tokenizers.base import EOS, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

TEXT = """the cat (that the dogs chased) sat down.
"no," said the cat, "i will not."
the dogs who were tired slept: a naïve cat is a cat.
the dogs that chased the cat were tired, and the cat was not.
"""
KINDS: dict[str, dict[str, Any]] = {
    "char": {"level": "char"},
    "word": {"level": "word", "min_count": 2},
    "spaced": {"level": "word", "split": "whitespace", "min_count": 2},
    "subword": {"level": "subword", "vocab_size": 290},
}

MakeTokenizer = Callable[..., Tokenizer]
Score = Callable[..., list[SentenceScore]]


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """make_tokenizer("word", unit="line"): one of KINDS, learned from TEXT."""

    def make(kind: str, **options: Any) -> Tokenizer:
        return learn_tokenizer(TokenizerConfig(**{**KINDS[kind], **options}), [(TEXT, False)])

    return make


@pytest.fixture
def scorer(make_model: Any) -> Callable[..., Scorer]:
    """scorer(tokenizer, level="word"): in float64, the weights always the same."""

    def make(tokenizer: Tokenizer, **options: Any) -> Scorer:
        model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
        return Scorer(model, tokenizer, ScoringConfig(**options))

    return make


@pytest.fixture
def score(scorer: Any) -> Score:
    """score(tokenizer, texts, level="word"): what the scorer of these options gives."""

    def scores(tokenizer: Tokenizer, texts: Iterable[Any], **options: Any) -> list[SentenceScore]:
        prefix = options.get("prefix")
        given = scorer(tokenizer, **options).scores(groups(texts, prefix))
        return [each for each in given if not isinstance(each, Skipped)]

    return scores


@pytest.fixture
def distributions() -> Callable[..., Any]:
    """distributions(model, ids): p of everything at each place, and after the last."""

    def of(model: Any, ids: list[int]) -> list[list[float]]:
        with torch.no_grad():
            logits, _ = model(torch.tensor([[EOS], *([id] for id in ids)]), model.start(1))
            return logits[:, 0].softmax(-1).tolist()

    return of


@pytest.fixture
def apart() -> Callable[..., Any]:
    """apart(tokenizer, id): what an id writes after a word."""

    def of(tokenizer: Any, id: int) -> str:
        decoder = tokenizer.decoder()
        for each in tokenizer.encode("the cat").tolist():
            decoder.feed(each)
        return decoder.next_bytes()[id].decode("utf-8", "replace")

    return of
