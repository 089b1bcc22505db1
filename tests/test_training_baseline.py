"""What a finished run is held against, and what it took."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import checkpoint, train
from textgen.ngram_baseline import kneser_ney_loss
from textgen.process_memory import peak_resident_bytes, resident_bytes
from textgen.results import TrainingEvent, TrainingStep

TEXT = "".join(f"the {a} sees the {b}.\n" for a in ("cat", "dog", "hen") for b in "abcdefghij")
SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "batch_size": 4,
    "sequence_length": 16,
    "steps": 4,
    "log_every": 2,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_finished_run_is_held_against_an_n_gram_of_the_same_two_parts(
    corpus: Path, tmp_path: Path
) -> None:
    result = train(corpus, out=tmp_path / "run", **SMALL)
    boundary = checkpoint.load(tmp_path / "run").header.corpus["boundary"]
    # Which number a character has changes nothing in an n-gram.
    ids = np.array([ord(character) for character in TEXT])
    _, ids = np.unique(ids, return_inverse=True)
    vocabulary_size = round(math.exp(result.uniform_loss))
    expected = kneser_ney_loss(ids[:boundary], ids[boundary:], 6, vocabulary_size)
    assert result.ngram is not None
    assert result.ngram.loss == pytest.approx(expected, abs=1e-12)
    assert (result.ngram.order, result.ngram.train_tokens) == (6, boundary)
    assert result.ngram.valid_tokens == len(TEXT) - boundary


def test_who_stops_a_run_does_not_wait_for_an_n_gram(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, out=tmp_path / "run", stop=lambda: 2, **SMALL).ngram is None


def test_memory_is_told_while_it_learns_and_kept_out_of_the_metrics(
    corpus: Path, tmp_path: Path
) -> None:
    events: list[TrainingEvent] = []
    result = train(corpus, out=tmp_path / "run", on_event=events.append, **SMALL)
    told = [event.memory_bytes for event in events if isinstance(event, TrainingStep)]
    now, peak = resident_bytes(), peak_resident_bytes()
    if now is None or peak is None:
        pytest.skip("this system does not tell what memory a process has")
    most = 1.02 * peak  # the system's two counts differ by some pages
    assert all(bytes and now / 2 < bytes <= most for bytes in told)
    assert result.peak_memory_bytes is not None
    assert now / 2 < result.peak_memory_bytes <= most
    for line in (tmp_path / "run" / checkpoint.METRICS).read_text(encoding="utf-8").splitlines():
        assert "memory_bytes" not in json.loads(line)


def test_memory_grows_by_what_is_taken() -> None:
    before = resident_bytes()
    if before is None:
        pytest.skip("this system does not tell what memory a process has")
    taken = np.ones(80_000_000, np.uint8)  # so much that it is no memory that was had before
    after = resident_bytes()
    assert after is not None
    assert 75_000_000 < after - before < 90_000_000, len(taken)
