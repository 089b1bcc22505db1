"""What TensorBoard is told of a run, by a stand-in for its writer."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from textgen.errors import ResourceError, UsageError
from textgen.presentation.tensorboard import TensorBoardLog
from textgen.results import CheckpointSaved, TrainingSample, TrainingStart, TrainingStep, Validation


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[MagicMock]:
    """The SummaryWriters that were made, with the package as if it were installed."""
    made: list[MagicMock] = []

    def make(log_dir: str, purge_step: int | None = None) -> MagicMock:
        made.append(MagicMock(log_dir=log_dir, purge_step=purge_step))
        return made[-1]

    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = make
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    return made


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as if it were not installed, wherever it is."""
    if importlib.util.find_spec("tensorboard") is not None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)


def start(resumed_step: int = 0) -> TrainingStart:
    named = ("char", "cpu", "float32", 1, "lstm", "x")
    return TrainingStart(1, 2, 3, 4, 5, *named, resumed_step=resumed_step)


def test_every_event_is_written_at_its_step(writers: list[MagicMock]) -> None:
    with TensorBoardLog("logs/a") as log:
        assert writers == []
        log(start())
        log(TrainingStep(20, 0.5, 2.5, 5e-3, 0.8, 4096, 41000.0, 0.5, 5.0, 5.0))
        log(Validation(2.25, 100, 100, step=40))
        (writer,) = writers
        writer.flush.assert_called_once_with()
        log(Validation(2.0, 100, 100, step=60, pseudo=True))
        log(TrainingSample(40, "To be,\n*or* not\n"))
        log(CheckpointSaved(40, "best", "x/best"))
        writer.close.assert_not_called()
    assert (writer.log_dir, writer.purge_step) == ("logs/a", None)
    writer.close.assert_called_once_with()
    assert [each.args for each in writer.add_scalar.call_args_list] == [
        ("loss/training", 2.5, 20),
        ("learning_rate", 5e-3, 20),
        ("gradient_norm", 0.8, 20),
        ("tokens_per_second", 41000.0, 20),
        ("loss/validation", 2.25, 40),
        ("pseudo_loss/validation", 2.0, 60),
    ]
    writer.add_text.assert_called_once_with("sample", "    To be,\n    *or* not\n", 40)


def test_a_resumed_run_forgets_the_steps_it_makes_anew(writers: list[MagicMock]) -> None:
    with TensorBoardLog("logs/a") as log:
        log(start(resumed_step=120))
    assert writers[0].purge_step == 121


def test_what_is_written_is_closed_when_the_run_fails(writers: list[MagicMock]) -> None:
    with pytest.raises(ValueError), TensorBoardLog("logs/a") as log:
        log(start())
        raise ValueError
    writers[0].close.assert_called_once_with()


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
