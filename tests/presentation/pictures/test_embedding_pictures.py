"""Maps of embeddings: every token is a dot, and no label covers another."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from textgen.presentation.console import laid_out, out_console
from textgen.presentation.pictures.embeddings import (
    embedding_figure,
    map_rows,
    neighbour_rows,
    neighbour_table,
)
from textgen.presentation.pictures.file import rendered
from textgen.results import EmbeddingMap, MappedToken, Neighbour, Neighbours

DRAWS = random.Random(1)
CROWD = EmbeddingMap(
    "runs/words/best",
    "pca",
    200,
    (
        MappedToken("$x$", 3.0, 3.0),
        MappedToken("￭,", -3.0, 3.0),
        *(MappedToken(f"word{n}", DRAWS.gauss(0, 1), DRAWS.gauss(0, 1)) for n in range(30)),
    ),
    (0.3, 0.1),
)
FOUND = [Neighbours(each, (Neighbour("an", 0.8), Neighbour("b\n", -0.25))) for each in ("a", "the")]


@pytest.fixture(scope="module")
def figure() -> Any:
    return embedding_figure(CROWD)


def test_every_token_is_a_dot_where_it_lies(figure: Any) -> None:
    (axes,) = figure.axes
    dots = {tuple(place) for each in axes.collections for place in each.get_offsets().tolist()}
    assert dots == {(each.x, each.y) for each in CROWD.tokens}
    assert axes.get_xlabel() == "first component (30 % of the variance)"
    names = [each.get_text() for each in axes.get_legend().get_texts()]
    assert names == ["words", "no letters"]


def test_no_label_covers_another_and_the_most_frequent_have_one(figure: Any) -> None:
    (axes,) = figure.axes
    figure.draw_without_rendering()
    labels = [each for each in axes.texts if each.get_fontsize() == 13]
    # Of an annotation with a line, the box of the text alone.
    boxes = [super(type(each), each).get_window_extent() for each in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    written = [each.get_text() for each in labels]
    assert written[:3] == ["$x$", ",", "word0"]
    assert 15 < len(written) <= len(CROWD.tokens)


def test_a_dollar_and_a_character_without_a_glyph_are_drawn(figure: Any) -> None:
    assert rendered(figure, ".png").startswith(b"\x89PNG")
    odd = EmbeddingMap("x", "tsne", 2, (MappedToken("\U0001f99c", 0, 0),) * 2, None)
    assert b"<svg" in rendered(embedding_figure(odd), ".svg")


def shown(found: Any) -> list[list[str]]:
    console = out_console()
    console.width = 80
    return [line.split() for line in laid_out(console, neighbour_table(found)).splitlines()]


def test_neighbours_stand_in_columns_with_their_cosines() -> None:
    lines = shown(FOUND)
    assert lines[0] == ["near", "a", "cosine", "near", "the", "cosine"]
    assert lines[2:] == [["an", "0.80"] * 2, [r"b\n", "-0.25"] * 2]
    assert shown(FOUND * 2)[2] == ["a", "an", "0.80", r"b\n", "-0.25"]


def test_rows_of_a_map_and_of_neighbours() -> None:
    assert next(iter(map_rows(CROWD))) == {"token": "$x$", "method": "pca", "x": 3.0, "y": 3.0}
    rows = [*neighbour_rows(FOUND)]
    assert rows[1] == {"token": "a", "rank": 2, "near": "b\n", "similarity": -0.25}
    assert len(rows) == 4
