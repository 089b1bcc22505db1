"""Embeddings on a plane, and nearest neighbours: computed and drawn."""

import itertools
import sys
import types
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.studies.plots.drawing import rendered
from textgen.studies.plots.embeddings import (
    EmbeddingMap,
    EmbeddingPlot,
    map_embeddings,
    map_figure,
    neighbours,
)

WORDS = ("<UNK>", "<EOS>", "cat", "dog", "up", "down", ",", "owl", "hen", "ape\n")
TEXT = "dog dog dog , , cat cat owl hen ape\n up down up"


class Words:
    def encode(self, text: str) -> Any:
        return np.array([WORDS.index(word) for word in text.split(" ")], np.uint32)

    def text_of(self, id: int) -> str:
        return WORDS[id]


@pytest.fixture
def vectors() -> Any:
    """Ten vectors of 5 components; cat and dog are parallel, up and down opposite."""
    drawn = torch.randn(10, 5, generator=torch.Generator().manual_seed(1))
    drawn[3] = 2 * drawn[2]
    drawn[5] = -drawn[4]
    return drawn


@pytest.fixture
def model(stand_in: Any, vectors: Any) -> Any:
    return stand_in(types.SimpleNamespace(token_vectors=lambda: vectors), Words(), "ngram")


def test_pca_is_the_projection_on_the_largest_eigenvectors(model: Any, vectors: Any) -> None:
    map = map_embeddings(model, TEXT)
    assert map.tokens == ("dog", "cat", "up", ",", "down", "owl", "hen", "ape\n")
    rows = vectors[[WORDS.index(each) for each in map.tokens]].double().numpy()
    values, directions = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ directions[:, ::-1][:, :2]
    assert np.allclose(np.abs(map.points), np.abs(expected), atol=1e-9)
    assert map.explained == pytest.approx(tuple(values[::-1][:2] / values.sum()))
    assert map.points[np.abs(map.points).argmax(0), [0, 1]].min() > 0


def test_the_most_frequent_tokens_are_counted_in_the_text(model: Any, terminal: Any) -> None:
    _, _, *rows = terminal(EmbeddingPlot(model, TEXT, (), "pca", 6)).splitlines()
    assert [row.split()[0] for row in rows][:3] == ["dog", "cat", "up"]
    assert len(map_embeddings(model, TEXT, tokens=6).tokens) == 6
    with pytest.raises(DataError, match="needs 6 tokens"):
        map_embeddings(model, "cat dog")


def test_neighbours_are_by_angle_and_never_special_tokens(model: Any) -> None:
    found = neighbours(model, ["cat", "up"], most=20)
    assert found["cat"][0] == ("dog", pytest.approx(1))
    assert found["up"][-1] == ("down", pytest.approx(-1))
    assert {token for token, _ in found["up"]} == set(WORDS[2:]) - {"up"}


def test_tsne_has_a_perplexity_for_few_tokens(
    model: Any, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sklearn = Mock()
    sklearn.TSNE.return_value.fit_transform = lambda rows: rows[:, :2].astype(np.float32)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", sklearn)
    map = map_embeddings(model, TEXT, method="tsne")
    assert map.explained is None
    assert (map.tokens[0], map.points[0, 0]) == ("dog", pytest.approx(float(vectors[3, 0])))
    options = sklearn.TSNE.call_args.kwargs
    assert options["perplexity"] < 8
    assert options["random_state"] == 0
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UsageError, match=r"pip install 'textgen-lm\[plot\]'"):
        map_embeddings(model, TEXT, method="tsne")


def test_an_unknown_word_and_a_model_without_embeddings_are_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="did you mean dog"):
        neighbours(model, ["dgo"])
    model.model.token_vectors = lambda: None
    with pytest.raises(UsageError, match="this ngram has none"):
        neighbours(model, ["dog"])


CROWD = EmbeddingMap(
    ("$x$", ",", *(f"word{n}" for n in range(30))),
    np.concatenate([[[3, 3], [-3, 3]], np.random.default_rng(1).normal(size=(30, 2))]),
    (0.3, 0.1),
)


@pytest.fixture(scope="module")
def figure() -> Any:
    return map_figure(CROWD, "title")


def test_every_token_is_a_dot(figure: Any) -> None:
    (axes,) = figure.axes
    dots = np.concatenate([each.get_offsets() for each in axes.collections])
    assert sorted(dots.tolist()) == sorted(CROWD.points.tolist())
    assert axes.get_xlabel() == "first component (30 % of the variance)"
    (legend,) = figure.legends
    assert [each.get_text() for each in legend.get_texts()] == ["words", "no letters"]


def test_no_label_covers_another_and_the_most_frequent_have_one(figure: Any) -> None:
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [each.get_window_extent() for each in axes.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    labels = [each.get_text() for each in axes.texts]
    assert labels[:3] == ["$x$", ",", "word0"]
    assert 15 < len(labels) <= len(CROWD.tokens)


def test_a_dollar_and_a_character_without_a_glyph_are_drawn(figure: Any) -> None:
    assert rendered(figure, ".png").startswith(b"\x89PNG")
    odd = EmbeddingMap(("\U0001f99c",) * 2, np.zeros((2, 2)), None)
    assert b"<svg" in rendered(map_figure(odd, "x"), ".svg")


def test_neighbours_are_a_row_with_their_cosines(model: Any, terminal: Any) -> None:
    plot = EmbeddingPlot(model, TEXT, ("cat", "up"), "pca", 6)
    text = terminal(plot)
    assert text.splitlines()[2].split()[:3] == ["cat", "dog", "1.00"]
    assert r"ape\n" in text
    rows = [*plot.rows()]
    assert rows[0] == {"token": "cat", "rank": 1, "near": "dog", "similarity": pytest.approx(1)}
    assert len(rows) == 14
    frequent = EmbeddingPlot(model, TEXT, (), "pca", 6)
    first = next(iter(frequent.rows()))
    assert (first["token"], first["method"]) == ("dog", "pca")
    assert (first["x"], first["y"]) == tuple(frequent.map.points[0])
