"""A terminal of any width, and a small trained model."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textgen import train
from textgen.presentation.console import laid_out, out_console

TEXT = "".join(
    f"“the {who},” said a (small) {what}.\n" for who in ("cat", "owl") for what in "abcd"
)


@pytest.fixture
def stand_in() -> Callable[..., Any]:
    """A language model of a network and a tokenizer: stand_in(network, tokenizer, kind="lstm")."""

    def make(network: Any, tokenizer: Any = None, kind: str = "lstm") -> Any:
        header = SimpleNamespace(model=SimpleNamespace(model=kind))
        path = Path("runs/mine/best")
        return SimpleNamespace(model=network, tokenizer=tokenizer, path=path, header=header)

    return make


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have few pixels, which are quick to draw."""
    monkeypatch.setattr("textgen.studies.plots.drawing._DOTS_PER_INCH", 20)


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; beside it a folder ``alone`` with a copy of its best checkpoint and nothing else."""
    folder = tmp_path_factory.mktemp("plot")
    text = folder / "text.txt"
    text.write_text(TEXT * 20, encoding="utf-8")
    small: dict[str, Any] = {"hidden_size": 6, "embedding_size": 4, "device": "cpu", "threads": 1}
    train(text, out=folder / "mine", steps=4, valid_every=2, batch_size=4, **small)
    shutil.copytree(folder / "mine" / "best", folder / "alone" / "best")
    return folder / "mine"
