"""``textgen sample``: text for people, JSON lines for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


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
        "score_log_prob": -2.5,
    }
    assert second["index"] == 1
    assert '"é"' in ended.out


def test_in_a_pipe_is_the_text_alone_and_the_checkpoint_is_named_on_stderr(
    run: Any, library: Any
) -> None:
    ended = run("sample", "x", "--prompt", "once")
    assert ended.out == "once written 0\n"
    assert ended.lines == []


def test_json_comes_as_samples_are_finished_and_text_in_their_order(run: Any, library: Any) -> None:
    library.order = lambda total: reversed(range(total))
    records = run("sample", "x", "--count", "3", "--format", "json").out.splitlines()
    assert [json.loads(record)["index"] for record in records] == [2, 1, 0]
    out = run("sample", "x", "--count", "3").out
    assert out == " written 0\n---------------\n written 1\n---------------\n written 2\n"


def test_a_dash_reads_prompts_from_stdin_one_a_line(run: Any, library: Any) -> None:
    arguments = ("sample", "x", "--prompt", "-", "--count", "2", "--format", "json")
    out = run(*arguments, stdin="où\r\n\nest").out
    assert library.calls["samples"]["prompts"] == ["où", "", "est"]
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["prompt"] for record in records] == ["où", "où", "", "", "est", "est"]


def test_a_file_of_any_lines_is_one_prompt(run: Any, library: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompt"
    path.write_bytes("où\r\nest\n".encode())
    assert run("sample", "x", "--prompt-file", path).out == "où\nest written 0\n"


def test_a_prompt_file_that_is_not_there_is_named(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--prompt-file", "nowhere.txt")
    assert ended.code == 1
    assert len(ended.lines) == 1
    assert "nowhere.txt" in ended.err


def test_advice_names_only_options_that_the_command_has(
    run: Any, library: Any, tmp_path: Path
) -> None:
    path = tmp_path / "prompt"
    for content in (b"d\xe9j\xe0 vu\n", "une idée\n".encode("utf-16"), b"\xff\xff\x81"):
        path.write_bytes(content)
        ended = run("sample", "x", "--prompt-file", path)
        assert (ended.code, len(ended.lines)) == (3, 1)
        assert "--" not in ended.err.replace("iconv -f", "").replace("-t utf-8", "")
        assert "convert it" in ended.err
        for command in (("score", "x", path), ("tokenize", path)):
            assert "--encoding" in run(*command).err


def test_what_the_model_does_not_know_of_a_prompt_is_said_once(run: Any, library: Any) -> None:
    ended = run("sample", "x", "--prompt", "wh?t", "--count", "3")
    assert [line for line in ended.lines if "know" in line] == [
        "note: the model does not know '?' in the prompt"
    ]


def test_an_option_of_strings_is_given_again_and_again(run: Any, library: Any) -> None:
    run("sample", "x", "--stop", "one", "--stop", "the other", "--ban", "é")
    config = library.calls["samples"]["config"]
    assert (config.stop, config.ban) == (("one", "the other"), ("é",))


def test_sentences_cut_by_a_length_that_nobody_typed_are_said(run: Any, library: Any) -> None:
    cut = "note: the sample ends after 500 tokens, before 2 sentences; --length N allows more"
    assert run("sample", "x", "--sentences", "2").lines == [cut]
    assert run("sample", "x", "--sentences", "2", "--length", "500").lines == []
    assert run("sample", "x").lines == []
    several = run("sample", "x", "--sentences", "1", "--count", "3", "--format", "json")
    assert several.lines[0].startswith("note: 3 of 3 samples end after 500 tokens, before 1 sent")
