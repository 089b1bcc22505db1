"""Embeddings on a plane, and their neighbours."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.studies.embeddings import frequent_words, map_embeddings, neighbours

WORDS = ("<UNK>", "<EOS>", "cat", "dog", "up", "down", ",", "owl", "hen", "ape")
TEXT = "dog dog dog , , cat cat owl hen ape up down up"


class Words:
    vocabulary_size = len(WORDS)

    def encode(self, text: str) -> Any:
        return np.array([WORDS.index(word) for word in text.split()], np.uint32)

    def token(self, id: int) -> str:
        return WORDS[id]


def language_model(vectors: Any) -> Any:
    return types.SimpleNamespace(
        tokenizer=Words(),
        path="x",
        model=types.SimpleNamespace(token_vectors=lambda: vectors),
        header=types.SimpleNamespace(model=types.SimpleNamespace(model="ngram")),
    )


@pytest.fixture
def vectors() -> Any:
    """Ten vectors of 5 numbers; cat and dog point the same way, up and down opposite ways."""
    drawn = torch.randn(10, 5, generator=torch.Generator().manual_seed(1))
    drawn[3] = 2 * drawn[2]
    drawn[5] = -drawn[4]
    return drawn


def test_pca_is_the_projection_on_the_largest_eigenvectors(vectors: Any) -> None:
    map = map_embeddings(language_model(vectors), TEXT)
    assert [each.token for each in map.tokens] == ["dog", "cat", "up", ",", "down", "owl", "hen",
                                                   "ape"]  # fmt: skip
    rows = vectors[[WORDS.index(each.token) for each in map.tokens]].double().numpy()
    values, directions = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ directions[:, ::-1][:, :2]
    placed = np.array([(each.x, each.y) for each in map.tokens])
    assert np.allclose(np.abs(placed), np.abs(expected), atol=1e-9)
    assert map.explained == pytest.approx(tuple(values[::-1][:2] / values.sum()))
    assert placed[np.abs(placed).argmax(0), [0, 1]].min() > 0


def test_the_most_frequent_tokens_are_counted_in_the_text(vectors: Any) -> None:
    model = language_model(vectors)
    assert frequent_words(model, TEXT, 3) == ["dog", "cat", "up"]
    assert len(map_embeddings(model, TEXT, tokens=6).tokens) == 6
    with pytest.raises(DataError, match="needs 6 tokens"):
        map_embeddings(model, "cat dog")


def test_neighbours_are_by_angle_and_never_special_tokens(vectors: Any) -> None:
    cat, up = neighbours(language_model(vectors), ["cat", "up"], most=20)
    assert cat.nearest[0].token == "dog"
    assert cat.nearest[0].similarity == pytest.approx(1)
    assert up.nearest[-1].token == "down"
    assert up.nearest[-1].similarity == pytest.approx(-1)
    assert {each.token for each in up.nearest} == set(WORDS[2:]) - {"up"}


def test_tsne_is_asked_for_what_fits_so_few_tokens(
    vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class TSNE:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def fit_transform(self, rows: Any) -> Any:
            return rows[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, "sklearn.manifold", types.SimpleNamespace(TSNE=TSNE))
    map = map_embeddings(language_model(vectors), TEXT, method="tsne")
    assert map.explained is None
    assert (map.tokens[0].token, map.tokens[0].x) == ("dog", pytest.approx(float(vectors[3, 0])))
    assert asked["perplexity"] < 8
    assert asked["random_state"] == 0
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UsageError, match=r"pip install 'textgen\[plot\]'"):
        map_embeddings(language_model(vectors), TEXT, method="tsne")


def test_what_is_not_there_is_told(vectors: Any) -> None:
    with pytest.raises(UsageError, match="did you mean dog"):
        neighbours(language_model(vectors), ["dgo"])
    with pytest.raises(UsageError, match="this ngram has none"):
        neighbours(language_model(None), ["dog"])
