"""``textgen compare``: what it requests of the library, what it shows, and how it ends."""

import dataclasses
import json
import re
import signal
from typing import Any

import pytest

import textgen
from textgen.presentation.console import laid_out, out_console
from textgen.presentation.terminal_plot import Curve, plot
from textgen.results import NgramBaseline, TrainingStart, Validation
from textgen.studies.compare.command import ComparisonProgress, comparison_summary
from textgen.studies.compare.config import parse_variants
from textgen.studies.compare.results import (
    Comparison,
    ComparisonStart,
    ModelResult,
    RunResult,
    RunStart,
)


def compared(name: str, loss: float, seed: int = 1, **other: object) -> RunResult:
    curve = [Validation(loss + 1 / n, 1000, 1000, step=n, seconds=6.0 * n) for n in range(1, 11)]
    fields: dict[str, object] = {
        "validation": Validation(loss, 1000, 1000),
        "curve": tuple(curve),
        "sample": f"so writes\x1b {name}",
    }
    sizes = (1_300_000, 10, 10240, 60.5, 41234.4)
    return RunResult(name, seed, f"c/{name}-seed{seed}", name, *sizes, **(fields | other))


def comparison(*rows: tuple[RunResult, ...], planned: int = 0) -> Comparison:
    made = tuple(map(ModelResult.of, rows))
    return Comparison(made, "c", planned or sum(map(len, rows)), 66, 1_000_000, 100_000)


def drawn(found: Comparison, width: int = 80) -> str:
    console = out_console()
    console.width = width
    lines = laid_out(console, comparison_summary(found, width)).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def test_each_model_has_a_row_a_named_curve_and_a_sample() -> None:
    text = drawn(comparison((compared("lstm", 1.5),), (compared("rnn", 1.75),)))
    table, _, rest = text.partition("Validation loss against seconds")
    curves, _, samples = rest.partition("Samples")
    assert re.search(r"lstm +1\.30 M +60\.5 +41,234 +1\.5000 +4\.482 +2\.164\n", table)
    assert table.index("lstm") < table.index("rnn")
    assert "±" not in table
    assert re.search(r"[⠀-⣿] +lstm\n", curves)
    assert curves.index("rnn") < curves.index("lstm")  # higher up
    assert "seconds 60" in curves
    assert re.search(r"rnn +so writes\\x1b rnn", samples)
    assert "\x1b" not in text


def test_seeds_add_a_deviation_and_a_failed_run_is_listed_and_counts_in_no_mean() -> None:
    failed = compared("lstm", 9.0, seed=3, failed="the loss is not finite")
    seeds = (compared("lstm", 1.5), compared("lstm", 1.6, seed=2), failed)
    text = drawn(comparison(seeds, planned=4))
    assert re.search(r"1\.5500 +0\.0707 ", text)
    assert "Means over 3 seeds; ± is the standard deviation of the loss." in text
    assert "lstm, seed 3: the loss is not finite" in text
    assert "Comparison, 3 of 4 runs" in text
    assert "no run has ended yet" in drawn(comparison())


def test_a_pseudo_loss_is_marked_and_has_neither_curve_nor_sample() -> None:
    pseudo = Validation(1.1, 1000, 1000, pseudo=True)
    both = compared("both", 1.1, is_causal=False, sample=None, validation=pseudo)
    text = drawn(comparison((compared("lstm", 1.5),), (both,)))
    assert "both *" in text
    assert "* a pseudo-loss" in text
    curves, _, samples = text.partition("seconds of training")[2].partition("Samples")
    assert "both" not in curves
    assert re.search(r"both +–", samples)


def test_a_curve_of_one_point_is_a_level_line() -> None:
    once = compared("ngram", 1.5, curve=(Validation(1.5, 1000, 1000, seconds=0.5),))
    text = drawn(comparison((compared("lstm", 1.45),), (once,)))
    level = next(line for line in text.splitlines() if line.endswith(" ngram"))
    assert len(re.findall("[⠁-⣿]", level)) > 40


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_long_names_and_narrow_terminals_cut_no_figure_short(width: int) -> None:
    name = "lstm:hidden-size=256,128:embedding-size=64"
    rows = (compared(name, 1.5), compared(name, 1.6, seed=2)), (compared("rnn", 1.7),)
    text = drawn(comparison(*rows), width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"1\.5500 +0\.0707 .*2\.236", text)
    assert "…" not in text.partition("The best")[0]


def test_every_curve_has_its_name_in_a_row_of_its_own_and_the_highest_is_seen() -> None:
    curves = [
        Curve(f"c{number}", [(0.0, 3.0), (1.0, number // 9 + 1 + number / 1e6)], "")
        for number in range(10)
    ]
    lines = plot(curves, 60, 12, names_beside=True).plain.splitlines()
    found = [line.rpartition(" ")[2] for line in lines if re.search(r" c\d$", line)]
    assert found == [f"c{number}" for number in reversed(range(10))]
    assert re.search("[⠁-⣿]", lines[0])


def test_progress_off_a_terminal_is_plain_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = TrainingStart(99, 66, "cpu", "float32", "lstm 8", "c/lstm")
    with ComparisonProgress() as progress:
        progress(ComparisonStart(2, 4, 1, 180.0, 1_000_000))
        progress(RunStart("rnn", 1, 2, 4, 180.0))
        progress(start)
        progress(compared("rnn", 1.7))
    note, begins, training, ends = capsys.readouterr().err.splitlines()
    assert "4 runs of 2 models on the same 1.00 M tokens; 1 has ended already" in note
    assert begins == "run 2 of 4: rnn, seed 1; 3m 00s left in total"
    assert training.startswith("training c/lstm:")
    assert ends == "run 2 of 4: rnn, seed 1  loss 1.7000  1.30 M parameters  1m 00s"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of the library, which is a stand-in and may get a signal."""
    requested: list[dict[str, Any]] = []

    def compare(*corpora: str, on_event: Any, stop: Any, **options: Any) -> Comparison:
        requested.append({"corpora": corpora, **options})
        if options["out"] == "stopped":
            stop.arm()
            signal.raise_signal(signal.SIGINT)
        found = comparison((compared("lstm", 1.5),), planned=2)
        return dataclasses.replace(found, interrupted=stop())

    monkeypatch.setitem(textgen.__dict__, "compare", compare)
    return requested


def test_a_comparison_names_its_text_first_and_says_how_to_go_on_if_ended_at_once(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*corpora: str, **options: Any) -> Comparison:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was ignored")

    monkeypatch.setitem(textgen.__dict__, "compare", compare)
    ended = run("compare", "a.txt", "--out", "c")
    assert (ended.code, ended.out) == (130, "")
    assert ended.lines[0] == "reading a.txt"
    assert "the same command continues it" in ended.lines[-1]


def test_only_typed_options_reach_the_library(run: Any, calls: list[Any]) -> None:
    typed = ("--models", "lstm,lstm:no-tie", "--budget", "90s", "--seeds", "3", "--level", "word")
    assert run("compare", "a.txt", "--out", "c", *typed, "--batch-size", "8").code == 0
    models = parse_variants("lstm,lstm:no-tie")
    given = {"models": models, "budget": 90.0, "seeds": 3, "level": "word"}
    usual = {"valid": None, "encoding": "utf-8", "errors": "strict", "overwrite": False}
    usual["skip_binary"] = False
    machine = {"device": "auto", "threads": None, "corpora": ("a.txt",), "out": "c"}
    assert calls == [given | {"batch_size": 8} | usual | machine]


def test_json_is_an_object_per_run_and_then_the_total(run: Any, calls: list[Any]) -> None:
    lines = run("compare", "a.txt", "--out", "c", "--format", "json").out.splitlines()
    one, total = map(json.loads, lines)
    assert (one["model"], one["validation"]["loss"], one["curve"][0]["seconds"]) == ("lstm", 1.5, 6)
    sizes = {"runs": 1, "planned": 2, "train_tokens": 1_000_000}
    assert {name: total["total"][name] for name in sizes} == sizes
    row = total["total"]["rows"][0]
    assert (row["loss"], row["loss_deviation"], row["seeds"]) == (1.5, None, [1])


def test_ctrl_c_shows_what_there_is_and_how_to_continue_and_ends_with_130(
    run: Any, calls: list[Any]
) -> None:
    ended = run("compare", "a.txt", "--out", "stopped")
    assert ended.code == 130
    assert "Comparison, 1 of 2 runs" in ended.out
    assert ended.lines[-1] == "note: stopped, and saved; the same command continues it"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--models", "lstn"), "did you mean lstm?"),
        (("--model", "lstm"), "no such option: --model; did you mean --models?"),
        (("--seeds", "many"), "--seeds must be a whole number"),
        (("--budget", "soon"), "not a duration"),
        (("--parameters", "0"), "--parameters must be a whole number of at least 1"),
        ((), "--out"),
    ],
)
def test_impossible_options_are_one_line_and_reach_no_library(
    run: Any, calls: list[Any], typed: tuple[str, ...], message: str
) -> None:
    ended = run("compare", "a.txt", *(("--out", "c") if typed else ()), *typed)
    assert (ended.code, ended.out, len(ended.lines), calls) == (2, "", 1, [])
    assert message in ended.err


def test_what_predicts_better_than_the_best_network_is_said_and_how_to_add_it() -> None:
    rows = (compared("lstm", 1.5),), (compared("rnn", 1.75),)
    found = comparison(*rows)
    beaten = dataclasses.replace(found, ngram=NgramBaseline(6, 1.4, 900, 100, mixture_gain=0.2))
    text = " ".join(drawn(beaten).split())
    assert "6-grams alone predict better than lstm: 1.4000 against 1.5000 nats per" in text
    assert "A mixture of lstm with 6-grams predicts better than lstm alone: 1.3000" in text
    assert "the same command with --models ...,ngram,lstm+ngram" in text
    assert beaten.to_json()["ngram"]["mixture_gain"] == 0.2
    good = dataclasses.replace(found, ngram=NgramBaseline(6, 1.6, 900, 100, mixture_gain=0.001))
    assert drawn(good) == drawn(found)
