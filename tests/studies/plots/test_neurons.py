"""Units that follow a feature of the text, in a network made by hand; their traces drawn."""

from typing import Any

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.models import State
from textgen.studies.plots.neurons import (
    Correlation,
    NeuronPlot,
    UnitTrace,
    best_traces,
    features,
    read_states,
    search,
    trace,
)

TEXT = "he said “no, (never)”.\n\n“why?” she asked (twice).\n" * 3


class Characters:
    def encode(self, text: str) -> Any:
        return np.array([ord(c) for c in text], np.uint32)

    def token_texts(self, text: str) -> list[str]:
        return list(text)


class HandMade(torch.nn.Module):
    """cell.0.1 counts the line, cell.0.2 is on inside quotes, upside down; others are noise."""

    is_causal, device = True, torch.device("cpu")

    def start(self, batch: int) -> State:
        return State({"hidden.0": torch.zeros(batch, 2), "cell.0": torch.zeros(batch, 3)})

    def hidden_states(self, ids: Any, state: Any) -> Any:
        character, cell = chr(int(ids)), state.tensors()["cell.0"].clone()
        cell[0, 0] = int(ids) % 7
        cell[0, 1] = 0 if character in "\n\1" else cell[0, 1] + 2
        cell[0, 2] = {"“": -5.0, "”": 0.0}.get(character, float(cell[0, 2]))
        return None, State({"hidden.0": cell[:, :2] * 0 + int(ids) % 5, "cell.0": cell})


@pytest.fixture
def model(stand_in: Any) -> Any:
    return stand_in(HandMade(), Characters())


def test_a_cell_that_counts_the_line_and_one_that_knows_quotes_are_found(model: Any) -> None:
    column, quotes, brackets = search(read_states(model, TEXT), most=1)
    assert column == Correlation("position in the line", "cell.0.1", pytest.approx(1))
    assert quotes == Correlation("inside quotes", "cell.0.2", pytest.approx(-1))
    assert abs(brackets.correlation) < 0.9


def test_features_are_those_at_the_end_of_each_token() -> None:
    found = features(("a ", "(b", ") “", "c", "”", "", "\n\n", "d"))
    assert found["position in the line"].tolist() == [2, 4, 7, 8, 9, 9, 0, 1]
    assert found["inside brackets"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert found["inside quotes"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    found = features(tuple('(a "b\nc\n\nd'))  # an empty line closes both
    assert found["inside quotes"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert found["inside brackets"].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_unit_is_named_in_full_by_layer_or_by_number_alone(model: Any) -> None:
    states = read_states(model, TEXT)
    assert trace(states, "hidden.0.1").unit == "hidden.0.1"
    assert trace(states, "0.1").unit == trace(states, "1").unit == "cell.0.1"
    shown = trace(states, "1", start=1, most=3)
    assert (shown.texts, shown.values) == (("e", " ", "s"), (4.0, 6.0, 8.0))


@pytest.mark.parametrize("unit", ["3", "cell.0.3", "1.0", "cell", "", "-1", "cell.0.", "²"])
def test_the_error_for_an_unknown_unit_lists_the_known_ones(model: Any, unit: str) -> None:
    with pytest.raises(UsageError, match=r"hidden\.0\.0 to 1, cell\.0\.0 to 2"):
        trace(read_states(model, TEXT), unit)


def test_the_text_shown_begins_with_a_line_and_has_the_feature(model: Any) -> None:
    text = "no quotes here at all.\n" * 4 + TEXT
    states = read_states(model, text)
    (_, quotes, _) = best_traces(states, search(states), most=30)
    assert "inside quotes (r = " in quotes.heading
    quoted = "".join(quotes.texts)
    assert quoted.startswith(("he said", "“why", "\n"))


def test_a_text_without_features_is_refused(model: Any) -> None:
    with pytest.raises(DataError, match="no feature"):
        search(read_states(model, "\n\n\n"))
    with pytest.raises(DataError, match="empty"):
        read_states(model, "")


FOUND = [Correlation("inside quotes", *each) for each in (("cell.0.17", -0.625), ("cell.0.3", 0.5))]
TRACE = UnitTrace(
    "runs/mine/best",
    "cell.0.17",
    2.0,
    ("ab", " ", "c", "\n", "\x1b"),
    (2.0, 0.0, -1.0, -9.0, 0.8),
    "cell.0.17: inside quotes (r = −0.62)",
)
PLOT = NeuronPlot([TRACE], FOUND)


def test_without_colours_a_digit_or_a_letter_is_below_each_character(terminal: Any) -> None:
    lines = [line.rstrip() for line in terminal(PLOT).splitlines()]
    assert "\x1b" not in "".join(lines)
    assert lines[2].split() == ["inside", "quotes", "cell.0.17", "-0.62"]
    place = lines.index("cell.0.17: inside quotes (r = −0.62)")
    assert lines[place + 1 : place + 5] == ["ab c↵", "99 di", r"\x1b", "4444"]
    assert "1 to 9 up to 2.0" in lines[place + 5]
    narrow = terminal(PLOT, 4).splitlines()
    assert [line.rstrip() for line in narrow].count("ab c") == 1


def test_in_colour_the_background_shows_strength_and_sign(terminal: Any) -> None:
    text = terminal(PLOT, colours=True)
    row = next(line for line in text.splitlines() if "↵" in line)
    for colour in ("158;69;4ma", "158;69;4mb", "136;168;196mc", "18;80;138m↵"):
        assert f"48;2;{colour}" in row
    assert "\x1b[0m \x1b" in row  # no background for zero


def test_in_a_figure_each_character_has_its_colour() -> None:
    figure = NeuronPlot([TRACE, TRACE], FOUND).figure()
    first, second, scale = figure.axes
    assert [each.get_text() for each in first.texts] == ["a", "b", " ", "c", "↵", *r"\x1b"]
    assert [each.get_position()[0] for each in first.texts[:2]] == [0.5, 1.5]
    (image,) = first.images
    assert image.get_array()[:, :5].tolist() == [[1, 1, 0, -0.5, -1], [0.4, 0.4, 0.4, 0.4, 0]]
    strongest = image.to_rgba([[1.0]])[0, 0, :3]
    assert strongest == pytest.approx((0x9E / 255, 0x45 / 255, 4 / 255), abs=0.01)
    assert second.get_title(loc="left") == "cell.0.17: inside quotes (r = −0.62)"
    assert [each.get_text() for each in scale.get_xticklabels()] == ["−max", "0", "max"]


def test_rows_are_the_units_found_or_the_values_of_one_unit() -> None:
    assert [row["unit"] for row in PLOT.rows()] == ["cell.0.17", "cell.0.3"]
    row = [*NeuronPlot([TRACE], []).rows()][3]
    assert row == {"unit": "cell.0.17", "place": 3, "text": "\n", "value": -9.0}
