"""``textgen compare``: what it requests of the library, and how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.cli.app import main
from textgen.results import Validation
from textgen.storage import locked
from textgen.studies.compare.results import Comparison, ModelResult, RunResult

VALIDATION = Validation(1.5, 100, 100, step=3, seconds=4.0)
RUN = RunResult("lstm", 1, "c/x", "lstm 8", 9, 3, 96, 4.0, 24.0, VALIDATION, (VALIDATION,))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["compare", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of the library, which is a stand-in and may get a signal."""
    requested: list[dict[str, Any]] = []

    def compare(*corpora: str, on_event: Any, stop: Any, **options: Any) -> Comparison:
        requested.append({"corpora": corpora, **options})
        if options["out"] == "stopped":
            stop.arm()
            signal.raise_signal(signal.SIGINT)
        rows = (ModelResult.of([RUN]),)
        return Comparison(rows, options["out"], 2, 11, 90, 10, interrupted=stop())

    monkeypatch.setitem(textgen.__dict__, "compare", compare)
    return requested


def test_only_typed_options_reach_the_library(run: Any, calls: list[Any]) -> None:
    typed = ("--models", "lstm,lstm:no-tie", "--budget", "90s", "--seeds", "3", "--level", "word")
    code, _, _ = run("a.txt", "--out", "c", *typed, "--batch-size", "8")
    given = {"models": "lstm,lstm:no-tie", "budget": "90s", "seeds": 3, "level": "word"}
    usual = {"valid": None, "encoding": "utf-8", "errors": "strict", "overwrite": False}
    machine = {"device": "auto", "threads": None, "corpora": ("a.txt",), "out": "c"}
    assert code == 0
    assert calls == [given | {"batch_size": 8} | usual | machine]


def test_json_is_an_object_per_run_and_then_the_total(run: Any, calls: list[Any]) -> None:
    _, out, _ = run("a.txt", "--out", "c", "--format", "json")
    one, total = map(json.loads, out.splitlines())
    assert (one["model"], one["validation"]["loss"], one["curve"][0]["seconds"]) == ("lstm", 1.5, 4)
    assert total["total"]["rows"][0]["loss"] == 1.5


def test_ctrl_c_shows_what_there_is_and_how_to_continue_and_ends_with_130(
    run: Any, calls: list[Any]
) -> None:
    code, out, err = run("a.txt", "--out", "stopped")
    assert code == 130
    assert "Comparison, 1 of 2 runs" in out
    assert err.splitlines()[-1] == "note: stopped, and saved; the same command continues it"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--models", "lstn"), "did you mean lstm?"),
        (("--models", "lstm:hidden-siz=8"), "did you mean hidden-size?"),
        (("--model", "lstm"), "no such option: --model; did you mean --models?"),
        (("--seeds", "many"), "--seeds must be a whole number"),
        (("--budget", "soon"), "not a duration"),
        (("--budget", "9s", "--steps", "3"), "cannot both be given"),
        (("--parameters", "0"), "--parameters must be a whole number of at least 1"),
    ],
)
def test_impossible_options_are_one_line_and_reach_no_library(
    run: Any, calls: list[Any], typed: tuple[str, ...], message: str
) -> None:
    code, _, err = run("a.txt", "--out", "c", *typed)
    assert (code, len(err.splitlines()), calls) == (2, 1, [])
    assert message in err


def test_without_out_an_error_names_it(run: Any) -> None:
    code, out, err = run("a.txt")
    assert (code, out) == (2, "")
    assert "--out" in err


def test_a_folder_in_use_ends_with_5(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\n" * 9, encoding="utf-8")
    with locked(tmp_path / "c"):
        code, _, err = run(tmp_path / "a.txt", "--out", tmp_path / "c")
    assert code == 5
    assert "in use by another run" in err
