"""The record of a run: its metrics, and what it refuses to begin without."""

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from textgen import checkpoint
from textgen.errors import ResourceError
from textgen.results import TrainingStep
from textgen.training.run_directory import RunDirectory, check_space

STEP = TrainingStep(1, 0.5, 2.0, 1e-3, 0.5, 64, 100.0, 0.1, 0.1, 0.9)


@pytest.fixture
def opened(tmp_path: Path) -> RunDirectory:
    (tmp_path / checkpoint.METRICS).write_bytes(b"012345678\n" * 10)
    return RunDirectory(tmp_path, cast(Any, None), cast(Any, None))


def test_metrics_that_were_cut_back_are_as_long_as_they_are(opened: RunDirectory) -> None:
    """Else the next checkpoint would know of lines that are not there."""
    opened.open(30)
    assert opened.length() == 30
    opened.truncate_metrics(20)
    assert opened.length() == 20
    opened.log_step(STEP)
    kept = opened.length()
    opened.log_step(replace(STEP, step=2))
    opened.truncate_metrics(kept)
    opened.close()
    content = (opened.out / checkpoint.METRICS).read_bytes()
    assert content[:20] == b"012345678\n" * 2
    assert content[20:].count(b"\n") == 1
    assert b"\0" not in content


def test_a_line_that_a_disk_has_cut_is_dropped_before_others_follow(opened: RunDirectory) -> None:
    metrics = opened.out / checkpoint.METRICS
    metrics.write_bytes(metrics.read_bytes()[:57])
    opened.open(100)
    opened.log_step(STEP)
    opened.close()
    *kept, line = metrics.read_bytes().splitlines()
    assert kept == [b"012345678"] * 5
    assert json.loads(line)["step"] == STEP.step


def test_a_norm_that_overflowed_leaves_strict_json(opened: RunDirectory) -> None:
    opened.open(0)
    opened.log_step(replace(STEP, gradient_norm=float("inf")))
    opened.close()
    assert b"Infinity" not in (opened.out / checkpoint.METRICS).read_bytes()


def test_metrics_that_find_no_room_are_named_and_closing_does_not_hide_it(
    opened: RunDirectory,
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs a device that is always full")
    opened._metrics = full.open("wb")
    with pytest.raises(ResourceError, match=checkpoint.METRICS) as refused:
        try:
            for _ in range(1000):
                opened.log_step(STEP)
        finally:
            opened.close()
    assert "No space left" in str(refused.value)


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("resumed", "copies"), [(False, 8), (True, 4)])
def test_the_space_for_checkpoints_is_looked_for_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool, copies: int
) -> None:
    needed = copies * 4 * 10**6 + 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, needed))
    check_space(tmp_path / "not" / "yet", 10**6, resumed=resumed)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, needed - 1))
    with pytest.raises(ResourceError, match=f"{needed:,} bytes needed") as refused:
        check_space(tmp_path / "not" / "yet", 10**6, resumed=resumed)
    assert refused.value.exit_code == 1
