"""A run of training as a whole: what it leaves, how it stops and how it goes on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, checkpoint, storage, train
from textgen.errors import DataError, DivergedError, ResourceError, TextgenError, UsageError
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStep,
    TrainingWarning,
    Validation,
)
from textgen.training.state import GradientState

TEXT = "".join(
    f"the {animal} {verb} the {thing}.\n"
    for animal in ("cat", "dog", "cow", "hen", "fox")
    for verb in ("sees", "likes", "finds", "hides")
    for thing in ("ball", "door", "garden", "river", "house")
)
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "embedding_size": 8,
    "batch_size": 4,
    "sequence_length": 16,
    "dropout": 0.2,
    "log_every": 3,
    "device": "cpu",
    "threads": 1,
}
UNTIMED = ("event", "step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens_seen")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def stop_at(step: int) -> Callable[[], int | None]:
    """A ``stop`` that gives a signal at its ``step``-th poll."""
    polls = iter(range(1, 10**9))
    return lambda: 2 if next(polls) >= step else None


def untimed_log(out: Path) -> list[dict[str, Any]]:
    lines = (out / checkpoint.METRICS).read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name in UNTIMED}
        for line in lines
    ]


def weights_and_state(out: Path) -> dict[str, bytes]:
    last = out / checkpoint.LAST
    values = storage.read_json(last / "state.json")
    progress = {k: v for k, v in values["progress"].items() if "seconds" not in k}
    untimed = {name: values[name] for name in ("streams", "scaler", "losses_since_best")}
    return {
        "model": (last / "model.safetensors").read_bytes(),
        "state": (last / "state.safetensors").read_bytes(),
        "values": json.dumps(progress | untimed).encode(),
    }


def test_a_run_with_nothing_left_to_gain_ends_and_keeps_its_best(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = "".join(random.choice([*"abcdefgh "], 1500)) + "\n"  # only to be learned by heart
    path = tmp_path / "noise.txt"
    path.write_text(noise, encoding="utf-8")
    options = SMALL | {"hidden_size": 64, "dropout": 0.0, "learning_rate": 0.02}
    events: list[TrainingEvent] = []
    out = tmp_path / "run"
    result = train(path, out=out, steps=600, on_event=events.append, **options)
    assert result.ended_early is not None
    assert result.steps < 600
    assert any(isinstance(event, TrainingWarning) for event in events)
    assert result.validation is not None
    kept = checkpoint.load(out).header.validation
    assert kept is not None
    assert kept.loss == result.validation.loss
    assert f"step {kept.step}" in result.ended_early
    assert checkpoint.load(out / "last").header.step == result.steps


def test_interrupted_and_resumed_is_bit_identical_to_uninterrupted(
    corpus: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    train(corpus, out=whole, steps=24, **SMALL)
    expected, log = weights_and_state(whole), untimed_log(whole)
    for stopped_at in (1, 5, 12, 23):
        out = tmp_path / f"stopped {stopped_at}"
        result = train(corpus, out=out, steps=24, stop=stop_at(stopped_at), **SMALL)
        assert result.interrupted == 2
        assert result.steps == stopped_at
        finished = train(out=out, resume=True)
        assert finished.interrupted is None
        assert weights_and_state(out) == expected
        assert untimed_log(out) == log


def test_same_seed_same_bytes_and_another_seed_others(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(corpus, out=tmp_path / name, steps=6, seed=seed, **SMALL)
    assert weights_and_state(tmp_path / "a") == weights_and_state(tmp_path / "b")
    assert weights_and_state(tmp_path / "a") != weights_and_state(tmp_path / "c")


def test_watching_does_not_change_the_weights(corpus: Path, tmp_path: Path) -> None:
    quiet, busy = tmp_path / "quiet", tmp_path / "busy"
    train(corpus, out=quiet, steps=12, **SMALL)
    events: list[TrainingEvent] = []
    train(
        corpus,
        out=busy,
        steps=12,
        valid_every=2,
        save_every=1e-6,
        sample_every=0.0,
        on_event=events.append,
        **(SMALL | {"log_every": 1}),
    )
    assert any(isinstance(event, TrainingSample) for event in events)
    one, other = weights_and_state(quiet), weights_and_state(busy)
    assert one["model"] == other["model"]
    assert one["state"] == other["state"]


def test_document_score_of_the_validation_part_is_the_validation_loss(
    corpus: Path, tmp_path: Path
) -> None:
    result = train(corpus, out=tmp_path / "run", steps=20, **SMALL)
    assert result.validation is not None
    boundary = checkpoint.load(tmp_path / "run").header.corpus.train.characters
    held_out = TEXT[boundary:].removesuffix("\n").split("\n")
    scores = LanguageModel.load(tmp_path / "run").score(held_out, context="document")
    tokens = sum(score.tokens for score in scores)
    assert tokens == result.validation.tokens
    loss = -sum(score.log_prob for score in scores) / tokens
    assert loss == pytest.approx(result.validation.loss, abs=1e-6)


def test_a_tiny_corpus_is_learned_by_heart(tmp_path: Path) -> None:
    corpus, other = tmp_path / "corpus.txt", tmp_path / "valid.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog\n" * 8, encoding="utf-8")
    other.write_text("the quick brown fox jumps over the lazy dog\n", encoding="utf-8")
    options = SMALL | {"dropout": 0.0, "hidden_size": 48, "learning_rate": 0.02}
    result = train(corpus, valid=other, out=tmp_path / "run", steps=250, **options)
    assert result.validation is not None
    assert result.validation.loss < 0.05
    sample = LanguageModel.load(tmp_path / "run").sample(temperature=0, sentences=1)[0]
    assert sample.text == "the quick brown fox jumps over the lazy dog"


def test_every_validation_comes_at_least_each_tenth_of_the_steps(
    corpus: Path, tmp_path: Path
) -> None:
    events: list[TrainingEvent] = []
    train(corpus, out=tmp_path / "run", steps=37, on_event=events.append, **SMALL)
    steps = [event.step for event in events if isinstance(event, Validation)]
    assert steps[-1] == 37
    assert max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= 4


def test_a_budget_is_kept_and_the_rate_ends_at_zero(corpus: Path, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    result = train(corpus, out=tmp_path / "run", budget="1.5s", on_event=events.append, **SMALL)
    assert result.seconds < 1.5 * 1.3
    rates = [event.learning_rate for event in events if isinstance(event, TrainingStep)]
    assert rates[-1] < 0.1 * max(rates)


def test_resume_with_a_longer_total_goes_on(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=5, **SMALL)
    assert train(out=out, resume=True, steps=9).steps == 9
    assert train(out=out, resume=True, steps=9).steps == 9


def test_resume_refuses_what_contradicts_the_run(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=3, **SMALL)
    for contradiction in ({"hidden_size": 32}, {"level": "word"}, {"dropout": 0.5}):
        with pytest.raises(UsageError, match="contradicts"):
            train(out=out, resume=True, **contradiction)
    train(out=out, resume=True, **{name: SMALL[name] for name in ("hidden_size", "dropout")})


def test_resume_refuses_a_changed_corpus_unless_told(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=3, **SMALL)
    corpus.write_text(TEXT.replace("cat", "act"), encoding="utf-8")
    with pytest.raises(DataError, match="changed"):
        train(out=out, resume=True, steps=6)
    assert train(out=out, resume=True, steps=6, accept_changed_corpus=True).steps == 6


@pytest.mark.parametrize("kind", [{"model": "ngram"}, {"model": "lstm+ngram", "steps": 3, **SMALL}])
def test_n_grams_of_a_changed_corpus_are_its_own(
    kind: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, order=2, baseline=False, **kind)
    corpus.write_text(TEXT.replace("cat", "act"), encoding="utf-8")
    more = {"steps": 6} if "steps" in kind else {}
    train(out=out, resume=True, accept_changed_corpus=True, baseline=False, **more)
    trained = LanguageModel.load(out / "last")
    a, c = (trained.tokenizer.symbols.index(letter) + 2 for letter in "ac")
    ngrams = getattr(trained.model, "ngrams", trained.model)
    seen = ngrams.tables.probabilities(torch.tensor([[c]]), torch.tensor([a]))
    assert float(seen) < 0.3, "a follows c in the old text alone"


def test_a_folder_that_is_not_empty_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes"
    out.mkdir()
    (out / "poem.txt").write_text("mine")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(UsageError):
            train(corpus, out=out, steps=1, **options, **SMALL)
    assert [path.name for path in out.iterdir()] == ["poem.txt"]


def test_overwrite_keeps_the_old_run_until_the_first_save(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=3, **SMALL)
    before = weights_and_state(out)
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(DataError):
        train(empty, out=out, steps=3, overwrite=True, **SMALL)
    assert weights_and_state(out) == before
    train(corpus, out=out, steps=4, overwrite=True, **SMALL)
    assert checkpoint.load(out / "last").header.step == 4
    assert next(line["step"] for line in untimed_log(out)) <= 1


def test_nothing_is_created_where_the_input_is_bad(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    bad: list[tuple[dict[str, Any], type[TextgenError]]] = [
        ({"learning_rate": float("nan")}, UsageError),
        ({"dropout": 1.0}, UsageError),
        ({"hidden_size": 10**9}, UsageError),
        ({"model": "transformer"}, UsageError),
        ({"steps": 1, "epochs": 1}, UsageError),
        ({"tie": True, "embedding_size": 3}, UsageError),
        ({"no_such_option": 1}, UsageError),
        ({"resume": True}, ResourceError),
    ]
    if not torch.cuda.is_available():
        bad.append(({"device": "cuda"}, ResourceError))
    for options, error in bad:
        with pytest.raises(error):
            train(corpus, out=out, **(SMALL | options))
        assert not out.exists()


def test_a_loss_that_is_not_finite_goes_back_and_then_gives_up(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = GradientState.update

    def poisoned(self: GradientState, learning_rate: float) -> None:
        update(self, learning_rate)
        if self.step > 8:
            self._norm = torch.tensor(float("nan"))

    monkeypatch.setattr(GradientState, "update", poisoned)
    out = tmp_path / "run"
    with pytest.raises(DivergedError, match="diverged"):
        train(corpus, out=out, steps=30, **SMALL)
    assert LanguageModel.load(out).header.step <= 8


def test_a_moment_of_infinity_is_survived_at_a_lower_rate(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, struck = GradientState.update, []

    def poisoned(self: GradientState, learning_rate: float) -> None:
        update(self, learning_rate)
        if self.step == 8 and not struck:
            struck.append(self.step)
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
            self._norm = torch.tensor(float("nan"))

    monkeypatch.setattr(GradientState, "update", poisoned)
    result = train(corpus, out=tmp_path / "run", steps=12, **SMALL)
    assert result.steps == 12
    assert result.last_validation is not None
    assert result.last_validation.loss < 5


def test_short_and_uniform_corpora_train_and_stay_finite(tmp_path: Path) -> None:
    for name, text in (("one symbol", "aaaaaaaaaaaaaaaa"), ("short", "ab\ncd\n"), ("two", "ab")):
        path = tmp_path / f"{name}.txt"
        path.write_text(text, encoding="utf-8")
        result = train(path, out=tmp_path / name, steps=5, **SMALL)
        assert result.last_validation is not None
        assert result.last_validation.loss < 10


def test_a_run_can_read_ids_that_tokenize_wrote(corpus: Path, tmp_path: Path) -> None:
    from textgen.config import TokenizerConfig
    from textgen.data.encoded import tokenize

    tokenize([corpus], TokenizerConfig(), out=tmp_path / "ids")
    from_ids, from_text = tmp_path / "from ids", tmp_path / "from text"
    train(tmp_path / "ids", out=from_ids, steps=4, **SMALL)
    train(corpus, out=from_text, steps=4, **SMALL)
    assert weights_and_state(from_ids)["model"] == weights_and_state(from_text)["model"]
    train(corpus, out=tmp_path / "reused", steps=4, tokenizer=from_text, **SMALL)
    assert weights_and_state(tmp_path / "reused")["model"] == weights_and_state(from_text)["model"]


def test_unknown_has_a_learned_probability_at_the_character_level(
    corpus: Path, tmp_path: Path
) -> None:
    train(corpus, out=tmp_path / "run", steps=150, learning_rate=0.02, **SMALL)
    score = LanguageModel.load(tmp_path / "run").score("the ¿ sees", level="token")
    assert score.unknown == 1
    assert score.parts is not None
    unknown = next(token for token in score.parts if token.unknown)
    assert 5 < unknown.surprisal < 25


def test_a_read_only_folder_is_refused_before_training(corpus: Path, tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        out = Path("/proc/textgen-cannot-write-here")
        if not Path("/proc").is_dir():
            pytest.skip("needs a folder that nobody can write to")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        out = tmp_path / "locked" / "run"
    with pytest.raises(ResourceError, match="cannot write"):
        train(corpus, out=out, steps=1, **SMALL)


def test_a_new_run_cut_off_at_its_first_save_does_not_inherit_the_best_of_the_old(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=60, learning_rate=0.02, **SMALL)
    old = checkpoint.describe(out / "best").validation

    def cut_off(event: TrainingEvent) -> None:
        if isinstance(event, CheckpointSaved):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(corpus, out=out, steps=4, overwrite=True, on_event=cut_off, **SMALL)
    result = train(out=out, resume=True)
    assert result.validation is not None
    assert old is not None
    assert result.validation.loss > old.loss
    assert checkpoint.load(out / "best").header.step <= 4


def test_best_is_of_the_text_that_was_accepted(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=60, learning_rate=0.02, **SMALL)
    corpus.write_text("".join(reversed(TEXT)).lstrip() + "\n", encoding="utf-8")
    result = train(out=out, resume=True, steps=62, accept_changed_corpus=True)
    assert result.validation is not None
    assert result.validation.step > 60
    assert checkpoint.load(out / "best").header.step > 60


def test_resume_refuses_what_it_would_not_heed(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=3, **SMALL)
    for options in ({"valid": "other.txt"}, {"encoding": "utf-16"}, {"steps": 2}):
        with pytest.raises(UsageError):
            train(out=out, resume=True, **options)


def test_tokenized_text_refuses_what_it_would_not_heed(corpus: Path, tmp_path: Path) -> None:
    from textgen.config import TokenizerConfig
    from textgen.data.encoded import tokenize

    tokenize([corpus], TokenizerConfig(level="word", min_count=1), out=tmp_path / "ids")
    for options in ({"level": "char"}, {"valid_fraction": 0.5}, {"encoding": "latin-1"}):
        with pytest.raises(UsageError, match="tokenized"):
            train(tmp_path / "ids", out=tmp_path / "run", steps=1, **options, **SMALL)
    train(tmp_path / "ids", out=tmp_path / "run", steps=1, level="word", **SMALL)


def test_a_text_of_which_nothing_is_known_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no token is known"):
        train(corpus, out=tmp_path / "run", steps=1, min_count=10**6, **SMALL)
    with pytest.raises(UsageError, match="empty path"):
        train("", out=tmp_path / "run", steps=1, **SMALL)
