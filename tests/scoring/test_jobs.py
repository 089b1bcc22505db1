"""Several processes that score give what one gives."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.config import ScoringConfig
from textgen.data.lines import Text
from textgen.errors import DataError, ResourceError, UsageError
from textgen.language_model import _load_again
from textgen.scoring import jobs
from textgen.scoring import jobs as module

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
    monkeypatch.setattr(module, "_MOST_TEXTS", 3)
    model = LanguageModel.load(checkpoint, precision="float64")
    texts = ["the cat sat", "a zebra", "", "the dog sat on the mat", "a", "the zebra"] * 3
    options: dict[str, Any] = {"level": "word", "skip_empty": True, "on_unknown": "skip"}
    skipped: list[Any] = []
    alone = list(model.scores(texts, on_skip=skipped.append, **options))
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

    given = model.scores(failing(), jobs=2, on_skip=again.append, **options)
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
    assert isinstance(told, DataError)
    assert str(told) == str(error)
    assert (told.what, told.where, told.why, told.fix) == ("unknown", "line 2", "so", "skip it")


def test_a_document_is_read_by_one_process(checkpoint: Path) -> None:
    model = LanguageModel.load(checkpoint)
    with pytest.raises(UsageError, match="--jobs and --context document"):
        list(model.scores(["the cat"], jobs=2, context="document"))


def test_why_a_process_could_not_begin_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel.load(checkpoint)
    load = partial(_load_again, model.path, model.header, model.model.device, model.model.dtype, 1)
    assert load(0)[0].dtype == model.model.dtype
    # In this process, which is none of several.
    monkeypatch.setattr("textgen.scoring.jobs.signal.signal", lambda *_: None)
    monkeypatch.setattr(jobs, "_end_with_the_first", lambda: None)
    other: Any = None
    load = partial(_load_again, model.path, other, model.model.device, model.model.dtype, 1)
    jobs._begin(load, ScoringConfig(), multiprocessing.Value("i", 0))
    with pytest.raises(ResourceError, match="changed while it was read"):
        jobs._scores([Text(1, "the")])


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_processes_end_with_the_first_even_if_it_is_killed(
    checkpoint: Path, tmp_path: Path
) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(_WAITING)
    pipe = subprocess.PIPE
    command = [sys.executable, str(script), str(checkpoint)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as first:
        assert first.stdout
        assert first.stdout.readline() == b"scored\n"
        first.kill()
        first.communicate(timeout=60)  # all of them have ended: none holds stdout any more
