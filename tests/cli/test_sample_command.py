"""``textgen sample``: text for people, JSON lines for scripts."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
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
        "stop": None,
        "prompt_unknown": [],
        "perplexity": pytest.approx(1.1461, abs=1e-4),
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


def test_json_comes_as_samples_are_finished_and_text_in_their_order(run: Any, library: Any) -> None:
    library.order = lambda total: reversed(range(total))
    records = run("sample", "x", "--count", "3", "--format", "json").out.splitlines()
    assert [json.loads(record)["index"] for record in records] == [2, 1, 0]
    out = run("sample", "x", "--count", "3").out
    assert out == " written 0\n---------------\n written 1\n---------------\n written 2\n"


def test_a_dash_reads_prompts_from_stdin_one_a_line(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("où\r\n\nest".encode())))
    out = run("sample", "x", "--prompt", "-", "--count", "2", "--format", "json").out
    assert library.calls["samples"]["prompts"] == ["où", "", "est"]
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["prompt"] for record in records] == ["où", "où", "", "", "est", "est"]


def test_a_file_of_any_lines_is_one_prompt(run: Any, library: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompt"
    path.write_bytes("où\r\nest\n".encode())
    assert run("sample", "x", "--prompt-file", path).out == "où\nest written 0\n"


def test_there_is_one_kind_of_prompt(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--prompt-file", "y", "--prompt", "z")
    assert (ended.code, ended.out) == (2, "")
    assert "--prompt and --prompt-file cannot both be given" in ended.err


def test_a_prompt_file_that_is_not_there_is_named(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--prompt-file", "nowhere.txt")
    assert ended.code == 1
    assert len(ended.lines) == 1
    assert "nowhere.txt" in ended.err


def test_what_the_model_does_not_know_of_a_prompt_is_said_once(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--prompt", "wh?t", "--count", "3")
    assert [line for line in ended.lines if "know" in line] == [
        "note: the model does not know '?' of the prompt"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--temperature", "hot"], "not a temperature: 'hot'"),
        (["--temperature", "1,,2"], "not a temperature: '1,,2'"),
        (["--temperature", "-1"], "--temperature must lie in [0, inf)"),
        (["--temperature", "1,nan"], "--temperature must lie in [0, inf)"),
        (["--typical", "0"], "--typical must lie in (0, 1]"),
        (["--min-p", "2"], "--min-p must lie in [0, 1]"),
        (["--repetition-penalty", "0"], "--repetition-penalty must lie in (0, inf)"),
        (["--frequency-penalty", "inf"], "--frequency-penalty must lie in"),
        (["--no-repeat-ngram", "0"], "--no-repeat-ngram must be a whole number of at least 1"),
        (["--ban", ""], "--ban must be text"),
        (["--stop", "a", "--stop", ""], "--stop must be text"),
        (["--on-unknown", "sikp"], "--on-unknown must be one of unk, error, skip"),
    ],
)
def test_a_bad_value_is_one_line(run: Any, library: Any, options: list[str], said: str) -> None:
    ended = run("sample", "x", *options)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert said in ended.err
    assert not library.calls


def test_an_option_of_strings_is_given_again_and_again(run: Any, library: Any) -> None:
    run("sample", "x", "--stop", "one", "--stop", "the other", "--ban", "é")
    asked = library.calls["samples"]
    assert (list(asked["stop"]), list(asked["ban"])) == (["one", "the other"], ["é"])


def test_a_terminal_gets_the_pieces_as_they_come_and_cannot_be_driven_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from textgen.presentation.samples import SampleWriter

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    writer = SampleWriter(1)
    assert writer.streams
    writer.piece(0, "Once\x1b", " a")
    assert terminal.getvalue() == "\x1b[1mOnce\\x1b\x1b[0m a"
    writer.piece(0, "Once\x1b", "\x1b[31m\n")
    writer.end()
    assert terminal.getvalue().endswith(" a\\x1b[31m\n")


def test_more_than_all_of_a_text_cannot_be_new(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--min-novelty", "2")
    assert ended.code == 2
    assert "min-novelty" in ended.err
