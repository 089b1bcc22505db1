"""What a run does when learning goes wrong, the disk is small or somebody stops it."""

import json
import math
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from textgen import LanguageModel, checkpoint, storage, train
from textgen.errors import CheckpointError, DivergedError, LockedError, ResourceError
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingPhase,
    TrainingProgress,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)
from textgen.training import trainer as trainer_module
from textgen.training.run_directory import RunDirectory
from textgen.training.state import GradientState
from textgen.training.trainer import Trainer

from .conftest import PLACE, RUN, SHAPE, TEXT, events_of, files_of, of_kind, stop_at, written

SMALL: dict[str, Any] = {**RUN, **SHAPE, "log_every": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps, which no test may change."""
    folder = tmp_path_factory.mktemp("trained")
    train(written(folder / "corpus.txt", TEXT), out=folder / "run", steps=4, **SMALL)
    return folder / "run"


def no_number_at(monkeypatch: pytest.MonkeyPatch, *updates: int) -> None:
    """Let the gradient of these updates, counted from 1 and over all runs, be no number."""
    update, made = GradientState.update, [0]

    def poisoned(self: GradientState, learning_rate: float) -> None:
        update(self, learning_rate)
        made[0] += 1
        if made[0] in updates:
            self._norm = torch.tensor(float("nan"))

    monkeypatch.setattr(GradientState, "update", poisoned)


# Numerics


def test_the_times_a_run_went_back_are_counted_over_its_resumes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    no_number_at(monkeypatch, 2, 4, 13, 15)
    stopped = train(corpus, out=out, steps=40, stop=stop_at(8), valid_every=1, **SMALL)
    assert stopped.interrupted == 2
    assert storage.read_json(out / "last" / "state.json")["progress"]["rollbacks"] == 2
    with pytest.raises(DivergedError, match="4 times"):
        train(out=out, resume=True)
    assert LanguageModel.load(out).header.step > 0


def test_a_resumed_run_that_goes_back_before_it_logs_leaves_its_metrics_whole(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    with (out / checkpoint.METRICS).open("ab") as metrics:
        metrics.write(b'{"event": "step"}\n' * 20)  # of steps that a kill took back
    no_number_at(monkeypatch, 1)
    train(out=out, resume=True, steps=12)
    written = (out / checkpoint.METRICS).read_bytes()
    assert b"\0" not in written
    assert b'{"event": "step"}' not in written


def test_going_back_as_the_budget_ends_still_ends_with_a_validation_and_a_save(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll_back, update = Trainer._roll_back, Trainer._update

    def late(self: Trainer) -> float:
        roll_back(self)
        return self.schedule.progress(self.state.progress.step, 1e9)

    def poisoned(self: Trainer) -> None:  # and not the updates by which the speed is found out
        update(self)
        if self.state.progress.step == 5:
            self.state._norm = torch.tensor(float("nan"))

    monkeypatch.setattr(Trainer, "_roll_back", late)
    monkeypatch.setattr(Trainer, "_update", poisoned)
    events = events_of(corpus, out=tmp_path / "run", budget="60s", **SMALL)
    assert 0 < max(event.step for event in of_kind(TrainingStep, events)) < 5
    assert of_kind(Validation, events)
    assert (tmp_path / "run" / "best").is_dir()


def test_a_loss_that_explodes_is_warned_of_once_and_the_best_is_kept(
    corpus: Path, tmp_path: Path
) -> None:
    options = SMALL | {"learning_rate": 100.0, "warmup": 0.6, "steps": 60, "valid_every": 1}
    events = events_of(corpus, out=tmp_path / "run", **options)
    losses = [event.loss for event in of_kind(Validation, events)]
    assert losses[-1] > 2 * min(losses)
    kept = checkpoint.load(tmp_path / "run").header.validation
    assert kept is not None
    assert kept.loss == min(losses)
    assert "--learning-rate" in of_kind(TrainingWarning, events)[0].text


def test_a_held_out_part_too_long_for_the_budget_is_told_once_and_before_it_is_read(
    corpus: Path, tmp_path: Path
) -> None:
    held_out = written(tmp_path / "valid.txt", 300 * TEXT)
    options = SMALL | {"log_every": 1, "budget": 0.1}
    events = events_of(corpus, valid=held_out, out=tmp_path / "run", **options)
    told = [i for i, event in enumerate(events) if isinstance(event, TrainingWarning)]
    assert len(told) == 1
    assert "--valid-fraction" in events[told[0]].text
    assert told[0] < min(i for i, event in enumerate(events) if isinstance(event, Validation))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("nan")])
def test_a_validation_that_is_no_number_is_never_the_best(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    honest = trainer_module.validate

    def spoilt(model: Any, ids: Any, *, characters: int, step: int) -> Validation:
        found = honest(model, ids, characters=characters, step=step)
        return found if step == 4 else replace(found, loss=value)

    monkeypatch.setattr(trainer_module, "validate", spoilt)
    result = train(corpus, out=tmp_path / "run", steps=6, valid_every=2, **SMALL)
    assert result.validation is not None
    assert result.validation.step == 4
    for name in ("best", "last"):
        kept = checkpoint.load(tmp_path / "run" / name).header.validation
        assert kept is not None
        assert kept.step == 4
    assert checkpoint.load(tmp_path / "run" / "best").header.step == 4


def test_a_run_that_learns_is_not_warned_of(corpus: Path, tmp_path: Path) -> None:
    events = events_of(corpus, out=tmp_path / "run", steps=30, **SMALL)
    assert not of_kind(TrainingWarning, events)


# Saving


class Clock:
    """A clock that only updates and saves move: a second per update, ``took`` per save.

    rates: the learning rates of the updates.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, took: float) -> None:
        self.now, self.saving = 0.0, 0.0
        self.rates: list[float] = []
        save_last = RunDirectory.save_last

        def slow(directory: RunDirectory, state: GradientState, *rest: Any) -> Path:
            self.now, self.saving = self.now + took, self.saving + took
            return save_last(directory, state, *rest) if state.progress.step == 0 else directory.out

        def update(state: GradientState, rate: float) -> None:
            state.progress.step += 1
            self.now += 1.0
            self.rates.append(rate)

        monkeypatch.setattr(RunDirectory, "save_last", slow)
        monkeypatch.setattr(GradientState, "update", update)
        monkeypatch.setattr(trainer_module.time, "perf_counter", lambda: self.now)


def test_saving_to_a_slow_disk_takes_under_a_fiftieth_of_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, took=6.0)
    train(corpus, out=tmp_path / "run", steps=3000, valid_every=10**6, **SMALL)
    assert 5 * 6.0 < clock.saving < 0.02 * clock.now + 2 * 6.0  # and the first and the last


def test_the_time_of_updates_is_that_of_the_device_not_of_their_launches(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that takes a second for an update, and is waited for only where its loss is read."""
    clock, queued = Clock(monkeypatch, took=0.0), [0]
    launch = GradientState.update

    def update(state: GradientState, rate: float) -> None:
        before = clock.now
        launch(state, rate)
        clock.now, queued[0] = before + 0.001, queued[0] + 1
        state.progress.tokens_seen += state.tokens_per_step

    def is_finite(state: GradientState) -> bool:
        clock.now, queued[0] = clock.now + 0.999 * queued[0], 0
        return True

    monkeypatch.setattr(GradientState, "update", update)
    monkeypatch.setattr(GradientState, "is_finite", property(is_finite))
    monkeypatch.setattr(Trainer, "_waits_at_each_update", property(lambda self: False))
    fastest: list[float] = []
    run = Trainer.run

    def observed(self: Trainer) -> Any:
        yield from run(self)
        fastest.append(self._fastest_update)

    monkeypatch.setattr(Trainer, "run", observed)
    result = train(corpus, out=tmp_path / "run", steps=40, **SMALL)
    window = SMALL["batch_size"] * SMALL["sequence_length"]
    assert result.tokens_per_second == pytest.approx(window)
    assert fastest == [pytest.approx(1.0)]


def test_a_budget_is_kept_and_the_rate_ends_at_zero(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, begun = Clock(monkeypatch, took=5.0), []

    def note_start(event: TrainingEvent) -> None:
        if isinstance(event, CheckpointSaved) and not begun:  # of step 0, before the budget
            begun.append(clock.now)

    train(corpus, out=tmp_path / "run", budget="100s", on_event=note_start, **SMALL)
    assert 85 < clock.now - begun[0] <= 100, "the last save is within the budget"
    assert 0 < clock.rates[-1] < 0.1 * max(clock.rates)


Usage = namedtuple("Usage", "total used free")


def test_a_disk_too_small_is_told_before_training_and_before_resuming(
    run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6, 0))
        with pytest.raises(ResourceError, match="not enough space"):
            train(corpus, out=out, steps=4, **SMALL)
        assert not out.exists()
    before = files_of(shutil.copytree(run, out))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6, 0))
    with pytest.raises(ResourceError, match="not enough space"):
        train(out=out, resume=True, steps=8)
    assert files_of(out) == before


# Folders


def test_the_best_of_an_old_run_is_never_half_removed(
    run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is being removed would leave a ``best`` that nobody can read."""
    out = shutil.copytree(run, tmp_path / "run")
    rmtree, removed = shutil.rmtree, []

    def watched(path: Path, *args: Any, **kwargs: Any) -> None:
        removed.append(Path(path).name)
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", watched)
    train(corpus, out=out, steps=2, overwrite=True, **SMALL)
    assert removed
    assert not {"best", "last"} & set(removed)


def test_a_second_run_in_a_folder_is_refused_and_touches_nothing(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    before = files_of(out)
    with storage.locked(out):
        for options in ({"resume": True}, {"overwrite": True, **SMALL}):
            with pytest.raises(LockedError) as refused:
                train(corpus, out=out, steps=4, **options)
            assert refused.value.exit_code == 5
    assert files_of(out) == before


def test_a_shorter_text_that_was_accepted_is_read_from_its_beginning(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    corpus.write_text(TEXT * 20, encoding="utf-8")
    train(corpus, out=out, steps=60, **SMALL)
    corpus.write_text(TEXT[:60], encoding="utf-8")
    assert train(out=out, resume=True, steps=70, accept_changed_corpus=True).steps == 70


# A hostile state of training, its checksums right


def reseal(folder: Path, change: Callable[[dict[str, Any]], Any], file: str = "state.json") -> None:
    values = storage.read_json(folder / file)
    change(values)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with storage.new_folder(folder) as begun:
        for name, data in kept.items():
            if name != storage.MANIFEST:
                (begun / name).write_bytes(data)
        storage.write_json(begun / file, values)


HOSTILE: list[tuple[str, Any]] = [
    *[("progress.step", value) for value in (-1, 0, 1.5, "4", None, 10**30, True)],
    *[(f"progress.{name}", -1) for name in ("tokens_seen", "loss_count", "rollbacks")],
    *[("progress.seconds", value) for value in (-1, "x", None)],
    *[("progress.learning_rate_scale", value) for value in (-1, 2, "x")],
    *[("progress.loss_sum", value) for value in ("x", None)],
    ("metrics_bytes", -1),
    *[
        ("streams", value)
        for value in (None, [], {}, {"epoch": 0, "assigned": 0, "rows": [], "pending": []})
    ],
    *[("streams.epoch", value) for value in (-1, "0", 10**30, 0.5)],
    *[("streams.assigned", value) for value in (-1, 10**9, "0", 0.5)],
    *[("streams.run_windows", value) for value in (-1, 10**9, "0", 0.5)],
    *[("streams.rows", value) for value in ([[0, 1, 0, False]], [[]] * 4, "wxyz", 5)],
    *[("streams.rows", [row] * 4) for row in ([-1, 1, 0, False], [10**30, 1, 0, False])],
    *[("streams.rows", [row] * 4) for row in ([0, -1, 0, False], [0, 1, "0", False])],
    *[("best", value) for value in (5, {}, "x", [])],
    *[("best.loss", value) for value in ("x", None, [])],
    *[("validation", value) for value in (5, {}, "x", [])],
    *[("scaler", value) for value in (5, [1], {"scale": 1.0})],
    *[("losses_since_best", value) for value in (5, ["x"], [None], [1e308])],
]


@pytest.mark.parametrize(("path", "value"), HOSTILE, ids=lambda value: str(value)[:30])
def test_a_state_of_training_that_does_not_fit_is_refused(
    run: Path, tmp_path: Path, path: str, value: Any
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(run, out)

    def change(values: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            values = values[parent]
        values[name] = value

    reseal(out / "last", change)
    with pytest.raises(CheckpointError) as refused:
        train(out=out, resume=True, steps=6)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    "source", [{"valid": True}, {"corpora": [5]}, {"encoding": None}, {"tokenizer": 5}]
)
def test_a_source_that_names_no_text_is_refused(run: Path, tmp_path: Path, source: Any) -> None:
    out = tmp_path / "copy"
    shutil.copytree(run, out)
    reseal(out / "last", lambda raw: raw["source"].update(source), "config.json")
    with pytest.raises(CheckpointError):
        train(out=out, resume=True, steps=6)


# What is shown of a run


def test_figures_come_before_the_first_log_line_and_at_the_end(
    corpus: Path, tmp_path: Path
) -> None:
    events = events_of(corpus, out=tmp_path / "run", steps=5, **(SMALL | {"log_every": 100}))
    figures = of_kind(TrainingProgress, events)
    assert of_kind(TrainingStep, events) == []
    begin, first, end = figures[0], figures[1], figures[-1]
    assert (begin.step, begin.progress) == (0, 0.0)
    assert math.isnan(begin.loss)
    assert (first.step, first.progress) == (1, 0.2)
    assert first.loss > 0
    assert math.isfinite(first.remaining_seconds)
    assert first.next_validation == pytest.approx(0.4)
    assert (end.step, end.progress, end.remaining_seconds) == (5, 1.0, 0.0)
    assert "step" not in (tmp_path / "run" / "metrics.jsonl").read_text().split('"event": ')[1][:7]


def test_figures_change_neither_the_losses_of_log_lines_nor_the_metrics(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = []
    for seconds, figures in ((1e9, 6), (0.0, 8)):  # of the start, 3 log lines, the end, and others
        monkeypatch.setattr(trainer_module, "_SECONDS_BETWEEN_FIGURES", seconds)
        out = tmp_path / str(seconds)
        events = events_of(corpus, out=out, steps=6, **SMALL)
        assert len(of_kind(TrainingProgress, events)) == figures
        lines = (out / "metrics.jsonl").read_text().splitlines()
        metrics.append([json.loads(line) for line in lines])
        for line in metrics[-1]:
            assert "next_validation" not in line
            for name in ("seconds", "tokens_per_second"):
                line.pop(name, None)
    assert metrics[0] == metrics[1]


def test_each_phase_is_an_event_before_it_begins(corpus: Path, tmp_path: Path) -> None:
    options = SMALL | {"budget": "2s"}
    events = events_of(corpus, out=tmp_path / "run", **options)
    names = [event.name for event in of_kind(TrainingPhase, events)]
    before = ["reading", "learning", "encoding", "loading", "measuring", "saving"]
    assert names[: len(before)] == before
    assert names[-1] == "baseline"
    assert names.count("validating") == len(of_kind(Validation, events))
    assert isinstance(events[names.index("measuring") + 1], TrainingStart)
    counted = events_of(corpus, out=tmp_path / "counted", model="ngram", **PLACE)
    assert "counting" in [event.name for event in of_kind(TrainingPhase, counted)]
    assert "measuring" not in [event.name for event in of_kind(TrainingPhase, counted)]


def test_a_resumed_run_begins_where_it_was(run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    events = events_of(out=out, resume=True, steps=8)
    (start,) = of_kind(TrainingStart, events)
    assert start.resumed_step == 4
    assert [step for step, _ in start.losses] == [2, 4]
    assert start.validations[-1].step == 4
    assert start.best == min(start.validations, key=lambda each: each.loss)
    begin = of_kind(TrainingProgress, events)[0]
    assert (begin.step, begin.progress) == (4, 0.5)


def test_a_stopped_run_ends_with_its_figures_and_has_no_baseline(
    corpus: Path, tmp_path: Path
) -> None:
    events: list[TrainingEvent] = []
    stop, options = stop_at(3), SMALL | {"log_every": 100}
    result = train(
        corpus, out=tmp_path / "run", steps=9, on_event=events.append, stop=stop, **options
    )
    assert (result.interrupted, result.ngram) == (2, None)
    assert of_kind(TrainingProgress, events)[-1].step == result.steps == 3
    # A signal in the last validation stops what comes after it.
    ended = False

    def note_end(event: TrainingEvent) -> None:
        nonlocal ended
        ended = ended or (isinstance(event, Validation) and event.step == 2)

    result = train(
        corpus,
        out=tmp_path / "other",
        steps=2,
        on_event=note_end,
        stop=lambda: 2 if ended else None,
        **SMALL,
    )
    assert (result.interrupted, result.steps, result.ngram) == (None, 2, None)
