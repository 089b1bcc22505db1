"""``textgen sample``: text for people, JSON lines for scripts."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest


class Terminal(io.StringIO):
    """A stdout that is watched."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_json_has_exactly_the_keys_scripts_rely_on(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--format", "json", "--prompt", "é", "--seed", "7", "--count", "2")
    first, second = map(json.loads, ended.out.splitlines())
    assert first == {
        "index": 0,
        "text": " written 0\n",
        "prompt": "é",
        "log_prob": -1.5,
        "tokens": 11,
        "finish_reason": "length",
        "seed": 7,
    }
    assert second["index"] == 1
    assert '"é"' in ended.out


def test_in_a_pipe_the_text_follows_its_prompt_and_nothing_else(run: Any, library: Any) -> None:
    assert run("sample", "x", "--prompt", "once").out == "once written 0\n"


def test_in_a_pipe_samples_are_set_apart_by_dashes(run: Any, library: Any) -> None:
    out = run("sample", "x", "--count", "2").out
    assert out == " written 0\n---------------\n written 1\n"


def test_which_checkpoint_is_read_is_said_on_stderr(run: Any, library: Any) -> None:
    assert run("sample", "x").lines == ["note: reading checkpoints/x/best"]


def test_a_dash_reads_the_prompt_from_stdin(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("où\r\nest\n".encode())))
    run("sample", "x", "--prompt", "-")
    assert library.calls["samples"]["prompt"] == "où\nest"


def test_a_terminal_gets_the_pieces_as_they_come_and_cannot_be_driven_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from textgen.presentation.samples import SampleWriter

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    writer = SampleWriter("Once\x1b", 1)
    assert writer.streams
    writer.piece(0, " a")
    assert terminal.getvalue() == "\x1b[1mOnce\\x1b\x1b[0m a"
    writer.piece(0, "\x1b[31m\n")
    writer.end()
    assert terminal.getvalue().endswith(" a\\x1b[31m\n")
