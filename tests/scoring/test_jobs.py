"""Texts taken in groups, and several processes that give the scores of one."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.config import ScoringConfig
from textgen.data.lines import Text, arriving
from textgen.errors import DataError, ResourceError, UsageError
from textgen.language_model import _load_again
from textgen.scoring import jobs
from textgen.scoring.jobs import groups

_WAITING = """
import sys
from functools import partial
from pathlib import Path
from textgen.checkpoint import load
from textgen.config import ScoringConfig
from textgen.data.lines import Text
from textgen.scoring.jobs import scores_of_jobs

def read(path, number):
    loaded = load(path)
    return loaded.model, loaded.tokenizer

def groups():
    yield [Text(1, "the cat")]
    sys.stdin.read()

if __name__ == "__main__":
    for score in scores_of_jobs(partial(read, Path(sys.argv[1])), ScoringConfig(), groups(), 1):
        print("scored", flush=True)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of words."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "a.txt").write_text("the cat sat on the mat\na dog sat\n" * 40)
    train(
        folder / "a.txt", out=folder / "out", steps=3, hidden_size=(8,), level="word", min_count=1
    )
    return folder / "out"


def _interrupt_processes() -> None:
    for process in multiprocessing.active_children():
        assert process.pid
        os.kill(process.pid, signal.SIGINT)


def test_the_number_of_jobs_changes_nothing_nor_does_ctrl_c_in_the_other_processes(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_MOST_TEXTS", 3)
    model = LanguageModel.load(checkpoint, precision="float64")
    texts = ["the cat sat", "a zebra", "", "the dog sat on the mat", "a", "the zebra"] * 3
    config = ScoringConfig(level="word", skip_empty=True, on_unknown="skip")
    skipped: list[Any] = []
    alone = list(model.scores(texts, config, on_skip=skipped.append))
    again: list[Any] = []

    is_scored = Event()

    def failing() -> Any:
        yield from texts[:3]
        _interrupt_processes()  # one has just begun
        assert is_scored.wait(60), "a score waits for the text after it"
        for text in texts[3:]:
            _interrupt_processes()
            yield text
        raise DataError("no more")

    given = model.scores(failing(), config, jobs=2, on_skip=again.append)
    shared = [next(given)]
    is_scored.set()
    shared += [next(given) for _ in alone[1:]]
    with pytest.raises(DataError, match="no more"):
        next(given)
    assert again == skipped
    assert len(skipped) == 9
    assert [each.line for each in shared] == [each.line for each in alone]
    for one, other in zip(alone, shared, strict=True):
        assert one.text == other.text
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-10)
        assert one.parts
        assert other.parts
        assert [part.text for part in one.parts] == [part.text for part in other.parts]


def test_an_error_of_a_process_is_told_by_another() -> None:
    error = DataError("unknown", where="line 2", why="so", fix="skip it")
    told = pickle.loads(pickle.dumps(error))
    assert (type(told), vars(told)) == (DataError, vars(error))
    assert str(told) == str(error)


def test_a_document_is_read_by_one_process(checkpoint: Path) -> None:
    model = LanguageModel.load(checkpoint)
    with pytest.raises(UsageError, match="--jobs and --context document"):
        list(model.scores(["the cat"], ScoringConfig(context="document"), jobs=2))


def test_why_a_process_could_not_begin_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel.load(checkpoint)
    load = partial(_load_again, model.path, model.header, model.model.device, model.model.dtype, 1)
    assert load(0)[0].dtype == model.model.dtype
    # In this process, which is none of several.
    monkeypatch.setattr(jobs, "follow_parent", lambda: None)
    other: Any = None
    load = partial(_load_again, model.path, other, model.model.device, model.model.dtype, 1)
    jobs._initialize(load, ScoringConfig(), multiprocessing.Value("i", 0))
    with pytest.raises(ResourceError, match="changed while it was read"):
        jobs._scores([Text(1, "the")])


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_processes_exit_with_parent_even_if_it_is_killed(checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(_WAITING)
    pipe = subprocess.PIPE
    command = [sys.executable, str(script), str(checkpoint)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as first:
        assert first.stdout
        assert first.stdout.readline() == b"scored\n"
        first.kill()
        first.communicate(timeout=60)  # all of them have ended: none holds stdout any more


def test_texts_are_numbered_and_prefixed_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_MOST_TEXTS", 2)
    given = ["a", ("own ", "b"), Text(7, "c", "its ")]
    assert list(groups(given, "the ")) == [
        [Text(1, "a", "the "), Text(2, "b", "own ")],
        [Text(7, "c", "its ")],
    ]
    assert list(groups([])) == []


def test_no_more_is_taken_than_a_group_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_MOST_TEXTS", 5)
    monkeypatch.setattr(jobs, "_MOST_CHARACTERS", 40)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "ab" if taken < 8 else "long" * 5

    some = groups(endless())
    assert [len(next(some)) for _ in range(3)] == [5, 4, 2]
    assert taken == 11


def test_what_came_before_an_error_is_given() -> None:
    def failing() -> Iterator[str]:
        yield "whole"
        raise ValueError("no more")

    for texts in (failing(), arriving(failing())):
        some = groups(texts)
        assert next(some) == [Text(1, "whole")]
        with pytest.raises(ValueError, match="no more"):
            next(some)


def test_a_group_is_what_has_come_where_the_rest_is_slow() -> None:
    more = threading.Event()

    def typed() -> Iterator[str]:
        yield "first"
        yield "second"
        more.wait()
        yield "third"

    some = groups(arriving(typed()))
    assert next(some) == [Text(1, "first"), Text(2, "second")]
    more.set()
    assert list(some) == [[Text(3, "third")]]


def test_reading_ahead_is_bounded_and_ends_with_its_reader() -> None:
    read, ended = threading.Semaphore(0), threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                read.release()
                yield "x" * 2**14
        finally:
            ended.set()

    texts = iter(arriving(endless()))
    assert next(texts) == "x" * 2**14
    for _ in range(34):  # one taken, half a million characters, one that waits
        assert read.acquire(timeout=5)
    assert not read.acquire(timeout=0.3)
    texts.close()
    assert ended.wait(5)


def test_a_text_longer_than_is_held_comes_all_the_same() -> None:
    long = "x" * 2**20
    assert list(arriving([long, long, "y"])) == [long, long, "y"]
