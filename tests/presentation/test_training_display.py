"""The training display, from a made-up run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from textgen.presentation import progress
from textgen.presentation.console import laid_out, out_console
from textgen.presentation.plots import Curve, plot
from textgen.presentation.training_view import TrainingState, training_view
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


def events() -> Iterator[TrainingEvent]:
    """A run of 100 log steps, a validation at every twentieth, a long sample and a short one."""
    yield TrainingStart(
        parameters=1303041,
        vocabulary_size=67,
        train_tokens=1000,
        valid_tokens=100,
        train_characters=1000,
        level="char",
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
            20 * step, 3 * done, loss, 5e-3, 0.8, step, 41203.4, done, step, 100 - step
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


def state_after(number: int) -> TrainingState:
    state = TrainingState()
    for event, _ in zip(events(), range(number), strict=False):
        state.add(event)
    return state


@pytest.mark.parametrize("width", [40, 64, 80, 140])
@pytest.mark.parametrize("height", [10, 20, 50])
def test_every_frame_fits_the_terminal_it_is_drawn_for(width: int, height: int) -> None:
    for number in (0, 1, 2, 5, 25, 50, 200):
        lines = frame(state_after(number), width, height)
        assert max(map(len, lines)) <= width
        assert not any("\x1b" in line for line in lines)


def test_a_frame_has_what_one_watches_for() -> None:
    shown = "\n".join(frame(state_after(200), 80, 50))
    for expected in (
        "100%",
        "0s left",
        "training loss",
        "1.5001  best",
        "perplexity",
        "bits a character",
        "41,203 tokens/s",
        "step 2,000",
        "At step 1,200 the model writes",
    ):
        assert expected in shown
    assert "To be,\\x1b[31m" in "\n".join(frame(state_after(50), 80, 50))


def test_frames_keep_their_height_so_that_nothing_jumps() -> None:
    heights = {len(frame(state_after(number), 80, 50)) for number in range(50, 110)}
    assert len(heights) == 1


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
