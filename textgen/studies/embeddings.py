"""Where tokens lie in a model's mind: embeddings on a plane, and which are near one another."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from textgen.config import MapMethod, closest
from textgen.errors import DataError, UsageError
from textgen.language_model import LanguageModel
from textgen.results import EmbeddingMap, MappedToken, Neighbour, Neighbours
from textgen.tokenizers.base import SPECIAL_TOKENS

_Vectors = npt.NDArray[np.float64]
_NAMED = len(SPECIAL_TOKENS)
_LEAST = 6


def map_embeddings(
    model: LanguageModel, text: str, *, method: MapMethod = "pca", tokens: int = 100
) -> EmbeddingMap:
    """The tokens that are the most frequent in a text, on a plane.

    pca: along the two directions in which they differ most (Pearson 1901). tsne: so that those
    that are near stay near (van der Maaten and Hinton 2008), by scikit-learn.
    """
    vectors = _vectors(model)
    ids = _by_frequency(model, text)[:tokens]
    if len(ids) < _LEAST:
        raise DataError(
            f"a map needs {_LEAST} tokens", why=f"got {len(ids)}", fix="give a longer text"
        )
    vectors = vectors[ids]
    placed, explained = _pca(vectors) if method == "pca" else (_tsne(vectors), None)
    return EmbeddingMap(
        checkpoint=str(model.path),
        method=method,
        width=vectors.shape[1],
        tokens=tuple(
            MappedToken(model.tokenizer.token(id), float(x), float(y))
            for id, (x, y) in zip(ids, placed, strict=True)
        ),
        explained=explained,
    )


def neighbours(model: LanguageModel, tokens: Sequence[str], most: int = 10) -> list[Neighbours]:
    """For each token those whose embeddings have the largest cosine with its own."""
    vectors = _vectors(model)
    names = [model.tokenizer.token(id) for id in range(len(vectors))]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found = []
    for token in tokens:
        id = _id_of(token, names)
        similarity = unit @ unit[id]
        similarity[[*range(_NAMED), id]] = -np.inf
        order = np.argsort(-similarity, kind="stable")[: min(most, len(names) - _NAMED - 1)]
        nearest = tuple(Neighbour(names[each], float(similarity[each])) for each in order)
        found.append(Neighbours(names[id], nearest))
    return found


def frequent_words(model: LanguageModel, text: str, most: int) -> list[str]:
    """The tokens that are the most frequent in a text, of those that have a letter in them."""
    tokens = map(model.tokenizer.token, _by_frequency(model, text))
    return list(islice((token for token in tokens if any(map(str.isalpha, token))), most))


def _by_frequency(model: LanguageModel, text: str) -> list[int]:
    """The ids in a text, the most frequent first."""
    counts = np.bincount(model.tokenizer.encode(text), minlength=_NAMED)
    counts[:_NAMED] = 0
    order = np.argsort(-counts, kind="stable")
    return [id for id in order.tolist() if counts[id]]


def _vectors(model: LanguageModel) -> _Vectors:
    """(vocabulary, width). Raises UsageError where there are none."""
    vectors = model.model.token_vectors()
    if vectors is None:
        raise UsageError(
            "plot embeddings needs a model with embeddings",
            where=model.path,
            why=f"this {model.header.model.model} has none",
        )
    return vectors.detach().cpu().double().numpy()


def _id_of(token: str, names: Sequence[str]) -> int:
    # A subword at the beginning of a word has its space, as words with their space have.
    for spelt in (token, f" {token}", f"{token} "):
        if spelt in names[_NAMED:]:
            return names.index(spelt, _NAMED)
    meant = closest(token, names)
    fix = f"did you mean {meant}?" if meant else "name one of its tokens"
    raise UsageError(f"the model does not know {token!r}", where="--near", fix=fix)


def _pca(vectors: _Vectors) -> tuple[_Vectors, tuple[float, float]]:
    """(tokens, 2) along the first principal components, and the share of the variance of each."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    total = max(float((sizes**2).sum()), 1e-300)
    # A direction has no sign of its own: the largest entry is made positive.
    left = left[:, :2] * np.sign(left[np.abs(left[:, :2]).argmax(0), [0, 1]])
    first, second = (float(size**2 / total) for size in sizes[:2])
    return left * sizes[:2], (first, second)


def _tsne(vectors: _Vectors) -> _Vectors:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UsageError(
            "t-SNE needs the package scikit-learn",
            why="it is not installed",
            fix="pip install 'textgen[plot]', or leave out --method tsne",
        ) from error
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    mapper = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    placed: _Vectors = np.asarray(mapper.fit_transform(vectors), np.float64)
    return placed
