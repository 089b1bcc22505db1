"""A terminal of any width, a command line in this process, and a small trained model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textgen import train
from textgen.cli.app import main
from textgen.presentation.console import laid_out, out_console

TEXT = "".join(
    f"“the {who},” said a (small) {what}.\n" for who in ("cat", "owl") for what in "abcd"
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The text of a plot in a terminal: terminal(plot, width=80, colours=False)."""

    def show(plot: Any, width: int = 80, *, colours: bool = False) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: colours)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLORTERM", "truecolor")
        console = out_console()
        console.width = width
        return laid_out(console, plot.terminal(console))

    return show


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    """The exit code and output of a command: run("plot", "loss", folder)."""

    def call(*arguments: str | Path) -> SimpleNamespace:
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plot")
    text = folder / "text.txt"
    text.write_text(TEXT * 20, encoding="utf-8")
    small: dict[str, Any] = {"hidden_size": 6, "embedding_size": 4, "device": "cpu", "threads": 1}
    train(text, out=folder / "mine", steps=4, valid_every=2, batch_size=4, **small)
    return folder / "mine"
