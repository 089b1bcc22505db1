"""The text in colours that can be read on any terminal, and in numbers where there are none."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rich.console import Console

from textgen.presentation.formats import Shown, table
from textgen.results import PartScore, SentenceScore

PALETTE = table.PALETTE


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout is a terminal of 16 million colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def console() -> Console:
        return Console(force_terminal=True, color_system="truecolor", width=100, markup=False)

    monkeypatch.setattr(table, "out_console", console)


SIGHT = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    # Machado, Oliveira and Fernandes (2009), severity 1
    "no red": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "no green": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "no blue": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}


def lab(colour: str, sight: Sequence[Sequence[float]]) -> Sequence[float]:
    """A colour #rrggbb in CIELAB, as the eye of someone sees it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    light = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    r, g, b = (max(0.0, sum(map(operator.mul, row, light))) for row in sight)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.0888,
    )
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 4 / 29 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("terminal", ["#000000", "#ffffff"])
def test_the_more_surprising_stands_out_more_on_any_terminal(
    sight: str, terminal: str, contrast: Callable[[str, str], float]
) -> None:
    own, *seen = (lab(colour, SIGHT[sight]) for colour in (terminal, *PALETTE))
    distances = [math.dist(own, each) for each in seen]
    assert distances == sorted(distances)
    for colour, style in zip(PALETTE, table._STYLES, strict=True):
        assert style.color is not None
        assert abs(contrast(colour, style.color.name)) >= 4.5
        assert abs(contrast(colour, terminal)) > 1.4


def test_without_colours_each_part_is_followed_by_its_bits(write: Any) -> None:
    out = write("heatmap", "word")
    assert "1  the‹1.0› cats‹4.0› xyzzy‹10.0 unk› sat‹2.0› <EOS>‹3.0›\n" in out
    assert "‹ › has the bits of the word before it. unk: unknown to the model." in out
    assert "ln p -13.863  6 tokens (1 unk)" in out
    assert "\x1b" not in out


def test_the_scale_is_of_the_text_so_that_few_parts_have_the_last_colour(colours: None) -> None:
    bits = [each / 10 for each in range(1, 1001)]
    edges = table.scale(bits)
    assert edges == [50.0, 65.0, 80.0, 90.0, 97.0]
    assert table.scale([7.0] * 9) == [7.0]
    assert table.scale([math.inf, 3.0]) == [3.0] and table.scale([]) == []
    writer = table.HeatMapScores(Shown(level="word"))
    writer._edges = edges
    styles = [writer._style(each) for each in (0.0, 50.0, 50.1, 80.5, 97.0, 97.1, math.inf)]
    backgrounds = [style.bgcolor and style.bgcolor.name for style in styles]
    assert backgrounds == [None, None, PALETTE[0], *PALETTE[2:4], *PALETTE[-1:] * 2]


def test_sentences_wait_for_the_scale_unless_they_are_typed(write: Any, colours: None) -> None:
    score = SentenceScore(-1.0, 1, line=1, text="a", parts=(PartScore("a", "a", -9.0),))
    for at_once in (True, False):
        writer = table.HeatMapScores(Shown(level="word", at_once=at_once))
        shown: list[SentenceScore] = []
        writer._show = shown.append  # type: ignore[method-assign]
        writer.sentence(score)
        assert bool(shown) == at_once
        writer.flush()
        assert shown == [score]
        assert ("The scale is that of this text: 50 %" in writer._legend(unknown=False)) != at_once


def test_in_colours_the_text_is_the_text_itself(write: Any, colours: None) -> None:
    out = write("heatmap", "word")
    assert "1  the cats xyzzy sat <EOS>\n" in out
    assert "‹" not in out
    assert "bits per word   up to 2 " in out
    assert " over 4" in out


def test_what_is_unknown_is_underlined_and_the_legend_says_so(colours: None) -> None:
    writer = table.HeatMapScores(Shown(level="word"))
    for unknown in (True, False):
        (span,) = writer._painted(PartScore("x", " x", -9.0, unknown=unknown)).spans
        assert ("underline" in str(span.style)) == unknown
        assert ("underlined" in writer._legend(unknown=unknown).plain) == unknown


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "the‹1.0›" in re.sub("\x1b.*?m", "", write("heatmap", "word"))


def test_white_space_by_itself_is_named_where_it_has_no_colour(write: Any) -> None:
    parts = tuple(PartScore(each, each, -1.0) for each in ("a", " ", "\n", "\x1b"))
    score = SentenceScore(-4.0, 4, 0, 0.0, 4, line=1, text="a \n\x1b", parts=parts)
    out = write.of("heatmap", [score], level="character")
    assert out.startswith("1  a‹1.4›␣‹1.4›\\n‹1.4›\n\\x1b‹1.4›\n")
