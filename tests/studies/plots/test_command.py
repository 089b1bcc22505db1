"""``textgen plot``: what is drawn where, and what is refused."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from textgen.studies.plots.memory import ContextLoss, Recall

COMMANDS = ("loss", "gradient", "memory", "embeddings", "neurons")


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_examples_and_fits(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run("plot", command, "--help")
    page, _, examples = shown.out.partition("Examples")
    assert f"textgen plot {command}" in examples
    assert max(map(len, page.splitlines())) <= width


def test_without_a_command_the_plots_are_listed(run: Any) -> None:
    shown = run("plot")
    assert shown.code == 0
    assert shown.out == run("plot", "-h").out
    assert all(f"│ {command} " in shown.out for command in COMMANDS)
    assert "no such command: gradeint; did you mean gradient?" in run("plot", "gradeint").err


def test_the_help_imports_no_numpy_and_the_loss_no_torch(trained: Path) -> None:
    program = (
        "import sys; from textgen.cli.app import main; main(['plot', 'neurons', '--help']);"
        "assert sys.modules.keys().isdisjoint({'torch', 'numpy', 'matplotlib'});"
        f"assert main(['plot', 'loss', {str(trained)!r}]) == 0;"
        "assert sys.modules.keys().isdisjoint({'torch', 'matplotlib'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "seen", "name"),
    [
        (("loss",), "loss (nats per token) against training time (seconds)", "a.svg"),
        (("gradient", "--lags", "8"), "distance k (tokens back)", "a.png"),
        (("embeddings", "--words", "8"), "nearest, with the cosine", "a.PNG"),
        (("embeddings", "--near", "a"), "nearest, with", ""),
        (("neurons",), "position in the line", ""),
        (("neurons", "a (b) c", "--unit", "5"), "cell.0.5", "a.svg"),
    ],
)
def test_a_plot_is_in_the_terminal_or_in_a_file_and_its_numbers_on_stdout(
    run: Any, trained: Path, tmp_path: Path, arguments: tuple[str, ...], seen: str, name: str
) -> None:
    command = ("plot", arguments[0], trained, *arguments[1:])
    shown = run(*command)
    assert shown.code == 0, shown.err
    assert seen in shown.out
    assert "\x1b" not in shown.out
    out = tmp_path / name
    shown = run(*command, *(("--out", out) if name else ()), "--format", "json")
    assert shown.code == 0, shown.err
    assert all(isinstance(json.loads(line), dict) for line in shown.out.splitlines())
    assert shown.out
    if name:
        begin = b"\x89PNG" if name.lower().endswith("png") else b"<?xml"
        assert out.read_bytes().startswith(begin)
        assert f"drawn into {out}" in shown.err.replace("\n", "")


def test_several_runs_are_drawn_together_and_a_file_is_the_same_each_time(
    run: Any, trained: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "1.svg", tmp_path / "2.svg"]
    for file in files:
        assert run("plot", "loss", trained, trained, "--x", "epochs", "--out", file).code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    table = run("plot", "loss", trained, "--format", "tsv").out.splitlines()
    assert table[0].split("\t")[:3] == ["checkpoint", "part", "steps"]
    tokens = [float(line.split("\t")[3]) for line in table[1:] if "validation" in line]
    assert tokens[0] * 2 == tokens[1] > 0


def test_memory_is_drawn_of_several_models(
    run: Any, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recalls = [
        Recall("quotes", 0, 9, 5.0, 0.9, 0.8, 1.0, 90, 0, 100),
        Recall("quotes", 10, None, *[math.nan] * 4, 0, 0, 0),
    ]
    losses = [ContextLoss(1, 2.0, 0.1, 50), ContextLoss(None, 1.0, 0.1, 50)]
    by_context = Mock(return_value=losses)
    monkeypatch.setattr("textgen.studies.plots.memory.recall", lambda model: recalls)
    monkeypatch.setattr("textgen.studies.plots.memory.loss_by_context", by_context)
    rows = run("plot", "memory", trained, trained / "last", "--format", "json").out.splitlines()
    assert [json.loads(row)["accuracy"] for row in rows] == [0.9, None] * 2
    text = tmp_path / "t.txt"
    text.write_text("one\ntwo\n")
    shown = run("plot", "memory", trained, "--what", "context", "--file", text)
    assert shown.code == 0, shown.err
    assert by_context.call_args.args[1] == ["one", "two"]
    assert "Loss by length of context" in shown.out
    assert run("plot", "memory", trained, "--out", tmp_path / "m.png").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("loss", "MINE", "--out", "a.pdf"), 2, "--out must end in .png or .svg"),
        (("loss", "MINE", "--out", "no/such/a.png"), 1, "no/such/a.png"),
        (("loss", "nowhere"), 1, "nowhere"),
        (("loss", "MINE/best/nowhere"), 1, "no such folder"),
        (("loss", "MINE/../alone"), 3, "metrics.jsonl"),
        (("loss", "MINE", "--x", "second"), 2, "did you mean seconds?"),
        (("loss",), 2, "missing CHECKPOINT"),
        (("gradient", "MINE", "--lags", "0"), 2, "--lags must be at least 1"),
        (("gradient", "MINE", "--file", "SHORT"), 3, "too short"),
        (("neurons", "MINE", "--unit", "6"), 2, "cell.0.0 to 5"),
        (("neurons", "MINE", "MINE", "MINE"), 2, "unexpected argument"),
        (("neurons", "MINE", "a", "--file", "b"), 2, "cannot both be given"),
        (("embeddings", "MINE", "--near", "Q"), 2, "does not know 'Q'"),
        (("embeddings", "MINE", "--words", "2"), 2, "--words must be at least 6"),
        (("embeddings", "MINE", "--near", "a", "--out", "a.png"), 2, "--near"),
        (("memory", "MINE", "--file", "x"), 2, "--what context"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_written(
    run: Any,
    trained: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SHORT").write_text("a small cat\n")
    ended = run("plot", *(each.replace("MINE", str(trained)) for each in arguments))
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["SHORT"]


def test_without_the_package_the_error_says_what_to_install(
    run: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    ended = run("plot", "loss", trained, "--out", "a.png")
    assert ended.code == 2
    assert "pip install 'textgen-lm[plot]'" in ended.err
    assert run("plot", "loss", trained).code == 0
