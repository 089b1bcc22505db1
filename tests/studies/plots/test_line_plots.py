"""Line plots: the figure, the terminal and the rows show what was measured."""

import dataclasses
import math
import re
from typing import Any

import pytest

from textgen.results import LossCurves, LossPoint
from textgen.studies.plots.drawing import Line, checkpoint_names
from textgen.studies.plots.loss import loss_plot
from textgen.studies.plots.memory import (
    ContextLoss,
    GradientNorm,
    Recall,
    choices_plot,
    context_plot,
    gradient_plot,
    power,
)

RUNS = [
    LossCurves(
        name,
        tuple(LossPoint(n, 9 / n + worse, 100.0 * n, n / 50, float(n)) for n in range(1, 51)),
        (LossPoint(25, 2.0 + worse, 2500.0, 0.5, 26.0), LossPoint(50, 1.0 + worse, 5e3, 1.0, 52.0)),
    )
    for name, worse in (("runs/lstm/best", 0.0), ("runs/rnn", 0.5))
]
NORMS = {
    name: [
        GradientNorm("hidden.0 cell.0", 64, k, base**k, base**k / 2, base**k * 2)
        for k in range(1, 101)
    ]
    for name, base in (("lstm", 0.9), ("rnn", 0.5))
}


def curves_in(axes: Any) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points by colour and width, the baseline left out."""
    return {
        (each.get_color(), each.get_linewidth()): [*zip(*each.get_data(), strict=True)]
        for each in axes.get_lines()
    }


def legend_of(figure: Any) -> list[str]:
    (legend,) = figure.legends
    return [each.get_text() for each in legend.get_texts()]


@pytest.mark.parametrize(
    ("over", "places", "quantity"),
    [
        ("seconds", [26.0, 52.0], "training time"),
        ("tokens", [2500.0, 5000.0], "training text"),
        ("steps", [25.0, 50.0], "training"),
        ("epochs", [0.5, 1.0], "training"),
    ],
)
def test_the_loss_of_each_run_is_drawn_against_the_chosen_quantity(
    over: Any, places: list[float], quantity: str
) -> None:
    figure = loss_plot(RUNS, over).figure()
    (axes,) = figure.axes
    curves = curves_in(axes)
    assert curves["#0072B2", 2.8] == [*zip(places, [2.0, 1.0], strict=True)]
    assert curves["#D55E00", 2.8] == [*zip(places, [2.5, 1.5], strict=True)]
    assert [y for _, y in curves["#D55E00", 1.4]] == [point.loss for point in RUNS[1].training]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        f"{quantity} ({over})",
        "loss (nats per token)",
    )
    assert legend_of(figure) == ["rnn", "lstm"]
    assert "Thin: training loss." in axes.get_title(loc="left")


def test_with_one_run_the_legend_has_validation_and_training_loss() -> None:
    figure = loss_plot(RUNS[:1]).figure()
    assert legend_of(figure) == ["validation", "training"]
    assert figure.get_suptitle() == "Loss during training: lstm"
    # The first steep fall is outside: it would flatten the rest.
    assert figure.axes[0].get_ylim()[1] < 3 < RUNS[0].training[0].loss
    assert "The steep fall at the beginning is outside." in loss_plot(RUNS[:1]).note


def test_the_checkpoints_on_the_way_are_marked_on_the_line_of_their_run(terminal: Any) -> None:
    kept = [
        ("at/2k", 20),
        ("at/3k", 30),
        ("at/100w", 30),
        ("at/9k", 90),
    ]  # the last is after both lines
    points = tuple((name, LossPoint(step, math.nan, 100.0 * step)) for name, step in kept)
    runs = [RUNS[0], dataclasses.replace(RUNS[1], kept=points)]
    plot = loss_plot(runs, "tokens")
    (marks,) = [each for each in plot.figure().axes[0].get_lines() if each.get_marker() == "D"]
    assert marks.get_linestyle() == "None" and marks.get_color() == "#D55E00"
    # The validation loss between two validations; before the first, the training loss.
    xs, ys = marks.get_data()
    assert [*xs] == [2000.0, 3000.0]
    assert [*ys] == pytest.approx([9 / 20 + 0.5, 2.5 - 500 / 2500])
    assert "◇: at/2k, at/3k, at/100w, at/9k." in plot.note
    assert sum(line.count("◇") for line in terminal(plot).splitlines()[3:]) == 2
    last = [*plot.rows()][-1]
    assert (last["part"], last["tokens"]) == ("at/9k", 9000.0)
    assert math.isnan(last["loss"])  # it was not measured
    assert "◇" not in loss_plot(RUNS).note + terminal(loss_plot(RUNS))


def test_a_pseudo_loss_never_has_the_name_of_a_loss() -> None:
    runs = [RUNS[0], dataclasses.replace(RUNS[1], pseudo=True)]
    plot = loss_plot(runs)
    assert legend_of(plot.figure()) == ["rnn (pseudo loss)", "lstm"]
    assert "not comparable" in plot.note
    first, *_, last = plot.rows()
    assert (first["loss"], first["pseudo_loss"]) == (9.0, None)
    assert (last["loss"], last["pseudo_loss"]) == (None, 1.5)
    assert "pseudo loss" in loss_plot(runs[1:]).title


def test_the_gradient_is_drawn_on_a_log_scale_with_its_band() -> None:
    figure = gradient_plot(NORMS, ["a text"]).figure()
    (axes,) = figure.axes
    assert curves_in(axes)["#0072B2", 2.8] == [(k, 0.9**k) for k in range(1, 101)]
    assert axes.get_yscale() == "log"
    assert "tokens back" in axes.get_xlabel()
    assert legend_of(figure) == ["lstm", "rnn"]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.8)
    assert "Median of 64 places in a text" in axes.get_title(loc="left")
    # Values too small to change a weight in float64 are outside.
    assert axes.get_ylim()[0] == 1e-16
    assert "Below 10⁻¹⁶ nothing is drawn." in axes.get_title(loc="left")


def test_a_gradient_of_zero_is_not_drawn_and_breaks_nothing(terminal: Any) -> None:
    plot = gradient_plot({"dead": [GradientNorm("hidden", 1, 1, 0.0, 0.0, 0.0)]}, ["a text"])
    assert plot.figure().axes
    assert "dead" in terminal(plot)


def test_choices_have_a_panel_for_each_kind_and_one_for_all_together() -> None:
    recalls = [
        Recall("agreement", 0, 9, 5.0, 0.9, 0.8, 1.0, 90, 0, 100),
        Recall("agreement", 10, 19, 15.0, 0.7, 0.6, 0.8, 70, 0, 100),
        Recall("quotes", 0, 9, 8.0, 0.6, 0.5, 0.7, 60, 0, 100),
        Recall("quotes", 10, 19, math.nan, math.nan, math.nan, math.nan, 0, 0, 0),
        Recall("quotes", 20, None, 30.0, 0.0, 0.0, 0.5, 0, 0, 3),
    ]
    plot = choices_plot({"x": recalls})
    figure = plot.figure()
    assert {
        axes.get_title(loc="left"): curves_in(axes)["#0072B2", 2.8] for axes in figure.axes
    } == {
        "All together": [(6.5, 75.0), (15.0, 70.0)],
        "Agreement": [(5.0, 90.0), (15.0, 70.0)],
        "Closing quotes": [(8.0, 60.0)],
    }
    assert legend_of(figure) == ["x", "chance"]
    assert [row["accuracy"] for row in plot.rows()][:3] == [0.9, 0.7, 0.6]


def test_the_loss_by_context_is_drawn_with_that_of_all_context() -> None:
    losses = [ContextLoss(n, 3 - n / 4, 0.1, 1000) for n in (1, 2, 4)]
    plot = context_plot({"a": [*losses, ContextLoss(None, 1.5, 0.1, 1000)]}, ["a text", "a text"])
    figure = plot.figure()
    curves = [[*zip(*each.get_data(), strict=True)] for each in figure.axes[0].get_lines()]
    assert sorted(curves) == [[(1, 1.5), (4, 1.5)], [(1, 2.75), (2, 2.5), (4, 2.0)]]
    assert legend_of(figure) == ["a"]
    assert [row["context"] for row in plot.rows()] == [1, 2, 4, None]


def test_in_the_terminal_each_curve_ends_in_its_name_and_the_table_has_its_values(
    terminal: Any,
) -> None:
    text = terminal(loss_plot(RUNS))
    lines = text.splitlines()
    assert lines[0] == "Loss during training"
    assert any("│" in line and line.rstrip().endswith("rnn") for line in lines)
    assert "loss (nats per token) against training time (seconds)" in text
    (row,) = [line.split() for line in lines if line.startswith("lstm ")]
    assert row == ["lstm", "–", "–", "1.80", "1.40", "1.00"]
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    assert "10⁻¹⁶ │" in terminal(gradient_plot(NORMS, ["a text"]))


def test_rows_have_every_number_that_is_drawn() -> None:
    rows = [*loss_plot(RUNS).rows()]
    assert len(rows) == 104
    assert [*rows[50]] == ["checkpoint", "part", "steps", "tokens", "epochs", "seconds", "loss"]
    assert [*rows[50].values()] == ["runs/lstm/best", "validation", 25, 2500.0, 0.5, 26.0, 2.0]
    *_, last = gradient_plot(NORMS, ["a text"]).rows()
    assert last == {"checkpoint": "rnn", **dataclasses.asdict(NORMS["rnn"][-1])}


def test_names_values_and_powers() -> None:
    assert checkpoint_names(["a/x/best", "b/x/last"]) == ["a/x", "b/x"]
    assert checkpoint_names(["x", "x"]) == ["x (1)", "x (2)"]
    line = Line("", ((1, 10), (3, 20)))
    assert line.value_at(2) == 15
    assert math.isnan(line.value_at(4))
    assert [*map(power, (1.0, 0.01, 1e-4, 2.5e-12))] == ["1", "0.01", "10⁻⁴", "2.5·10⁻¹²"]


def test_choices_that_are_never_right_are_on_the_axis_and_chance_is_in_the_terminal(
    terminal: Any,
) -> None:
    never = [Recall("quotes", n, None, n + 5.0, 0.0, 0.0, 0.1, 0, 0, 100) for n in (0, 10, 20)]
    plot = choices_plot({"x": never})
    assert plot.figure().axes[0].get_ylim()[0] < 0
    lines = terminal(plot).splitlines()
    assert sum(line.rstrip().endswith(" chance") for line in lines) == len(plot.panels) == 2
    (first, second) = (n for n, line in enumerate(lines) if line.rstrip().endswith(" x"))
    assert all(re.search("[⠁-⣿]{20}", lines[n]) for n in (first, second))
    high = [Recall("quotes", 0, None, 5.0, 0.9, 0.8, 1.0, 90, 0, 100)]
    assert choices_plot({"x": high}).y.limits == (20, 100)


@pytest.mark.parametrize("over", ["seconds", "tokens", "steps", "epochs"])
def test_places_on_an_axis_have_few_digits(terminal: Any, over: Any) -> None:
    points = tuple(LossPoint(7 * n, 3 - n / 9, 37.0 * n, n / 7, n / 7) for n in range(1, 9))
    text = terminal(loss_plot([LossCurves("a", points, points)], over))
    numbers = re.findall(r"\d+\.?\d*", text.replace(",", ""))
    assert all(len(number.replace(".", "")) <= 4 for number in numbers)
