"""Embeddings of tokens: a map of the most frequent ones, and nearest neighbours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from textgen.config import closest
from textgen.errors import DataError, UsageError, missing_package
from textgen.language_model import LanguageModel
from textgen.presentation.numbers import fixed
from textgen.presentation.tables import token_text, visible
from textgen.studies.plots import drawing
from textgen.studies.plots.drawing import COLOURS, MapMethod, Row
from textgen.tokenizers.base import SPECIAL_TOKENS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Vectors = npt.NDArray[np.float64]
Neighbours = Mapping[str, Sequence[tuple[str, float]]]
"""The nearest tokens of each token with the cosine of their embeddings, the nearest first."""

_SPECIAL = len(SPECIAL_TOKENS)
_LEAST_ON_MAP = 6
_FREQUENT, _NEAREST = 16, 6  # words in the terminal, and neighbours of each
_KINDS = ("words", "words with a capital", "no letters")
_SIDES = ((5, 0), (-5, 0), (0, 5), (0, -5), (4, 4), (-4, 4), (4, -4), (-4, -4))
"""Offsets of a label from its dot, in points."""


@dataclass(frozen=True)
class EmbeddingMap:
    """Tokens on a plane, the most frequent first.

    Attributes:
        points: (tokens, 2)
        explained: The share of the variance along each axis; None for t-SNE.
    """

    tokens: tuple[str, ...]
    points: _Vectors
    explained: tuple[float, float] | None


def map_embeddings(
    model: LanguageModel, text: str, *, method: MapMethod = "pca", tokens: int = 100
) -> EmbeddingMap:
    """Project the embeddings of the most frequent tokens of a text on a plane.

    By principal components (Pearson 1901) or t-SNE (van der Maaten and Hinton 2008).

    Raises:
        UsageError: The model has no embeddings, or scikit-learn is missing.
        DataError: The text has too few tokens.
    """
    vectors = _vectors(model)
    ids = _by_frequency(model, text)[:tokens]
    if len(ids) < _LEAST_ON_MAP:
        message = f"a map needs {_LEAST_ON_MAP} tokens"
        raise DataError(message, why=f"got {len(ids)}", fix="give a longer text")
    points, explained = _pca(vectors[ids]) if method == "pca" else (_tsne(vectors[ids]), None)
    names = tuple(map(model.tokenizer.text_of, ids))
    return EmbeddingMap(names, points, explained)


def neighbours(model: LanguageModel, tokens: Iterable[str], most: int = 10) -> Neighbours:
    """Find the ``most`` tokens with the largest cosine of the embeddings, for each token.

    Raises:
        UsageError: The model has no embeddings, or does not know a token.
    """
    vectors = _vectors(model)
    names = list(map(model.tokenizer.text_of, range(len(vectors))))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found = {}
    for token in tokens:
        # Some tokenizers have the space before or after a word in its token.
        spellings = (token, f" {token}", f"{token} ")
        known = [each for each in spellings if each in names[_SPECIAL:]]
        if not known:
            meant = closest(token, names)
            fix = f"did you mean {meant}?" if meant else "name one of its tokens"
            raise UsageError(f"the model does not know {token!r}", where="--near", fix=fix)
        id = names.index(known[0], _SPECIAL)
        cosines = unit @ unit[id]
        nearest = dict[str, float]()  # a text that several tokens have, once
        for each in np.argsort(-cosines, kind="stable").tolist():
            if each >= _SPECIAL and names[each] != names[id]:
                nearest.setdefault(names[each], float(cosines[each]))
            if len(nearest) == most:
                break
        found[names[id]] = list(nearest.items())
    return found


def _by_frequency(model: LanguageModel, text: str) -> list[int]:
    """The ids in a text without special tokens, the most frequent first, one of each text."""
    counts = np.bincount(model.tokenizer.encode(text), minlength=_SPECIAL)
    counts[:_SPECIAL] = 0
    order = np.argsort(-counts, kind="stable")
    ids = dict[str, int]()
    for id in order.tolist():
        if counts[id]:
            ids.setdefault(model.tokenizer.text_of(id), id)
    return list(ids.values())


def _vectors(model: LanguageModel) -> _Vectors:
    """(vocabulary, size)"""
    vectors = model.model.token_vectors()
    if vectors is None:
        raise UsageError(
            "plot embeddings needs a model with embeddings",
            where=model.path,
            why=f"this {model.header.model.model} has none",
        )
    return vectors.detach().cpu().double().numpy()


def _pca(vectors: _Vectors) -> tuple[_Vectors, tuple[float, float]]:
    """The points (tokens, 2), and the share of the variance along each axis."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    total = max(float((sizes**2).sum()), 1e-300)
    # The sign of a direction is arbitrary: the largest entry is made positive.
    left = left[:, :2] * np.sign(left[np.abs(left[:, :2]).argmax(0), [0, 1]])
    first, second = (float(size**2 / total) for size in sizes[:2])
    return left * sizes[:2], (first, second)


def _tsne(vectors: _Vectors) -> _Vectors:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        instead = "leave out --method tsne"
        raise missing_package("t-SNE", "scikit-learn", "plot", instead=instead) from error
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    return np.asarray(tsne.fit_transform(vectors), np.float64)


@dataclass(frozen=True)
class EmbeddingPlot:
    """Neighbours in the terminal, a map in a figure; as rows the neighbours of ``near`` or the map.

    Attributes:
        text: The text in which tokens are counted.
        near: The tokens whose neighbours are shown; if empty, the most frequent words.
        tokens: The number of tokens on the map.
    """

    model: LanguageModel
    text: str
    near: tuple[str, ...]
    method: MapMethod
    tokens: int

    @cached_property
    def map(self) -> EmbeddingMap:
        return map_embeddings(self.model, self.text, method=self.method, tokens=self.tokens)

    def rows(self) -> Iterator[Row]:
        if self.near:
            for token, nearest in neighbours(self.model, self.near).items():
                for rank, (near, cosine) in enumerate(nearest, start=1):
                    yield {"token": token, "rank": rank, "near": near, "similarity": cosine}
        else:
            for token, (x, y) in zip(self.map.tokens, self.map.points.tolist(), strict=True):
                yield {"token": token, "method": self.method, "x": x, "y": y}

    def terminal(self, console: Console) -> Table:
        if self.near:
            found = neighbours(self.model, self.near)
        else:
            tokens = map(self.model.tokenizer.text_of, _by_frequency(self.model, self.text))
            words = (token for token in tokens if any(map(str.isalpha, token)))
            found = neighbours(self.model, islice(words, _FREQUENT), _NEAREST)
        table = drawing.new_table("token")
        table.add_column("nearest, with the cosine of their embeddings")
        for token, nearest in found.items():
            cells = [
                Text.assemble(token_text(near), (f" {fixed(cosine, 2)}", "label"))
                for near, cosine in nearest
            ]
            table.add_row(token_text(token), Text("   ").join(cells))
        return table

    def figure(self) -> "Figure":
        if self.near:
            raise UsageError("--near is shown in the terminal", fix="leave out --near or --out")
        (name,) = drawing.checkpoint_names([str(self.model.path)])
        method = "PCA" if self.method == "pca" else "t-SNE"
        return map_figure(self.map, f"Embeddings of {name}, by {method}")


def map_figure(map: EmbeddingMap, title: str) -> "Figure":
    """Every token as a dot, with a label if there is room for one."""
    with drawing.style():
        figure = drawing.new_figure(title, 1.15 * drawing.HEIGHT)
        axes = figure.subplots()
        first_letters = [next((c for c in token if c.isalpha()), "") for token in map.tokens]
        kinds = np.array([int(each.isupper()) if each else 2 for each in first_letters])
        for kind, (colour, label) in enumerate(zip(COLOURS, _KINDS, strict=False)):
            x, y = map.points[kinds == kind].T
            if len(x):
                axes.scatter(x, y, s=34, color=colour, alpha=0.85, linewidths=0, label=label)
        if map.explained is None:  # t-SNE has no scale
            labels = "first axis (only neighbourhoods have a meaning)", "second axis"
            axes.set(xticks=[], yticks=[])
        else:
            first, second = (f"{100 * share:.0f} % of the variance" for share in map.explained)
            labels = f"first component ({first})", f"second component ({second})"
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.margins(0.07)
        figure.legend(loc="outside lower left", ncols=3, handletextpad=0.2)
        drawing.set_note(axes, f"The {len(map.tokens)} most frequent tokens.")
        figure.draw_without_rendering()  # lays out the axes, among which labels are placed
        figure.set_layout_engine("none")
        _place_labels(axes, map, [COLOURS[kind] for kind in kinds])
    return figure


def _place_labels(axes: "Axes", map: EmbeddingMap, colours: Sequence[str]) -> None:
    """Label the dots in order, each on the first side where it covers no dot or label.

    A dot without such a side has no label. matplotlib cannot place labels in this way.
    """
    from matplotlib.transforms import Bbox

    radius = 3 * axes.figure.dpi / 72
    pixels = axes.transData.transform(map.points)
    taken = [Bbox([place - radius, place + radius]) for place in pixels]
    for number, (token, point) in enumerate(zip(map.tokens, map.points, strict=True)):
        label = axes.annotate(
            visible(token),
            point,
            (0, 0),
            textcoords="offset points",
            fontsize=13,
            color=colours[number],
        )
        others = taken[:number] + taken[number + 1 :]
        for x, y in _SIDES:
            label.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
            label.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")
            label.set_position((x, y))
            box = label.get_window_extent()
            inside = np.all(box.min >= axes.bbox.min) and np.all(box.max <= axes.bbox.max)
            if inside and not box.count_overlaps(others):
                taken.append(box)
                break
        else:
            label.remove()
