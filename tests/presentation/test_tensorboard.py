"""What TensorBoard is told of a run, by a stand-in for its writer."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from textgen.errors import ResourceError, UsageError
from textgen.presentation.tensorboard import TensorBoardLog
from textgen.results import (
    CheckpointSaved,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    Validation,
)


class Writer:
    """Remembers what it is given, in the place of torch's SummaryWriter."""

    made: list[Writer]

    def __init__(self, log_dir: str, purge_step: int | None = None) -> None:
        self.log_dir, self.purge_step = log_dir, purge_step
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.texts: list[tuple[str, str, int]] = []
        self.flushes, self.closed = 0, False
        Writer.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((step, value))

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.texts.append((tag, text, step))

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """The writers that were made, with the package as if it were installed."""
    Writer.made = []
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    return Writer.made


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as if it were not installed, wherever it is."""
    if importlib.util.find_spec("tensorboard") is not None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)


def start(resumed_step: int = 0) -> TrainingStart:
    return TrainingStart(
        parameters=1,
        vocabulary_size=2,
        train_tokens=3,
        valid_tokens=4,
        train_characters=5,
        level="char",
        device="cpu",
        precision="float32",
        threads=1,
        description="lstm",
        out="x",
        resumed_step=resumed_step,
    )


def test_every_event_is_written_at_its_step(writers: list[Writer]) -> None:
    with TensorBoardLog("logs/a") as log:
        assert writers == []
        log(start())
        log(TrainingStep(20, 0.5, 2.5, 5e-3, 0.8, 4096, 41000.0, 0.5, 5.0, 5.0))
        log(TrainingStep(40, 1.0, 2.0, 1e-3, 0.7, 8192, 42000.0, 1.0, 9.0, 0.0))
        log(Validation(2.25, 100, 100, step=40))
        assert writers[0].flushes == 1
        log(TrainingSample(40, "To be,\n*or* not\n"))
        log(CheckpointSaved(40, "best", "x/best"))
        assert not writers[0].closed
    (writer,) = writers
    assert (writer.log_dir, writer.purge_step, writer.closed) == ("logs/a", None, True)
    assert writer.scalars == {
        "loss/training": [(20, 2.5), (40, 2.0)],
        "loss/validation": [(40, 2.25)],
        "learning_rate": [(20, 5e-3), (40, 1e-3)],
        "gradient_norm": [(20, 0.8), (40, 0.7)],
        "tokens_per_second": [(20, 41000.0), (40, 42000.0)],
    }
    assert writer.texts == [("sample", "    To be,\n    *or* not\n", 40)]


def test_a_resumed_run_forgets_the_steps_it_makes_anew(writers: list[Writer]) -> None:
    with TensorBoardLog("logs/a") as log:
        log(start(resumed_step=120))
    assert writers[0].purge_step == 121


def test_what_is_written_is_closed_when_the_run_fails(writers: list[Writer]) -> None:
    with pytest.raises(ValueError), TensorBoardLog("logs/a") as log:
        log(start())
        raise ValueError
    assert writers[0].closed


@pytest.mark.usefixtures("missing")
def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(ResourceError) as raised:
        TensorBoardLog("logs/a")
    assert "pip install 'textgen[tensorboard]'" in str(raised.value)


@pytest.mark.usefixtures("writers")
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ResourceError, match="not a folder"):
        TensorBoardLog(str(file))
    with pytest.raises(UsageError):
        TensorBoardLog("")
