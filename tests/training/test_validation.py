"""The loss on held-out text, and the n-grams that a finished run is compared with."""

import json
import math
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from textgen import checkpoint, train
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.process_memory import peak_resident_bytes, resident_bytes
from textgen.results import TrainingEvent, TrainingStep
from textgen.tokenizers.base import EOS, UNK
from textgen.training import trainer as validation_module
from textgen.training.trainer import ngram_baseline, validate

from .conftest import RUN, TEXT, of_kind

SMALL: dict[str, Any] = {**RUN, "hidden_size": 8, "steps": 4, "log_every": 2}


def test_the_validation_loss_is_the_mean_over_every_token_once(
    model: Model, random_ids: Callable[..., npt.NDArray[np.uint16]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = random_ids(3000)
    log_probs = Document(model, first=EOS).read(ids)
    validation = validate(model, ids, characters=3100, step=7, seconds=1.5)
    assert validation.loss == pytest.approx(-log_probs.mean(), abs=1e-9)
    assert (validation.tokens, validation.characters, validation.step) == (3000, 3100, 7)
    assert validation.unknown == np.count_nonzero(ids == UNK) > 0
    monkeypatch.setattr(validation_module, "_BLOCK_TOKENS", 700)
    assert validate(model, ids, characters=3100).loss == pytest.approx(validation.loss, abs=1e-6)


def test_a_finished_run_is_held_against_an_n_gram_of_the_same_two_parts(
    corpus: Path, tmp_path: Path
) -> None:
    result = train(corpus, out=tmp_path / "run", **SMALL)
    boundary = checkpoint.load(tmp_path / "run").header.corpus.train.characters
    # Which number a character has changes nothing in an n-gram, but for the newline's.
    _, ids = np.unique(list(TEXT), return_inverse=True)
    ids = ids + EOS
    vocabulary_size = round(math.exp(result.uniform_loss))
    expected = ngram_baseline(ids[:boundary], ids[boundary:], "char", vocabulary_size)
    assert result.ngram is not None
    assert result.ngram.loss == pytest.approx(expected.loss, abs=1e-6)
    assert (result.ngram.order, result.ngram.train_tokens) == (6, boundary)
    assert result.ngram.valid_tokens == len(TEXT) - boundary


def test_only_the_end_of_the_training_part_and_the_beginning_of_the_other_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validation_module, "TRAIN_TOKENS", 50)
    monkeypatch.setattr(validation_module, "VALID_TOKENS", 20)
    drawn = np.random.default_rng(2).integers(2, 5, 200)
    whole = ngram_baseline(drawn[:100], drawn[100:], "word", 5)
    assert (whole.order, whole.train_tokens, whole.valid_tokens) == (3, 50, 20)
    assert whole == ngram_baseline(drawn[50:100], drawn[100:120], "word", 5)
    assert whole != ngram_baseline(drawn[49:99], drawn[100:120], "word", 5)


def test_the_n_grams_of_a_text_of_three_tokens_are_no_longer_than_it() -> None:
    found = ngram_baseline(np.array([2, 3, 1]), np.array([2]), "char", 4)
    assert found.order == 3
    # Each of three was seen once, and a half of that is kept: 1/6 and a fourth of 1/2; it came
    # once after <EOS>, of which a half is kept too.
    assert found.loss == pytest.approx(-math.log(1 / 2 + 1 / 2 * (1 / 6 + 1 / 8)))


def test_real_text_is_predicted_as_well_as_the_literature_s_model_does(corpora: Path) -> None:
    text = (corpora / "tinyshakespeare.txt").read_text(encoding="utf-8")
    symbols = {symbol: id for id, symbol in enumerate(sorted(set(text)), start=EOS)}
    ids = np.array([symbols[symbol] for symbol in text], np.uint16)
    boundary = int(0.9 * len(ids))
    found = ngram_baseline(ids[:boundary], ids[boundary:], "char", len(symbols) + 1)
    assert 1.51 < found.loss < 1.55  # 1.543 by another estimate of the discounts


def test_who_stops_a_run_does_not_wait_for_an_n_gram(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, out=tmp_path / "run", stop=lambda: 2, **SMALL).ngram is None


def test_memory_is_told_while_it_learns_and_kept_out_of_the_metrics(
    corpus: Path, tmp_path: Path
) -> None:
    events: list[TrainingEvent] = []
    result = train(corpus, out=tmp_path / "run", on_event=events.append, **SMALL)
    told = [event.memory_bytes for event in of_kind(TrainingStep, events)]
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
    with mmap.mmap(-1, 80_000_000) as taken:  # which is no memory that was had before
        np.frombuffer(taken, np.uint8)[:] = 1
        after = resident_bytes()
    assert after is not None
    assert 75_000_000 < after - before < 90_000_000


def test_the_gain_of_a_mixture_is_that_of_the_best_weight_of_nine(
    model: Model, random_ids: Callable[..., npt.NDArray[Any]]
) -> None:
    ids = random_ids(400)
    ids[1::2] = ids[::2]  # which n-grams see and a model with drawn weights does not
    alone, mixed = (ngram_baseline(ids[:300], ids[300:], "char", 11, m) for m in (None, model))
    assert alone.mixture_gain is None
    assert mixed.loss == alone.loss
    assert mixed.mixture_gain is not None
    own = -Document(model, first=EOS).read(ids[300:]).mean()
    assert own - mixed.mixture_gain < min(own, alone.loss)


def test_the_text_of_a_run_is_named_for_another(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = train(corpus, out=out, valid_fraction=0.2, **SMALL)
    named = ("--tokenizer", str(out), "--valid-fraction", "0.2")
    assert result.same_text == (str(corpus), *named)
    assert result.model == "lstm"
    assert result.ngram is not None
    assert result.ngram.mixture_gain is not None
