"""Samples with what is known of their novelty, on a terminal and in a pipe."""

import re
from typing import Any

import pytest

from textgen.presentation.samples import SampleWriter
from textgen.results import Novelty, Sample


def sample(index: int, text: str, *stretches: tuple[int, int], drawn: int = 1) -> Sample:
    copied = sum(end - start for start, end in stretches)
    longest = max((end - start for start, end in stretches), default=2)
    novelty = Novelty(longest, copied / len(text), stretches)
    return Sample(index, text, "Once", -9.0, 9, "length", 1, novelty=novelty, drawn=drawn)


def test_on_a_terminal_copied_stretches_are_marked_and_the_rest_is_not(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stdout = terminal("stdout")
    writer = SampleWriter(1)
    writer.sample(sample(0, " a copied\nstretch, new", (3, 17)))
    writer.end()
    shown = stdout.getvalue()
    marked = "".join(re.findall(r"\x1b\[4[0-9;]*m([^\x1b]*)", shown))
    assert marked.replace("\n", "") == "copiedstretch"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain == "Once a copied\nstretch, new\n"
    assert "63.6 % copied, the longest stretch 14 characters" in capsys.readouterr().err


def test_in_a_pipe_the_text_is_as_it_is_and_the_figures_are_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    writer = SampleWriter(2)
    writer.sample(sample(1, " two"))
    writer.sample(sample(0, " one more", (1, 5), drawn=3))
    writer.end()
    out, err = capsys.readouterr()
    assert out == "Once one more\n---------------\nOnce two\n"
    assert [line.partition(":")[2] for line in err.splitlines()] == [
        " sample 1: 44.4 % copied, the longest stretch 4 characters; drawn 3 times",
        " sample 2: 0 % copied, the longest stretch 2 characters",
    ]


def test_a_terminal_gets_the_pieces_as_they_come_and_cannot_be_driven_by_them(
    terminal: Any,
) -> None:
    stdout = terminal("stdout")
    writer = SampleWriter(1)
    assert writer.streams
    writer.piece(0, "Once\x1b", " a")
    assert stdout.getvalue() == "\x1b[1mOnce\\x1b\x1b[0m a"
    writer.piece(0, "Once\x1b", "\x1b[31m\n")
    writer.end()
    assert stdout.getvalue().endswith(" a\\x1b[31m\n")
