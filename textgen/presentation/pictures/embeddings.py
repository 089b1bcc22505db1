"""Embeddings on a plane, and which tokens are near one another."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from textgen.presentation.numbers import fixed
from textgen.presentation.pictures.labels import place_labels
from textgen.presentation.pictures.lines import checkpoint_names
from textgen.presentation.pictures.rows import Row
from textgen.presentation.pictures.style import (
    COLOURS,
    new_figure,
    set_title,
    styled,
)
from textgen.presentation.tokens import token_text, visible
from textgen.results import EmbeddingMap, Neighbours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS = {"pca": "PCA", "tsne": "t-SNE"}
_JOINER = "\uffed"
_KINDS = (
    ("words", COLOURS[0]),
    ("words with a capital", COLOURS[1]),
    ("no letters", COLOURS[2]),
)


def embedding_figure(map: EmbeddingMap) -> "Figure":
    """Every token as a dot, labelled where its label covers no other."""
    with styled():
        figure = new_figure(1.15 * 6.75)
        axes = figure.subplots()
        kinds = [_kind(each.token) for each in map.tokens]
        for number, (name, ink) in enumerate(_KINDS):
            some = [each for each, kind in zip(map.tokens, kinds, strict=True) if kind == number]
            if some:
                xs, ys = [each.x for each in some], [each.y for each in some]
                axes.scatter(xs, ys, s=34, color=ink, alpha=0.85, linewidths=0, label=name)
        axes.set_xlabel(_axis(map, 0))
        axes.set_ylabel(_axis(map, 1))
        axes.tick_params(length=0, pad=6)
        if map.explained is None:  # a map of t-SNE has no scale
            axes.set_xticks([])
            axes.set_yticks([])
        axes.margins(0.07)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, handletextpad=0.2)
        (name,) = checkpoint_names([map.checkpoint])
        note = f"The {len(map.tokens)} most frequent tokens; embeddings of {map.width} numbers."
        set_title(axes, f"Embeddings of {name}, by {_METHODS[map.method]}", note)
        figure.draw_without_rendering()
        place_labels(
            axes,
            [(each.x, each.y) for each in map.tokens],
            [_label(each.token) for each in map.tokens],
            [_KINDS[kind][1] for kind in kinds],
        )
    return figure


def _kind(token: str) -> int:
    letters = [c for c in token if c.isalpha()]
    return 2 if not letters else int(letters[0].isupper())


def _label(token: str) -> str:
    """A token on a map, where it need not be told on which side it joins another."""
    return visible(token.replace(_JOINER, "") or token)


def _axis(map: EmbeddingMap, number: int) -> str:
    ordinal = ("first", "second")[number]
    if map.explained is None:
        return f"{ordinal} axis (no unit: only what is near is meant)"
    share = 100 * map.explained[number]
    return f"{ordinal} component ({share:.0f} % of the variance)"


def neighbour_table(found: Sequence[Neighbours]) -> Table:
    """A column for each token, or a row where there are many of them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="label")
    if len(found) <= 3:
        for each in found:
            table.add_column(f"near {visible(each.token)}")
            table.add_column("cosine", justify="right")
        for row in zip(*(each.nearest for each in found), strict=True):
            cells: list[Any] = []
            for near in row:
                cells += [token_text(near.token), fixed(near.similarity, 2)]
            table.add_row(*cells)
        return table
    table.add_column("token")
    table.add_column("nearest, with the cosine of their embeddings")
    for each in found:
        nearest = Text("   ").join(
            Text.assemble(token_text(near.token), (f" {fixed(near.similarity, 2)}", "label"))
            for near in each.nearest
        )
        table.add_row(token_text(each.token), nearest)
    return table


def neighbour_rows(found: Sequence[Neighbours]) -> Iterator[Row]:
    for each in found:
        for rank, near in enumerate(each.nearest, start=1):
            yield {
                "token": each.token,
                "rank": rank,
                "near": near.token,
                "similarity": near.similarity,
            }


def map_rows(map: EmbeddingMap) -> Iterator[Row]:
    for each in map.tokens:
        yield {"token": each.token, "method": map.method, "x": each.x, "y": each.y}
