"""``textgen compare``: what it asks of the library, and how it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import textgen
from textgen.results import ComparedRun, Comparison, ComparisonRow, Validation
from textgen.storage import locked

VALIDATION = Validation(1.5, 100, 100, step=3, seconds=4.0)
RUN = ComparedRun("lstm", 1, "c/x", "lstm 8", 9, 3, 96, 4.0, 24.0, VALIDATION, (VALIDATION,))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a stand-in for the library was asked; it hears of the signal that it is sent."""
    asked: list[dict[str, Any]] = []

    def compare(*corpora: str, on_event: Any, stop: Any, **options: Any) -> Comparison:
        asked.append({"corpora": corpora, **options})
        if options["out"] == "stopped":
            stop.arm()
            signal.raise_signal(signal.SIGINT)
        rows = (ComparisonRow("lstm", (RUN,)),)
        return Comparison(rows, options["out"], 2, 11, 90, 10, interrupted=stop())

    monkeypatch.setitem(textgen.__dict__, "compare", compare)
    return asked


def test_only_what_was_typed_is_asked_of_the_library(run: Any, calls: list[Any]) -> None:
    typed = ("--models", "lstm,lstm:no-tie", "--budget", "90s", "--seeds", "3", "--level", "word")
    ended = run("compare", "a.txt", "--out", "c", *typed, "--batch-size", "8")
    assert ended.code == 0
    (asked,) = calls
    assert asked["corpora"] == ("a.txt",)
    given = {"models": "lstm,lstm:no-tie", "budget": "90s", "seeds": 3, "level": "word"}
    usual = {"valid": None, "encoding": "utf-8", "errors": "strict", "overwrite": False}
    machine = {"device": "auto", "threads": None, "corpora": ("a.txt",), "out": "c"}
    assert asked == given | {"batch_size": 8} | usual | machine


def test_json_is_an_object_a_run_and_then_the_total(run: Any, calls: list[Any]) -> None:
    ended = run("compare", "a.txt", "--out", "c", "--format", "json")
    one, total = map(json.loads, ended.out.splitlines())
    assert one["model"] == "lstm"
    assert one["validation"]["loss"] == 1.5
    assert one["curve"][0]["seconds"] == 4.0
    assert total["total"]["rows"][0]["loss"] == 1.5


def test_ctrl_c_shows_what_there_is_says_how_to_go_on_and_ends_with_130(
    run: Any, calls: list[Any]
) -> None:
    ended = run("compare", "a.txt", "--out", "stopped")
    assert ended.code == 130
    assert "Comparison, 1 of 2 runs" in ended.out
    assert ended.lines[-1] == "note: stopped, and saved; the same command goes on"


@pytest.mark.parametrize(
    ("typed", "said"),
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
def test_what_cannot_be_is_one_line_and_asks_nothing(
    run: Any, calls: list[Any], typed: tuple[str, ...], said: str
) -> None:
    ended = run("compare", "a.txt", "--out", "c", *typed)
    assert (ended.code, len(ended.lines), calls) == (2, 1, [])
    assert said in ended.err


def test_without_out_it_says_so(run: Any) -> None:
    ended = run("compare", "a.txt")
    assert (ended.code, ended.out) == (2, "")
    assert "--out" in ended.err


def test_a_folder_in_use_ends_with_5(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\n" * 9, encoding="utf-8")
    with locked(tmp_path / "c"):
        ended = run("compare", tmp_path / "a.txt", "--out", tmp_path / "c")
    assert ended.code == 5
    assert "in use by another run" in ended.err
