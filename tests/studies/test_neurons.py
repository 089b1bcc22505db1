"""Units that keep track of something, found in a network that was made by hand."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.models.tensor_state import TensorState
from textgen.studies.neurons import best_traces, features, read_states, search, trace

TEXT = "he said “no, (never)”.\n\n“why?” she asked (twice).\n" * 3


class Characters:
    def encode(self, text: str) -> Any:
        return np.array([ord(c) for c in text], np.uint32)

    def surfaces(self, text: str) -> list[str]:
        return list(text)


class HandMade(torch.nn.Module):
    """cell.0.1 counts the line, cell.0.2 is on inside quotes, upside down; others are noise."""

    generates, device = True, torch.device("cpu")

    def start(self, batch: int) -> TensorState:
        return TensorState({"hidden.0": torch.zeros(batch, 2), "cell.0": torch.zeros(batch, 3)})

    def features(self, ids: Any, state: Any) -> Any:
        character, cell = chr(int(ids)), state.tensors()["cell.0"].clone()
        cell[0, 0] = int(ids) % 7
        cell[0, 1] = 0 if character in "\n\1" else cell[0, 1] + 2
        cell[0, 2] = {"“": -5.0, "”": 0.0}.get(character, float(cell[0, 2]))
        return None, TensorState({"hidden.0": cell[:, :2] * 0 + int(ids) % 5, "cell.0": cell})


@pytest.fixture
def model() -> Any:
    header = types.SimpleNamespace(model=types.SimpleNamespace(model="hand"))
    return types.SimpleNamespace(model=HandMade(), tokenizer=Characters(), path="x", header=header)


def test_a_cell_that_counts_the_line_and_one_that_knows_quotes_are_found(model: Any) -> None:
    found = search(read_states(model, TEXT), most=1)
    best = {each.feature: each for each in found}
    assert best["position in the line"].unit == "cell.0.1"
    assert best["position in the line"].correlation == pytest.approx(1)
    assert best["inside quotes"].unit == "cell.0.2"
    assert best["inside quotes"].correlation == pytest.approx(-1)
    assert abs(best["inside brackets"].correlation) < 0.9


def test_features_are_told_at_the_end_of_each_token() -> None:
    told = features(("a ", "(b", ") “", "c", "”", "", "\n\n", "d"))
    assert told["position in the line"].tolist() == [2, 4, 7, 8, 9, 9, 0, 1]
    assert told["inside brackets"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert told["inside quotes"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_an_empty_line_ends_what_nobody_closed() -> None:
    told = features(tuple('(a "b\nc\n\nd'))
    assert told["inside quotes"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert told["inside brackets"].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_unit_is_named_in_full_by_layer_or_by_number_alone(model: Any) -> None:
    states = read_states(model, TEXT)
    assert trace(states, "hidden.0.1").unit == "hidden.0.1"
    assert trace(states, "0.1").unit == trace(states, "1").unit == "cell.0.1"
    shown = trace(states, "1", start=1, most=3)
    assert [(each.text, each.value) for each in shown.activations] == [
        ("e", 4.0),
        (" ", 6.0),
        ("s", 8.0),
    ]


@pytest.mark.parametrize("unit", ["3", "cell.0.3", "1.0", "cell", "", "-1", "cell.0.", "²"])
def test_a_unit_that_is_not_there_is_answered_with_those_that_are(model: Any, unit: str) -> None:
    with pytest.raises(UsageError, match=r"hidden\.0\.0 to 1, cell\.0\.0 to 2"):
        trace(read_states(model, TEXT), unit)


def test_the_text_shown_begins_with_a_line_and_has_what_is_tracked(model: Any) -> None:
    text = "no quotes here at all.\n" * 4 + TEXT
    states = read_states(model, text)
    shown = {each.tracks.feature: each for each in best_traces(states, search(states), most=30)
             if each.tracks}  # fmt: skip
    quoted = "".join(each.text for each in shown["inside quotes"].activations)
    assert quoted.startswith(("he said", "“why", "\n"))


def test_a_text_without_anything_to_track_is_told_so(model: Any) -> None:
    with pytest.raises(DataError, match="keep track"):
        search(read_states(model, "\n\n\n"))
    with pytest.raises(DataError, match="empty"):
        read_states(model, "")
