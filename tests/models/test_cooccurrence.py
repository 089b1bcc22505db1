"""Word vectors from the neighbours of tokens in the text."""

import numpy as np
import torch

from textgen.models import cooccurrence
from textgen.models.cooccurrence import neighbour_vectors


def vectors(ids: list[int], vocabulary_size: int, width: int, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return neighbour_vectors(np.array(ids, np.uint16), vocabulary_size, width, generator)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_tokens_of_the_same_contexts_have_nearly_the_same_vector() -> None:
    generator = np.random.default_rng(2)
    clauses = [[0, generator.choice([1, 2]), 3, 4, 5] for _ in range(500)]
    _, found = vectors(np.ravel(clauses).tolist(), 6, 4)
    assert cosine(found[1], found[2]) > 0.9
    assert cosine(found[1], found[3]) < 0.5


def test_products_of_vectors_are_those_of_a_dense_decomposition() -> None:
    text = np.random.default_rng(3).integers(0, 9, 400)
    counts = np.zeros((9, 9))
    for back in (1, 2):
        np.add.at(counts, (text[:-back], text[back:]), 1)
        np.add.at(counts, (text[back:], text[:-back]), 1)
    contexts = counts.sum(1) ** 0.75
    ratios = counts / counts.sum(1, keepdims=True) / (contexts / contexts.sum())
    information = np.log(np.maximum(ratios, 1))
    left, values, _ = np.linalg.svd(information)
    expected = left * values**0.25
    expected -= expected.mean(0)
    expected *= 3 / np.linalg.norm(expected, axis=1).mean()
    ids, found = vectors(text.tolist(), 9, 12)
    assert ids.tolist() == list(range(9))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_a_token_that_does_not_occur_has_no_vector() -> None:
    ids, found = vectors([0, 3, 0, 3, 3, 0], 5, 8)
    assert ids.tolist() == [0, 3]
    assert found.shape == (2, 8)
    assert len(vectors([2], 5, 8)[0]) == 0


def test_vectors_depend_on_the_seed_and_on_nothing_else() -> None:
    text = np.random.default_rng(4).integers(0, 50, 900).tolist()
    torch.manual_seed(0)
    once = vectors(text, 50, 16)[1]
    torch.manual_seed(1)
    assert (vectors(text, 50, 16)[1] == once).all()
    assert not (vectors(text, 50, 16, seed=2)[1] == once).all()


def test_only_the_beginning_of_a_long_text_is_counted(monkeypatch) -> None:
    monkeypatch.setattr(cooccurrence, "MOST_TOKENS", 6)
    assert vectors([0, 1, 0, 1, 1, 0, 2, 2, 2], 3, 4)[0].tolist() == [0, 1]
