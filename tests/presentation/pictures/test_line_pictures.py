"""Pictures of lines: what is in the figure and in the terminal is what was measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from textgen.presentation.console import laid_out, out_console
from textgen.presentation.pictures.gradient import gradient_picture, gradient_rows, power
from textgen.presentation.pictures.line_figure import line_figure
from textgen.presentation.pictures.line_terminal import line_terminal
from textgen.presentation.pictures.lines import checkpoint_names, value_at
from textgen.presentation.pictures.loss import loss_picture, loss_rows
from textgen.presentation.pictures.memory import (
    choices_pictures,
    choices_rows,
    context_picture,
    context_rows,
)
from textgen.results import (
    Accuracy,
    ContextLoss,
    GradientNorm,
    GradientNorms,
    LossCurves,
    LossPoint,
    Recall,
)

RUNS = [
    LossCurves(
        name,
        tuple(LossPoint(n, 100.0 * n, n / 50, float(n), 9 / n + worse) for n in range(1, 51)),
        (LossPoint(25, 2500.0, 0.5, 26.0, 2.0 + worse), LossPoint(50, 5e3, 1.0, 52.0, 1.0 + worse)),
    )
    for name, worse in (("runs/lstm/best", 0.0), ("runs/rnn", 0.5))
]
NORMS = [
    GradientNorms(
        name,
        ("hidden.0", "cell.0"),
        64,
        tuple(GradientNorm(k, base**k, base**k / 2, base**k * 2) for k in range(1, 101)),
    )
    for name, base in (("lstm", 0.9), ("rnn", 0.5))
]


def drawn_lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {
        f"{each.get_label()}/{each.get_linewidth()}": (
            list(each.get_xdata()),
            list(each.get_ydata()),
        )
        for each in axes.get_lines()
    }


def legend_of(axes: Any) -> list[str]:
    return [each.get_text() for each in axes.get_legend().get_texts()]


def text_of(pictures: Any, width: int = 80) -> str:
    console = out_console()
    console.width = width
    return laid_out(console, line_terminal(pictures, width))


@pytest.mark.parametrize(
    ("over", "places", "label"),
    [
        ("seconds", [26.0, 52.0], "training time (seconds)"),
        ("tokens", [2500.0, 5000.0], "training text (tokens)"),
        ("steps", [25.0, 50.0], "training (steps)"),
        ("epochs", [0.5, 1.0], "training (epochs)"),
    ],
)
def test_the_loss_of_each_run_is_drawn_over_what_was_asked(
    over: Any, places: list[float], label: str
) -> None:
    (axes,) = line_figure([loss_picture(RUNS, over)]).axes
    lines = drawn_lines(axes)
    assert lines["lstm/2.8"] == (places, [2.0, 1.0])
    assert lines["rnn/2.8"] == (places, [2.5, 1.5])
    assert lines["rnn/1.4"][1] == [point.loss for point in RUNS[1].training]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "loss (nats a token)")
    assert legend_of(axes) == ["rnn", "lstm", "training"]


def test_of_one_run_the_legend_tells_validation_from_training() -> None:
    (axes,) = line_figure([loss_picture(RUNS[:1])]).axes
    assert legend_of(axes) == ["validation", "training"]
    assert axes.get_title(loc="left") == "Loss while learning: lstm"
    # The first steep fall is outside: all the rest would lie flat.
    assert axes.get_ylim()[1] < 3 < RUNS[0].training[0].loss


def test_a_pseudo_loss_is_never_shown_under_the_name_of_a_true_one() -> None:
    runs = [RUNS[0], dataclasses.replace(RUNS[1], pseudo=True)]
    picture = loss_picture(runs)
    (axes,) = line_figure([picture]).axes
    assert legend_of(axes) == ["rnn (pseudo loss)", "lstm", "training"]
    assert "no true one compares" in picture.note
    first, *_, last = loss_rows(runs)
    assert (first["loss"], first["pseudo_loss"]) == (9.0, None)
    assert (last["loss"], last["pseudo_loss"]) == (None, 1.5)
    assert "pseudo loss" in loss_picture(runs[1:]).title


def test_the_gradient_is_drawn_on_a_log_scale_with_its_band() -> None:
    picture = gradient_picture(NORMS, "a text")
    (axes,) = line_figure([picture]).axes
    lines = drawn_lines(axes)
    assert lines["lstm/2.8"] == ([*range(1, 101)], [0.9**k for k in range(1, 101)])
    assert axes.get_yscale() == "log"
    assert "tokens back" in axes.get_xlabel()
    assert legend_of(axes) == ["lstm", "rnn"]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.8)
    assert "hidden and cell of all layers" in picture.note
    # Below what float64 adds to a weight nothing is drawn.
    assert axes.get_ylim()[0] == 1e-16


def test_a_gradient_that_is_zero_leaves_its_line_and_breaks_nothing() -> None:
    dead = GradientNorms("dead", ("hidden",), 1, (GradientNorm(1, 0.0, 0.0, 0.0),))
    (axes,) = line_figure([gradient_picture([dead])]).axes
    assert drawn_lines(axes) == {}
    assert "dead" in text_of([gradient_picture([dead])])


def test_choices_have_a_panel_a_kind_and_one_of_all_together() -> None:
    recalls = [
        Recall("agreement", 0, 9, 5.0, Accuracy(90, 100)),
        Recall("agreement", 10, 19, 15.0, Accuracy(70, 100)),
        Recall("quotes", 0, 9, 8.0, Accuracy(60, 100)),
        Recall("quotes", 10, 19, math.nan, Accuracy()),
        Recall("quotes", 20, None, 30.0, Accuracy(0, 3)),
    ]
    pictures = choices_pictures({"x": recalls})
    figure = line_figure(pictures, "title", "note")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "All together",
        "Agreement",
        "Closing quotes",
    ]
    curves = [drawn_lines(axes)["x/2.8"] for axes in figure.axes]
    assert curves[0] == ([6.5, 15.0], [75.0, 70.0])
    assert curves[1] == ([5.0, 15.0], [90.0, 70.0])
    assert curves[2] == ([8.0], [60.0])
    (legend,) = figure.legends
    assert [each.get_text() for each in legend.get_texts()] == ["x", "guessing"]
    assert [row["accuracy"] for row in choices_rows({"x": recalls})][:3] == [0.9, 0.7, 0.6]


def test_the_loss_by_context_is_drawn_with_that_of_all_context() -> None:
    losses = [ContextLoss(n, 3 - n / 4, 0.1, 1000) for n in (1, 2, 4)]
    measured = {"a": [*losses, ContextLoss(None, 1.5, 0.1, 1000)]}
    (axes,) = line_figure([context_picture(measured, "a text")]).axes
    lines = [(list(each.get_xdata()), list(each.get_ydata())) for each in axes.get_lines()]
    assert lines == [([1, 2, 4], [2.75, 2.5, 2.0]), ([1, 4], [1.5, 1.5])]
    assert legend_of(axes) == ["a"]
    assert [row["context"] for row in context_rows(measured)] == [1, 2, 4, None]


def test_in_the_terminal_each_curve_ends_in_its_name_and_the_table_has_its_values() -> None:
    text = text_of([loss_picture(RUNS)])
    lines = text.splitlines()
    assert lines[0] == "Loss while learning"
    assert any("│" in line and line.rstrip().endswith("rnn") for line in lines)
    assert "loss (nats a token), over training time (seconds)" in text
    (row,) = [line.split() for line in lines if line.startswith("lstm ")]
    assert row == ["lstm", "–", "–", "1.80", "1.40", "1.00"]
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80


def test_the_scale_of_a_gradient_in_the_terminal_is_in_powers() -> None:
    text = text_of([gradient_picture(NORMS)])
    assert "7.9·10⁻³¹ │" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("lstm ")]
    assert row[:5] == ["lstm", "0.9", "0.81", "0.59", "0.35"]


def test_rows_have_every_number_that_is_drawn() -> None:
    rows = [*loss_rows(RUNS)]
    assert len(rows) == 104
    assert rows[50] == {
        "checkpoint": "runs/lstm/best",
        "part": "validation",
        "steps": 25,
        "tokens": 2500.0,
        "epochs": 0.5,
        "seconds": 26.0,
        "loss": 2.0,
    }
    last = [*gradient_rows(NORMS)][-1]
    assert (last["lag"], last["median"], last["state"]) == (100, 0.5**100, "hidden.0 cell.0")


def test_names_values_and_powers() -> None:
    assert checkpoint_names(["a/x/best", "b/x/last"]) == ["a/x", "b/x"]
    assert checkpoint_names(["x", "x"]) == ["x (1)", "x (2)"]
    assert value_at([(1, 10), (3, 20)], 2) == 15
    assert math.isnan(value_at([(1, 10), (3, 20)], 4))
    assert [power(value) for value in (1.0, 0.01, 1e-4, 2.5e-12)] == [
        "1",
        "0.01",
        "10⁻⁴",
        "2.5·10⁻¹²",
    ]
