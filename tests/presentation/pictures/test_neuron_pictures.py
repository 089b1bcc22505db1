"""A text coloured by one unit, in colours and without."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from textgen.presentation.console import laid_out
from textgen.presentation.pictures import neurons
from textgen.presentation.pictures.neurons import (
    trace_rows,
    traces_figure,
    traces_terminal,
    tracking_rows,
)
from textgen.results import Activation, Tracking, UnitTrace

FOUND = [Tracking("inside quotes", "cell.0.17", -0.625), Tracking("inside quotes", "cell.0.3", 0.5)]
TRACE = UnitTrace(
    "runs/mine/best",
    "cell.0.17",
    2.0,
    (
        Activation("ab", 2.0),
        Activation(" ", 0.0),
        Activation("c", -1.0),
        Activation("\n", -9.0),
        Activation("\x1b", 1.0),
    ),
    FOUND[0],
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is shown on a terminal of this width, with colours or without."""

    def show(width: int = 60, *, colours: bool) -> str:
        console = Console(
            force_terminal=colours,
            color_system="truecolor" if colours else None,
            width=width,
            theme=None,
        )
        monkeypatch.setattr(neurons, "out_console", lambda: console)
        from textgen.presentation.console import _THEME

        console.push_theme(_THEME)
        return laid_out(console, traces_terminal([TRACE], FOUND, width))

    return show


def test_without_colours_a_digit_or_a_letter_stands_under_each_character(terminal: Any) -> None:
    lines = terminal(colours=False).splitlines()
    assert "\x1b" not in "".join(lines)
    assert [line.split() for line in lines[2:4]] == [
        ["inside", "quotes", "cell.0.17", "-0.62"],
        ["cell.0.3", "+0.50"],
    ]
    place = lines.index("cell.0.17: inside quotes (r = −0.62)")
    assert [line.rstrip() for line in lines[place + 1 : place + 5]] == [
        "ab c↵",
        "99 di",
        r"\x1b",
        "5555" if round(4.5) == 5 else "4444",
    ]
    assert "1 to 9 up to 2.0" in lines[place + 5]


def test_in_colour_the_background_tells_strength_and_sign(terminal: Any) -> None:
    text = terminal(colours=True)
    row = next(line for line in text.splitlines() if "↵" in line)
    assert "48;2;158;69;4ma" in row  # the darkest orange, #9e4504
    assert "48;2;158;69;4mb" in row
    assert "48;2;127;178;220mc" in row  # the second blue, #7fb2dc
    assert "48;2;18;80;138m↵" in row  # the darkest blue, #12508a
    assert "\x1b[0m \x1b" in row  # nothing behind what is zero


def test_lines_are_broken_at_the_width(terminal: Any) -> None:
    lines = [line.rstrip() for line in terminal(4, colours=False).splitlines()]
    assert lines.count("ab c") == 1


def test_in_a_figure_each_character_has_its_cell_and_colour() -> None:
    figure = traces_figure([TRACE, TRACE])
    first, second, scale = figure.axes
    assert [each.get_text() for each in first.texts] == ["a", "b", " ", "c", "↵", *r"\x1b"]
    colours = [each.get_facecolor()[:3] for each in first.patches]
    assert colours[0] == colours[1] == pytest.approx((0x9E / 255, 0x45 / 255, 4 / 255), abs=0.01)
    assert colours[2] == pytest.approx((1, 1, 1), abs=0.02)
    assert colours[4][2] > colours[4][0]
    assert [each.get_xy() for each in first.patches][3:6] == [(3, 0), (4, 0), (0, 1)]
    assert second.get_title(loc="left") == "cell.0.17: inside quotes (r = −0.62)"
    assert [each.get_text() for each in scale.get_xticklabels()] == ["−max", "0", "max"]


def test_rows_of_traces_and_of_what_was_found() -> None:
    rows = [*trace_rows([TRACE])]
    assert rows[3] == {
        "unit": "cell.0.17",
        "tracks": "inside quotes",
        "correlation": -0.625,
        "place": 3,
        "text": "\n",
        "value": -9.0,
    }
    assert [row["unit"] for row in tracking_rows(FOUND)] == ["cell.0.17", "cell.0.3"]
