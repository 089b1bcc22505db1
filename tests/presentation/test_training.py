"""The displays of training and its TensorBoard log, from made-up runs."""

from __future__ import annotations

import itertools
import math
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from textgen.errors import ResourceError, UsageError
from textgen.presentation import training as progress
from textgen.presentation.console import laid_out, live_console, out_console
from textgen.presentation.terminal_plot import Curve, plot
from textgen.presentation.training import TensorBoardLog, TrainingState, training_view
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)

STEPS = 100


def events(level: str = "char") -> Iterator[TrainingEvent]:
    """A run of 100 log steps, a validation at every twentieth, a long sample and a short one."""
    yield TrainingStart(
        parameters=1303041,
        vocabulary_size=67,
        train_tokens=1000,
        valid_tokens=100,
        train_characters=1000,
        level=level,
        device="cpu",
        precision="bf16",
        threads=2,
        description="lstm 512",
        out="checkpoints/x\x1b[31m",
        notes=("a thing worth knowing",),
    )
    for step in range(1, STEPS + 1):
        loss = 1.4 + 3 * math.exp(-step / 10)
        done = step / STEPS
        yield TrainingStep(
            20 * step, 3 * done, loss, 5e-3, 0.8, step, 41203.4, done, step, 100 - step, 433 * 10**6
        )
        if step % 20 == 0:
            yield Validation(loss + 0.1, 100, 100, 0, 20 * step, step)
            yield CheckpointSaved(20 * step, "best", "checkpoints/x/best")
        if step == 30:
            yield TrainingSample(600, "To be,\x1b[31m\nor not " + "to be " * 50)
        if step == 60:
            yield TrainingSample(1200, "To be.")


def frame(state: TrainingState, width: int, height: int) -> list[str]:
    console = out_console()
    console.width = width
    return laid_out(console, training_view(state, width, height)).splitlines()


def state_after(number: int, level: str = "char") -> TrainingState:
    state = TrainingState()
    for event in itertools.islice(events(level), number):
        state.add(event)
    return state


@pytest.mark.parametrize("width", [40, 64, 80, 160])
@pytest.mark.parametrize("height", [12, 16, 20, 24, 50])
@pytest.mark.parametrize("stopping", [False, True])
def test_every_frame_fits_the_terminal_it_is_drawn_for(
    width: int, height: int, stopping: bool
) -> None:
    for number in (0, 1, 2, 5, 25, 50, 200):
        state = state_after(number)
        state.stopping = stopping
        lines = frame(state, width, height)
        assert max(map(len, lines)) <= width
        assert len(lines) <= height
        assert not any("\x1b" in line for line in lines)


def test_a_frame_has_what_one_watches_for() -> None:
    shown = "\n".join(frame(state_after(200), 80, 50))
    expected = (
        *("run", "100%", "0s left", "epoch 3", "433 MB", "training loss", "1.5001  best"),
        *("perplexity", "bits/char", "41,203 tokens/s", "step 2,000"),
        "At step 1,200 the model generates",
    )
    assert [each for each in expected if each not in shown] == []
    assert "To be,\\x1b[31m" in "\n".join(frame(state_after(50), 80, 50))


def test_frames_keep_their_height_so_that_nothing_jumps() -> None:
    heights = {len(frame(state_after(number), 80, 50)) for number in range(50, 110, 4)}
    assert len(heights) == 1


def test_the_second_bar_is_of_the_pass_that_is_being_made() -> None:
    state = state_after(1)
    for epoch, name, share in ((0.0, 1, 0), (0.25, 1, 25), (1.0, 1, 100), (3.5, 4, 50)):
        state.add(TrainingStep(20, epoch, 2.0, 0, 0, 0, 0, 0.5, 0, 0))
        (bar,) = [line for line in frame(state, 80, 50) if "epoch" in line]
        assert f"epoch {name}" in bar
        assert f"{share}%" in bar
        done, rest = bar.count("━"), bar.count("─")
        assert 100 * done / (done + rest) == pytest.approx(share, abs=2)


@pytest.mark.parametrize(
    ("level", "expected", "other"),
    [("char", "bits/char", "perplexity"), ("word", "perplexity", "bits/char")],
)
def test_a_narrow_terminal_shows_the_unit_of_the_level(
    level: str, expected: str, other: str
) -> None:
    narrow = "\n".join(frame(state_after(200, level), 40, 50))
    assert expected in narrow
    assert other not in narrow
    wide = "\n".join(frame(state_after(200, level), 80, 50))
    assert expected in wide
    assert other in wide


def test_a_terminal_of_24_rows_shows_the_curve_and_the_sample() -> None:
    for width in (40, 80, 160):
        shown = "\n".join(frame(state_after(200), width, 24))
        assert "─ validation" in shown
        assert "To be." in shown


def test_the_last_frame_leaves_no_empty_rows() -> None:
    state = state_after(200)
    state.over = True
    assert frame(state, 80, 50)[-2].strip() == "To be."


def test_each_frame_appears_at_once_and_a_resize_clears_what_was_laid_out_anew(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    for name, value in (("COLUMNS", "80"), ("LINES", "50")):
        monkeypatch.setenv(name, value)
    terminal("stderr")
    console = live_console()
    monkeypatch.setattr(progress, "live_console", lambda: console)
    monkeypatch.setattr(progress, "_FRAME_SECONDS", 0.0)
    clear, run = "\x1b[2J", list(events())[100:]
    with progress.training_progress() as shown:
        for number, event in enumerate([next(events()), *run]):
            if number == 5:
                assert clear not in console.file.getvalue()
                console.width = 60
            shown(event)
    written = console.file.getvalue()
    assert written.count(clear) == 1
    frames = re.findall(r"\x1b\[\?2026h(.*?)\x1b\[\?2026l", written, re.DOTALL)
    assert len(frames) == 1 + 1 + len(run)
    for drawn in frames[6:]:
        plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawn)
        assert max(map(len, plain.splitlines())) <= 60


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    terminal("stderr")
    assert isinstance(progress.training_progress(), progress.LiveProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.training_progress(), progress.LineProgress)


def test_no_color_leaves_the_display_and_takes_its_colours(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    coloured = re.compile(r"\x1b\[(?:\d+;)*3\d(?:;\d+)*m")
    for colours in (True, False):
        stderr = terminal("stderr")
        if not colours:
            monkeypatch.setenv("NO_COLOR", "1")
        with progress.training_progress() as shown:
            for event in itertools.islice(events(), 50):
                shown(event)
        assert bool(coloured.search(stderr.getvalue())) == colours


def test_a_worse_validation_is_not_called_the_best() -> None:
    state = state_after(200)
    state.add(Validation(9.0, 100, 100))
    assert "best" not in "\n".join(frame(state, 80, 50))


def test_a_long_run_is_remembered_in_bounded_memory() -> None:
    state = TrainingState()
    for step in range(20_000):
        state.add(TrainingStep(step, 0, 2.0, 0, 0, 0, 0, 0, 0, 0))
    assert len(state.losses) < 1000
    assert state.losses[0][0] < state.losses[-1][0]


def test_off_a_terminal_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.training_progress() as shown:
        for event in events():
            shown(event)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    assert sum("validation" in line for line in lines) == 5
    assert 8 <= sum("tokens/s" in line for line in lines) <= 12
    assert "note: a thing worth knowing" in lines
    assert "433 MB" in captured.err


def test_a_plot_stays_inside_its_box_and_leaves_out_what_is_not_finite() -> None:
    points = [(float(x), math.nan if x == 5 else 10 / (x + 1)) for x in range(50)]
    drawn = plot([Curve("loss", points, "")], 60, 6).plain.splitlines()
    assert len(drawn) == 7
    assert max(map(len, drawn)) <= 60
    assert plot([Curve("loss", [(0.0, math.nan)], "")], 60, 6).plain == ""
    assert "│" in plot([Curve("flat", [(0.0, 1.0), (1.0, 1.0)], "")], 60, 6).plain


def test_a_warning_is_said_and_its_escape_codes_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = progress.LineProgress()
    shown(TrainingWarning(3, "the loss explodes\x1b[31m"))
    said = capsys.readouterr().err
    assert "warning: the loss explodes" in said
    assert "\x1b" not in said
    state = TrainingState()
    state.add(TrainingWarning(3, "odd"))
    assert state.saved is None


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[MagicMock]:
    """The SummaryWriters that were made by a stand-in for the package."""
    made: list[MagicMock] = []

    def make(log_dir: str, purge_step: int | None = None) -> MagicMock:
        made.append(MagicMock(log_dir=log_dir, purge_step=purge_step))
        return made[-1]

    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = make
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    return made


def started(resumed_step: int = 0) -> TrainingStart:
    named = ("char", "cpu", "float32", 1, "lstm", "x")
    return TrainingStart(1, 2, 3, 4, 5, *named, resumed_step=resumed_step)


def test_every_event_is_written_at_its_step(writers: list[MagicMock]) -> None:
    with TensorBoardLog("logs/a") as log:
        assert writers == []
        log(started())
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
        log(started(resumed_step=120))
    assert writers[0].purge_step == 121


def test_what_is_written_is_closed_when_the_run_fails(writers: list[MagicMock]) -> None:
    with pytest.raises(ValueError), TensorBoardLog("logs/a") as log:
        log(started())
        raise ValueError
    writers[0].close.assert_called_once_with()


@pytest.mark.usefixtures("writers")
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ResourceError, match="not a folder"):
        TensorBoardLog(str(file))
    with pytest.raises(UsageError):
        TensorBoardLog("")
