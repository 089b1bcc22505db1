"""A run of training as a whole: what it leaves, how it stops and how it goes on."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, checkpoint, storage, train
from textgen.config import TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.errors import DataError, ResourceError, TextgenError, UsageError
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
)
from textgen.training.state import GradientState

from .conftest import RUN, SHAPE, TEXT, events_of, of_kind, stop_at, untimed_log, written

SMALL: dict[str, Any] = {**RUN, **SHAPE, "dropout": 0.2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps on TEXT, which no test may change."""
    folder = tmp_path_factory.mktemp("trained")
    train(written(folder / "corpus.txt", TEXT), out=folder / "run", steps=24, **SMALL)
    return folder / "run"


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
    path = written(tmp_path / "noise.txt", noise)
    options = SMALL | {"hidden_size": 64, "dropout": 0.0, "learning_rate": 0.02}
    out = tmp_path / "run"
    events: list[TrainingEvent] = []
    result = train(path, out=out, steps=600, on_event=events.append, **options)
    assert of_kind(TrainingWarning, events)
    assert result.ended_early is not None
    assert result.steps < 600
    assert result.validation is not None
    kept = checkpoint.load(out).header.validation
    assert kept is not None
    assert kept.loss == result.validation.loss
    assert f"step {kept.step}" in result.ended_early
    assert checkpoint.load(out / "last").header.step == result.steps


@pytest.mark.parametrize("step", [1, 5, 12, 23])
def test_interrupted_and_resumed_is_bit_identical_to_uninterrupted(
    run: Path, corpus: Path, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "stopped"
    result = train(corpus, out=out, steps=24, stop=stop_at(step), **SMALL)
    assert (result.interrupted, result.steps) == (2, step)
    assert train(out=out, resume=True).interrupted is None
    assert weights_and_state(out) == weights_and_state(run)
    assert untimed_log(out) == untimed_log(run)


@pytest.mark.parametrize("sent", [True, False], ids=["by a signal", "by a callback"])
def test_ctrl_c_in_python_saves_what_was_learned_and_is_then_raised(
    run: Path, corpus: Path, tmp_path: Path, sent: bool
) -> None:
    out = tmp_path / "stopped"

    def interrupt(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStep) and event.step == 6:
            if sent:
                signal.raise_signal(signal.SIGINT)
            else:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(corpus, out=out, steps=24, on_event=interrupt, **SMALL)
    assert checkpoint.load(out / "last").header.step == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(out=out, resume=True)
    assert weights_and_state(out) == weights_and_state(run)


def test_another_seed_gives_other_weights(run: Path, corpus: Path, tmp_path: Path) -> None:
    train(corpus, out=tmp_path / "run", steps=24, seed=4, **SMALL)
    assert weights_and_state(tmp_path / "run")["model"] != weights_and_state(run)["model"]


def test_watching_does_not_change_the_weights(run: Path, corpus: Path, tmp_path: Path) -> None:
    often = {"valid_every": 2, "save_every": 1e-6, "sample_every": 0.0, "log_every": 1}
    events = events_of(corpus, out=tmp_path / "busy", steps=24, **SMALL | often)
    assert of_kind(TrainingSample, events)
    one, other = weights_and_state(run), weights_and_state(tmp_path / "busy")
    assert one["model"] == other["model"]
    assert one["state"] == other["state"]


def test_document_score_of_the_validation_part_is_the_validation_loss(run: Path) -> None:
    model = LanguageModel.load(run)
    found = model.header.validation
    assert found is not None
    held_out = TEXT[model.header.corpus.train.characters :].removesuffix("\n").split("\n")
    scores = model.score(held_out, context="document")
    tokens = sum(score.tokens for score in scores)
    assert tokens == found.tokens
    loss = -sum(score.log_prob for score in scores) / tokens
    assert loss == pytest.approx(found.loss, abs=1e-6)


def test_a_tiny_corpus_is_learned_by_heart(tmp_path: Path) -> None:
    sentence = "the quick brown fox jumps over the lazy dog"
    corpus = written(tmp_path / "corpus.txt", f"{sentence}\n" * 8)
    other = written(tmp_path / "valid.txt", f"{sentence}\n")
    options = SMALL | {"dropout": 0.0, "hidden_size": 48, "learning_rate": 0.02}
    result = train(corpus, valid=other, out=tmp_path / "run", steps=200, **options)
    assert result.validation is not None
    assert result.validation.loss < 0.05
    sample = LanguageModel.load(tmp_path / "run").sample(temperature=0, sentences=1)[0]
    assert sample.text == sentence


def test_resume_with_a_longer_total_goes_on_and_accepts_options_that_agree(
    run: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    agreeing = {name: SMALL[name] for name in ("hidden_size", "dropout")}
    assert train(out=out, resume=True, steps=26, **agreeing).steps == 26
    assert train(out=out, resume=True, steps=26).steps == 26


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"hidden_size": 32}, r"--hidden-size 32 contradicts .* started with 16;"),
        ({"level": "word"}, "contradicts"),
        ({"tie": True}, r"--tie contradicts .* started with --no-tie;"),
        ({"dropout": 0.5}, "contradicts"),
        ({"valid": "other.txt"}, "--valid"),
        ({"encoding": "utf-16"}, "--encoding"),
        ({"valid_split": "tail"}, "contradicts"),
        ({"steps": 2}, "--steps"),
    ],
)
def test_resume_refuses_what_contradicts_the_run_or_comes_too_late(
    run: Path, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        train(out=run, resume=True, **options)


def test_resume_refuses_a_changed_corpus_unless_told(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out=out, steps=3, **SMALL)
    corpus.write_text(TEXT.replace("cat", "act"), encoding="utf-8")
    with pytest.raises(DataError, match="changed"):
        train(out=out, resume=True, steps=6)
    assert train(out=out, resume=True, steps=6, accept_changed_corpus=True).steps == 6


def test_a_text_that_has_moved_is_named_again(tmp_path: Path) -> None:
    old, out = tmp_path / "old", tmp_path / "run"
    old.mkdir()
    for name in ("a.txt", "b.txt", "valid.txt"):
        (old / name).write_text(TEXT + "café\n", encoding="latin-1")
    texts = (old / "a.txt", old / "b.txt")
    train(*texts, valid=old / "valid.txt", out=out, steps=3, encoding="latin-1", **SMALL)
    new = old.rename(tmp_path / "new")
    with pytest.raises(ResourceError, match=r"a\.txt.*train CORPUS --valid FILE --out .*--resume"):
        train(out=out, resume=True, steps=6)
    texts = (new / "a.txt", new / "b.txt")
    again = {"valid": new / "valid.txt", "out": out, "resume": True}
    assert train(*texts, **again, steps=6).steps == 6
    header = checkpoint.read_header(out / "last" / "config.json")
    assert (header.source.encoding, header.source.corpora[0]) == ("latin-1", str(texts[0]))


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


def test_overwrite_keeps_the_old_run_until_the_first_save(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    before = weights_and_state(out)
    empty = written(tmp_path / "empty.txt", "")
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


def test_a_moment_of_infinity_is_survived_at_a_lower_rate(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, struck = GradientState.update, []

    def poisoned(self: GradientState, learning_rate: float) -> None:
        update(self, learning_rate)
        if self.progress.step == 8 and not struck:
            struck.append(self.progress.step)
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
        path = written(tmp_path / f"{name}.txt", text)
        result = train(path, out=tmp_path / name, steps=5, **SMALL)
        assert result.last_validation is not None
        assert result.last_validation.loss < 10


def test_ids_that_tokenize_wrote_or_a_run_s_tokenizer_give_the_same_weights(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    from_ids, reused = tmp_path / "from ids", tmp_path / "reused"
    tokenize([corpus], TokenizerConfig(), out=tmp_path / "ids")
    train(tmp_path / "ids", out=from_ids, steps=24, **SMALL)
    train(corpus, out=reused, steps=24, tokenizer=run, **SMALL)
    for out in (from_ids, reused):
        assert weights_and_state(out)["model"] == weights_and_state(run)["model"]


def test_unknown_has_a_learned_probability_at_the_character_level(
    corpus: Path, tmp_path: Path
) -> None:
    train(corpus, out=tmp_path / "run", steps=100, learning_rate=0.02, **SMALL)
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
    train(corpus, out=out, steps=40, learning_rate=0.02, **SMALL)
    old = checkpoint.describe(out / "best").header.validation

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
    train(corpus, out=out, steps=40, learning_rate=0.02, **SMALL)
    corpus.write_text("".join(reversed(TEXT)).lstrip() + "\n", encoding="utf-8")
    result = train(out=out, resume=True, steps=42, accept_changed_corpus=True)
    assert result.validation is not None
    assert result.validation.step > 40
    assert checkpoint.load(out / "best").header.step > 40


def test_tokenized_text_refuses_options_that_come_too_late(corpus: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model": "ngram"}, "--hidden-size is no option of --model ngram"),
        ({"tie": True}, "--tie needs --embedding-size 200"),
        ({"tokenizer": "x"}, "--tokenizer and --level cannot both be given"),
        ({"init_from": "RUN"}, "--embedding-size 200 contradicts --init-from"),
        ({"out": "RUN", "resume": True}, "contradicts the run to be resumed"),
    ],
)
def test_an_error_about_an_option_that_the_preset_gave_names_the_preset(
    run: Path, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    path = written(tmp_path / "corpus.txt", TEXT)
    given = {name: str(run) if value == "RUN" else value for name, value in options.items()}
    with pytest.raises(UsageError, match="--preset textbook cannot be used here") as raised:
        train(path, preset="textbook", **{"out": tmp_path / "out", **given})
    assert why in str(raised.value) or "--level word contradicts" in str(raised.value)
    assert "leave --preset out" in str(raised.value)
    with pytest.raises(UsageError) as raised:  # an option that was typed
        train(path, out=tmp_path / "out", preset="textbook", clip=-1)
    assert "--preset" not in str(raised.value)


@pytest.mark.parametrize("model", ["ngram", "lstm+ngram"])
def test_the_parameters_are_said_once_the_n_grams_are_counted(tmp_path: Path, model: str) -> None:
    events: list[TrainingEvent] = []
    path = written(tmp_path / "corpus.txt", TEXT)
    options = {} if model == "ngram" else {**RUN, "steps": 2, "hidden_size": 4}
    made = train(path, out=tmp_path / "run", model=model, on_event=events.append, **options)
    (start,) = of_kind(TrainingStart, events)
    assert start.parameters is None
    assert made.parameters == checkpoint.load(tmp_path / "run").header.parameters


def test_the_folder_of_a_run_is_no_text(run: Path, tmp_path: Path) -> None:
    for folder in (run, run / "best"):
        with pytest.raises(UsageError, match=r"a checkpoint is not a text.*--init-from"):
            train(folder, out=tmp_path / "out", steps=1)
    assert not (tmp_path / "out").exists()
