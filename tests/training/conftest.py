"""What the tests of training share: a text, a small model's options, signals, what a run leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from textgen import checkpoint, train
from textgen.results import TrainingEvent

Event = TypeVar("Event")

TEXT = "".join(
    f"the {animal} {verb} the {thing}.\n"
    for animal in ("cat", "dog", "cow", "hen", "fox")
    for verb in ("sees", "likes", "finds", "hides")
    for thing in ("ball", "door", "garden", "river", "house")
)
PLACE: dict[str, Any] = {"device": "cpu", "threads": 1}
RUN: dict[str, Any] = {"batch_size": 4, "sequence_length": 16, "log_every": 3, **PLACE}
SHAPE: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A file of TEXT, which a test may change."""
    return written(tmp_path / "corpus.txt", TEXT)


def stop_at(poll: int) -> Callable[[], int | None]:
    """A ``stop`` that gives a signal at this poll and after it."""
    polls = iter(range(1, 10**9))
    return lambda: 2 if next(polls) >= poll else None


def events_of(*corpora: Path, **options: Any) -> list[TrainingEvent]:
    """The events of a run."""
    events: list[TrainingEvent] = []
    train(*corpora, on_event=events.append, **options)
    return events


def of_kind(kind: type[Event], events: list[TrainingEvent]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def untimed_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without what depends on the machine's speed."""
    lines = map(json.loads, (out / checkpoint.METRICS).read_text(encoding="utf-8").splitlines())
    timed = ("seconds", "tokens_per_second")
    return [{name: line[name] for name in line if name not in timed} for line in lines]
