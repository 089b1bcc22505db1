"""The displays of training and its TensorBoard log, from made-up runs."""

from __future__ import annotations

import itertools
import math
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
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
    TrainingPhase,
    TrainingProgress,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)


def events() -> Iterator[TrainingEvent]:
    """A run of 100 log steps, a validation at every twentieth, a long sample and a short one."""
    described = ("cpu", "bf16", "lstm 512", "checkpoints/x\x1b[31m")
    yield TrainingStart(1303041, 67, *described, notes=("a thing worth knowing",))
    for step in range(1, 101):
        loss, done = 1.4 + 3 * math.exp(-step / 10), step / 100
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
    yield TrainingWarning(2000, "the loss explodes\x1b[31m")


def frame(state: TrainingState, width: int, height: int) -> list[str]:
    console = out_console()
    console.width = width
    return laid_out(console, training_view(state, width, height)).splitlines()


def state_after(number: int) -> TrainingState:
    state = TrainingState()
    for event in itertools.islice(events(), number):
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
    worse = state_after(200)
    worse.add(Validation(9.0, 100, 100))
    assert "best" not in "\n".join(frame(worse, 80, 50))


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


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_terminal_of_24_rows_shows_the_figures_the_curve_and_the_sample(width: int) -> None:
    shown = "\n".join(frame(state_after(200), width, 24))
    figures = ("training loss", "validation loss", "perplexity", "bits/char", "speed")
    expected = (*figures, "─ validation", "To be.")
    assert [each for each in expected if each not in shown] == []


def test_a_resize_clears_what_the_terminal_has_wrapped(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    for name, value in (("COLUMNS", "80"), ("LINES", "50")):
        monkeypatch.setenv(name, value)
    terminal("stderr")
    console = live_console()
    monkeypatch.setattr(progress, "live_console", lambda: console)
    monkeypatch.setattr(progress, "_FRAME_SECONDS", 0.0)
    with progress.training_progress() as shown:
        for number, event in enumerate(itertools.islice(events(), 20)):
            if number == 15:
                console.width = 60
            shown(event)
    written = re.sub(r"\x1b\[(?!2J)[\d;?]*[A-Za-z]", "", console.file.getvalue())
    before, after = written.split("\x1b[2J")
    assert 60 < max(map(len, before.splitlines())) <= 80
    assert max(map(len, after.splitlines())) <= 60


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    terminal("stderr")
    assert isinstance(progress.training_progress(), progress.LiveProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.training_progress(), progress.LineProgress)


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
    assert "textgen: warning: the loss explodes\\x1b[31m" in lines
    assert "433 MB" in captured.err


def test_a_plot_stays_inside_its_box_and_leaves_out_what_is_not_finite() -> None:
    points = [(float(x), math.nan if x == 5 else 10 / (x + 1)) for x in range(50)]
    drawn = plot([Curve("loss", points, "")], 60, 6).plain.splitlines()
    assert len(drawn) == 7
    assert max(map(len, drawn)) <= 60
    assert plot([Curve("loss", [(0.0, math.nan)], "")], 60, 6).plain == ""
    assert "│" in plot([Curve("flat", [(0.0, 1.0), (1.0, 1.0)], "")], 60, 6).plain
    assert "│" in plot([Curve("back", [(2.0, 1.0), (9.0, 2.0), (3.0, 3.0)], "")], 60, 6).plain


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """A stand-in for the package."""
    module = MagicMock()
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, module)
    return module


def started(resumed_step: int = 0) -> TrainingStart:
    return TrainingStart(1, 2, "cpu", "float32", "lstm", "x", resumed_step=resumed_step)


def test_every_event_is_written_at_its_step(tensorboard: MagicMock) -> None:
    writer = tensorboard.SummaryWriter.return_value
    with TensorBoardLog("logs/a") as log:
        tensorboard.SummaryWriter.assert_not_called()
        log(started())
        log(TrainingStep(20, 0.5, 2.5, 5e-3, 0.8, 4096, 41000.0, 0.5, 5.0, 5.0))
        log(Validation(2.25, 100, 100, step=40))
        writer.flush.assert_called_once_with()
        log(Validation(2.0, 100, 100, step=60, pseudo=True))
        log(TrainingSample(40, "To be,\n*or* not\n"))
        log(CheckpointSaved(40, "best", "x/best"))
    tensorboard.SummaryWriter.assert_called_once_with("logs/a", purge_step=None)
    assert [each.args for each in writer.add_scalar.call_args_list] == [
        ("loss/training", 2.5, 20),
        ("learning_rate", 5e-3, 20),
        ("gradient_norm", 0.8, 20),
        ("tokens_per_second", 41000.0, 20),
        ("loss/validation", 2.25, 40),
        ("pseudo_loss/validation", 2.0, 60),
    ]
    writer.add_text.assert_called_once_with("sample", "    To be,\n    *or* not\n", 40)


def test_a_resumed_run_forgets_the_steps_it_makes_anew_and_a_failed_one_is_closed(
    tensorboard: MagicMock,
) -> None:
    writer = tensorboard.SummaryWriter.return_value
    with pytest.raises(ValueError), TensorBoardLog("logs/a") as log:
        log(started(resumed_step=120))
        writer.close.assert_not_called()
        raise ValueError
    tensorboard.SummaryWriter.assert_called_once_with("logs/a", purge_step=121)
    writer.close.assert_called_once_with()


@pytest.mark.usefixtures("tensorboard")
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ResourceError, match="not a folder"):
        TensorBoardLog(str(file))
    with pytest.raises(UsageError):
        TensorBoardLog("")


def test_before_the_run_starts_the_display_is_its_phase(terminal: Any) -> None:
    written = terminal("stderr")
    with progress.training_progress() as shown:
        shown(TrainingPhase("reading", "a\x1b[31m.txt", total=72_000_000))
        assert "Reading a\\x1b[31m.txt, 72.0 MB" in written.getvalue()
        shown(TrainingPhase("loading", "PyTorch"))
        assert "Loading PyTorch" in written.getvalue()
    state = TrainingState()
    for done, total, expected in (
        (0, None, " Reading a.txt"),
        (4_000_000, None, " Reading a.txt, 4.00 MB so far"),
        (36_000_000, 72_000_000, " Reading a.txt, 72.0 MB   50%  7s"),
    ):
        state.add(TrainingPhase("reading", "a.txt", done, total))
        state.waited = 7.9 if total else 0.0
        assert frame(state, 80, 24) == [expected]


def test_the_line_with_the_cursor_leaves_room_for_what_the_terminal_echoes() -> None:
    state = state_after(50)
    state.add(TrainingPhase("validating", "held-out tokens " * 20))
    for width in (40, 80):
        assert len(frame(state, width, 24)[-1].rstrip()) <= width - 4


def test_the_clock_goes_on_within_a_slow_step_and_a_slow_validation() -> None:
    state = state_after(11)
    state.since_figures, state.waited = 42.0, 12.3
    shown = frame(state, 80, 24)
    assert "48s left" in shown[2]  # of 90 s
    assert shown[-1] == " Step 201  12s"
    state.add(TrainingPhase("validating", "1,234 held-out tokens"))
    assert frame(state, 80, 24)[-1] == " Validating on 1,234 held-out tokens  12s"
    state.stopping = True
    assert "Stopping after this validation, and saving." in frame(state, 80, 24)[-1]


class Clock:
    """A time that passes only while the display waits, and that wakes it late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late: float) -> None:
        self.now, self._late, self._end = 1000.7, late, math.inf
        self.frames: list[TrainingState] = []
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(progress, "training_view", self._view)

    def _view(self, state: TrainingState, width: int, height: int) -> str:
        self.frames.append(replace(state))
        return ""

    def wait(self, seconds: float) -> bool:
        self.now += seconds + self._late
        return self.now >= self._end

    def let_pass(self, shown: progress.LiveProgress, seconds: float) -> list[TrainingState]:
        """The frames that the display draws by itself."""
        self._end = self.now + seconds
        shown._ended, self.frames = self, []  # type: ignore[assignment]
        shown._tick()
        return self.frames


@pytest.mark.parametrize("late", [0.0, 0.001, 0.05, 0.15])
def test_the_clock_of_the_display_shows_every_second_once(
    monkeypatch: pytest.MonkeyPatch, terminal: Any, late: float
) -> None:
    terminal("stderr")
    clock, shown = Clock(monkeypatch, late), progress.LiveProgress()
    shown(TrainingPhase("loading", "PyTorch"))
    frames = clock.let_pass(shown, 60.9)
    assert [math.floor(each.waited) for each in frames] == list(range(1, 61))
    shown(started())
    clock.now += 1
    shown(TrainingProgress(1, 0.1, 2.0, 0.1, 1, 1, 1.0, 0.1, 1.0, 99.0))
    frames = clock.let_pass(shown, 60.9)  # one slow step
    assert [math.floor(each.waited) for each in frames] == list(range(1, 61))
    assert [round(99 - each.since_figures) for each in frames] == list(range(98, 38, -1))


def test_figures_that_come_right_after_a_frame_are_shown_soon(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    terminal("stderr")
    clock, shown = Clock(monkeypatch, 0.0), progress.LiveProgress()
    shown(started())
    shown(TrainingProgress(1, 0.1, 2.0, 0.1, 1, 1, 1.0, 0.1, 1.0, 99.0))
    (frame,) = clock.let_pass(shown, 0.7)
    assert frame.step is not None
    assert frame.step.loss == 2.0
    clock.let_pass(shown, 0.35)
    clock.frames = []  # that of the clock; figures that come right after it are shown at once
    shown(TrainingProgress(2, 0.2, 1.0, 0.1, 1, 1, 1.0, 0.2, 2.0, 98.0))
    assert [each.step and each.step.loss for each in clock.frames] == [1.0]


def test_a_phase_of_less_than_a_second_is_not_shown_while_a_run_trains(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    terminal("stderr")
    clock, shown = Clock(monkeypatch, 0.0), progress.LiveProgress()
    shown(started())
    clock.let_pass(shown, 3.5)
    shown(TrainingPhase("saving", "step 1"))
    assert clock.let_pass(shown, 0.9) == []
    assert len(clock.let_pass(shown, 0.2)) == 1


def test_the_last_frame_is_the_end_of_the_run(terminal: Any) -> None:
    written = terminal("stderr")
    with progress.training_progress() as shown:
        shown(started())
        for step, done in ((1, 0.5), (2, 1.0)):
            shown(TrainingProgress(step, done, 2.0, 0.1, 1, 1, 1.0, done, step, 2.0 - step))
        shown(TrainingPhase("baseline"))
    last = written.getvalue().rpartition("epoch")[0].rpartition("run")[2]
    assert "100%" in last
    assert "0s left" in last


def test_the_display_is_drawn_where_no_event_comes(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    terminal("stderr")
    drawn = threading.Event()
    with progress.training_progress() as shown:
        shown(TrainingPhase("loading", "PyTorch"))
        monkeypatch.setattr(shown, "_draw", lambda of_event: drawn.set())
        assert drawn.wait(10)


@pytest.mark.parametrize(("due", "expected"), [(1.0, "at the end"), (0.3, "at 30%")])
def test_before_the_first_validation_the_display_says_when_it_comes(
    due: float, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_after(1)
    step = TrainingProgress(1, 0.0, 2.0, 0.1, 1.0, 1, 1.0, 0.1, 1.0, 9.0, next_validation=due)
    state.add(step)
    (line,) = [line for line in frame(state, 80, 24) if "validation loss" in line]
    assert expected in line
    with progress.training_progress() as shown:
        shown(step)
    assert f"validation {expected}" in capsys.readouterr().err


def test_a_resumed_run_is_shown_with_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    best, newest = Validation(1.5, 10, 10, step=20), Validation(1.75, 10, 10, step=30)
    losses = ((10, 3.0), (20, 2.0), (30, 1.25))
    start = TrainingStart(
        9, 6, "cpu", "float32", "lstm 8", "x", 35, (), losses, (best, newest), best
    )
    figures = TrainingProgress(35, 0.5, math.nan, 0.0, 0.0, 9, 0.0, 0.35, 7.0, 13.0)
    state = TrainingState()
    state.add(start)
    state.add(figures)
    shown = "\n".join(frame(state, 80, 24))
    for expected in (" 35% ", "13s left", "step 35", "1.2500", "1.7500", "─ validation"):
        assert expected in shown
    assert re.search(r"saved +step 35", shown)
    assert "best" not in shown
    with progress.training_progress() as lines:
        lines(start)
    assert "step 35  resumed  best validation loss 1.5000" in capsys.readouterr().err


def test_phases_are_plain_lines_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.training_progress() as shown:
        for done in (0, 0, 500):
            shown(TrainingPhase("reading", "a.txt", done, 1000))
        shown(TrainingPhase("counting", "99 tokens"))
        shown(TrainingPhase("saving", "step 1"))
    with progress.training_progress("run 1 of 2") as shown:
        shown(TrainingPhase("reading", "tokens", 0, 1000))
    expected = ["reading a.txt, 1.00 kB", "counting n-grams in 99 tokens"]
    assert capsys.readouterr().err.splitlines() == expected


def test_the_last_line_is_the_end_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.training_progress() as shown:
        for step, done in ((1, 0.01), (99, 0.99), (100, 1.0)):
            shown(TrainingProgress(step, done, 2.0, 0.1, 1, 1, 1.0, done, step, 100 - step))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["1%", "99%", "100%"]
