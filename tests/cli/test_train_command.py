"""``textgen train``: what it hands over, what it shows, and how it is stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

import textgen
from textgen.results import CheckpointSaved, HeldOut, Plan, TrainingPhase, TrainingStart


def test_json_has_exactly_the_keys_scripts_rely_on(run: Any, library: Any) -> None:
    ended = run("train", "a.txt", "--out", "x", "--format", "json")
    assert ended.code == 0
    assert json.loads(ended.out) == {
        "checkpoint": "x",
        "steps": 40,
        "tokens_seen": 40960,
        "seconds": 9.5,
        "tokens_per_second": 41000.5,
        "parameters": 1234567,
        "validation": {
            "loss": 1.5,
            "perplexity": pytest.approx(4.4816890703),
            "bits_per_character": pytest.approx(2.1640425613),
            "tokens": 100,
        },
        "baselines": {
            "uniform_loss": 4.0,
            "ngram_loss": 2.0,
            "ngram_order": 6,
            "mixture_gain": None,
        },
    }


def test_the_summary_has_the_figures_and_the_next_commands(run: Any, library: Any) -> None:
    out = run("train", "a.txt", "--out", "my models/x").out
    for expected in (
        "1.5000",
        "4.482",
        "2.164",
        "5.771",  # ln of the vocabulary in bits: guessing evenly
        "6-gram model",
        "2.885",  # its two nats in bits
        "433 MB at most",
        "41,000 tokens per second",
        "textgen sample 'my models/x'",
        "textgen score 'my models/x' --text ",
        "textgen info 'my models/x'",
    ):
        assert expected in out
    assert "--resume" not in out


def test_progress_goes_to_stderr_in_plain_lines_off_a_terminal(run: Any, library: Any) -> None:
    ended = run("train", "a.txt", "--out", "x")
    assert "validation loss 1.5000" in ended.err
    assert "note: a thing worth knowing" in ended.err
    assert "\x1b" not in ended.err
    assert "tokens/s" not in ended.out


def test_no_corpus_means_the_library_s_own_and_is_said(run: Any, library: Any) -> None:
    ended = run("train", "--out", "x")
    assert library.calls["train"]["corpora"] == ()
    assert "bundled" in ended.err
    assert "bundled" not in run("train", "--out", "x", "--resume").err


def test_options_of_the_run_are_handed_over(run: Any, library: Any) -> None:
    run("train", "a", "b", "--out", "x", "--resume", "--threads", "2", "--sample-every", "5s")
    handed = library.calls["train"]
    assert handed["corpora"] == ("a", "b")
    assert (handed["resume"], handed["overwrite"]) == (True, False)
    assert (handed["threads"], handed["device"], handed["sample_every"]) == (2, "auto", 5.0)


def test_a_plan_may_be_asked_for_with_the_options_of_the_run(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Plan(
        options=(),
        parameters=7,
        state_bytes=1,
        window_bytes=1,
        tokens_per_second=1.0,
        tokens=1.0,
        seconds=1.0,
        epochs=1.0,
        vocabulary_size=3,
        train_tokens=9,
        device="cpu",
        precision="float32",
        threads=1,
        held_out=(HeldOut("a.txt", 9, 10),),
        notes=("held out for validation: a.txt from line 9 (10.0%)",),
    )
    monkeypatch.setitem(textgen.__dict__, "plan", lambda *corpora, **options: planned)
    ended = run("train", "a.txt", "--out", "x", "--overwrite", "--plan")
    assert (ended.code, ended.lines) == (0, ["note: " + planned.notes[0]])
    record = json.loads(run("train", "a.txt", "--plan", "--format", "json").out)
    assert record["held_out"] == [{"source": "a.txt", "line": 9, "characters": 10}]
    assert run("train", "--out", "x", "--resume", "--plan").code == 2


def test_off_a_terminal_nothing_is_sampled_unless_asked(run: Any, library: Any) -> None:
    run("train", "a", "--out", "x")
    assert library.calls["train"]["sample_every"] is None
    run("train", "a", "--out", "x", "--sample-every", "none")
    assert library.calls["train"]["sample_every"] is None


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_first_signal_lets_training_save_and_says_how_to_go_on(
    run: Any, library: Any, name: str, code: int
) -> None:
    signum = getattr(signal, name)
    before = signal.getsignal(signum)

    def interrupt(stop: Any) -> None:
        assert stop() is None
        os.kill(os.getpid(), signum)
        assert stop() == signum

    library.during_training = interrupt
    ended = run("train", "a", "--out", "x")
    assert ended.code == code
    assert "textgen train --out x --resume" in ended.out
    assert "Traceback" not in ended.err
    assert signal.getsignal(signum) is before
    in_json = run("train", "a", "--out", "x", "--format", "json")
    assert in_json.code == code
    assert json.loads(in_json.out)["interrupted"] == signum
    assert "textgen train --out x --resume" in in_json.err


def test_the_second_signal_leaves_at_once(run: Any, library: Any) -> None:
    reached = []

    def interrupt(stop: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")

    library.during_training = interrupt
    ended = run("train", "a", "--out", "x")
    assert reached == ["first"]
    assert (ended.code, ended.out) == (130, "")
    assert "stopped before anything was saved; the same command starts again" in ended.err
    ended = run("train", "--out", "my x", "--resume")
    assert "as it was" in ended.err
    assert ended.lines[-1] == "  textgen train --out 'my x' --resume"


@pytest.mark.parametrize(
    ("event", "signals", "expected"),
    [
        (CheckpointSaved(1234, "last", "x/last"), 2, "from step 1,234 it continues with:"),
        (TrainingPhase("baseline"), 1, "the run is complete and saved in x"),
    ],
)
def test_a_run_that_ends_at_once_says_what_it_has_saved(
    run: Any, monkeypatch: pytest.MonkeyPatch, event: Any, signals: int, expected: str
) -> None:
    def train(*corpora: str, on_event: Any, **options: Any) -> None:
        on_event(TrainingStart(9, 6, "cpu", "float32", "lstm 8", "x"))
        on_event(event)
        for _ in range(signals):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was ignored")

    monkeypatch.setitem(textgen.__dict__, "train", train)
    ended = run("train", "a", "--out", "x")
    assert (ended.code, ended.out) == (130, "")
    assert expected in ended.err


def test_the_text_is_named_before_the_library_is_imported(
    run: Any, library: Any, tmp_path: Path
) -> None:
    text = tmp_path / "a.txt"
    text.write_text("a" * 2500)
    assert run("train", text, "--out", "x").lines[0] == "reading a.txt, 2.50 kB"
    assert run("train", text, "b", "c", "--out", "x").lines[0] == "reading a.txt and 2 others"
    assert run("train", "-", "--out", "x").lines[0] == "reading stdin"
    assert run("train", "--out", "x").lines[1].startswith("reading the bundled stories")


def test_a_signal_before_there_is_anything_to_save_leaves_at_once(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*corpora: str, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was ignored")

    monkeypatch.setitem(textgen.__dict__, "train", train)
    ended = run("train", "a", "--out", "x")
    assert (ended.code, ended.out) == (143, "")


def test_log_dir_without_tensorboard_ends_before_anything_is_made(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorboard") is not None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)
    out, logs = tmp_path / "out", tmp_path / "logs"
    ended = run("train", "a", "--out", out, "--log-dir", logs)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert "pip install 'textgen-lm[tensorboard]'" in ended.err
    assert "train" not in library.calls
    assert list(tmp_path.iterdir()) == []


def test_log_dir_receives_the_events_beside_the_display(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = MagicMock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    ended = run("train", "a", "--out", "x", "--log-dir", "logs")
    assert ended.code == 0
    assert "validation loss 1.5000" in ended.err
    module.SummaryWriter.assert_called_once_with("logs", purge_step=None)
    writer = module.SummaryWriter.return_value
    writer.add_scalar.assert_any_call("loss/validation", 1.5, 40)
    writer.add_scalar.assert_any_call("loss/training", 2.0, 20)
    writer.close.assert_called_once_with()


@pytest.mark.parametrize("width", [20, 80])
def test_the_next_commands_can_be_copied_at_any_width(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = "runs/it's the " + "long " * 20 + "name"
    library.during_training = lambda stop: signal.raise_signal(signal.SIGINT)
    lines = run("train", "a", "--out", out).out.splitlines()
    typed = [shlex.split(line) for line in lines[lines.index("Next") + 1 :] if line]
    assert [words[:2] for words in typed] == [
        ["textgen", command] for command in ("train", "sample", "score", "info")
    ]
    assert all(out in words for words in typed)
    library.during_training = lambda stop: signal.raise_signal(signal.SIGINT)
    (note,) = [
        line
        for line in run("train", "a", "--out", out, "--format", "json").lines
        if "continue with" in line
    ]
    assert shlex.split(note.partition("textgen ")[2]) == ["train", "--out", out, "--resume"]
