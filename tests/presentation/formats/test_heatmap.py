"""The text in colours that can be read on any terminal, and in numbers where there are none."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
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


def test_letters_stand_out_each_colour_is_darker_than_the_last_and_none_is_lost(
    contrast: Callable[[str, str], float],
) -> None:
    for colour, style in zip(PALETTE, table._STYLES, strict=True):
        assert style.color is not None
        assert abs(contrast(colour, style.color.name)) >= 4.5
        for terminal in ("#000000", "#ffffff"):
            assert abs(contrast(colour, terminal)) > 1.4
    assert all(contrast(*pair) > 1 for pair in itertools.pairwise(PALETTE))


def test_without_colours_each_part_is_followed_by_its_bits(write: Any) -> None:
    out = write("heatmap", "word")
    assert "1  the‹1.0› cats‹4.0› xyzzy‹10.0*› sat‹2.0› <EOS>‹3.0›\n" in out
    assert "‹ › has the bits of the word before it." in out
    assert "ln p -13.863  6 tokens (1 unk)" in out
    assert "\x1b" not in out


def test_colours_deepen_by_two_bits_a_step_and_none_is_the_terminal_s_own(colours: None) -> None:
    writer = table.HeatMapScores(Shown(level="word"))
    styles = [writer._style(bits) for bits in (0.0, 1.9, 2.0, 4.5, 13.9, 14.0, 99.0, float("inf"))]
    backgrounds = [style.bgcolor and style.bgcolor.name for style in styles]
    assert backgrounds == [None, None, PALETTE[0], PALETTE[1], PALETTE[5], *PALETTE[-1:] * 3]
    characters = table.HeatMapScores(Shown(level="character"))
    assert characters._style(1.0) == writer._style(2.0)


def test_in_colours_the_text_is_the_text_itself(write: Any, colours: None) -> None:
    out = write("heatmap", "word")
    assert "1  the cats xyzzy sat <EOS>\n" in out
    assert "‹" not in out
    assert " 2–4 " in out
    assert " 14+\n" in out


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
