"""What is chosen where the user gave no option, and the plan that shows it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen import checkpoint, plan, train
from textgen.config import KINDS, LSTMConfig, ModelConfig, TrainingConfig
from textgen.errors import UsageError
from textgen.models import build, on_meta
from textgen.results import Plan
from textgen.training import autotune
from textgen.training.autotune import (
    TaskSize,
    TunedOptions,
    choose,
    choose_on_gpu,
    flop_per_token,
)
from textgen.training.prepare import make_state

MILLION = 10**6
computes = st.floats(1e8, 1e20)
texts = st.integers(100, 10**10)


def chosen(
    train_tokens: int = MILLION,
    compute: float | None = None,
    options: dict[str, object] | None = None,
    **length: object,
) -> TunedOptions:
    options = options or {}
    of_model = {"hidden_size", "ngram_embeddings"}
    training = {k: v for k, v in options.items() if k not in of_model} | length
    model = {k: v for k, v in options.items() if k in of_model}
    return choose(
        ModelConfig.from_options(model),
        TrainingConfig.from_options(training),
        options.keys(),
        TaskSize(66, train_tokens, compute),
    )


def test_the_cost_of_a_token_is_six_operations_a_weight() -> None:
    model = LSTMConfig(hidden_size=(512,), embedding_size=128).resolved(66)
    assert flop_per_token(model) == 6 * (4 * 512 * (128 + 512) + 512 * 66)


def test_what_is_looked_up_costs_nothing() -> None:
    sizes = {"window": 5, "hidden_size": (30, 20), "embedding_size": 8}
    window, bag = (
        ModelConfig.from_options({"model": name, **sizes}).resolved(66)
        for name in ("feedforward", "bag-of-words")
    )
    assert flop_per_token(window) == 6 * (5 * 8 * 30 + 30 * 20 + 20 * 66)
    assert flop_per_token(bag) == 6 * (8 * 30 + 30 * 20 + 20 * 66)
    hmm = ModelConfig.from_options({"model": "hmm", "states": 9}).resolved(66)
    assert flop_per_token(hmm) == 6 * 9 * 9


@given(texts, computes)
def test_more_time_is_never_a_narrower_model(train_tokens: int, compute: float) -> None:
    less = chosen(train_tokens, compute, budget=1.0)
    more = chosen(train_tokens, 3 * compute, budget=3.0)
    assert more.model.hidden_size >= less.model.hidden_size


@given(texts, computes)
def test_what_was_given_is_kept(train_tokens: int, compute: float) -> None:
    choice = chosen(train_tokens, compute, {"hidden_size": (33,), "dropout": 0.07}, budget=1.0)
    assert choice.model.hidden_size == (33,)
    assert choice.training.dropout == 0.07
    assert choice.reasons["dropout"] == choice.reasons["hidden_size"] == "as given"


def test_a_tied_width_that_was_given_is_kept() -> None:
    options = {"tie": True, "embedding_size": 96}
    model, training = ModelConfig.from_options(options), TrainingConfig(budget=1.0)
    choice = choose(model, training, options.keys(), TaskSize(66, MILLION, 1e15))
    assert choice.model.hidden_size == (96,)
    assert choice.reasons["hidden_size"] == "equal to the tied embedding"


def test_the_more_often_a_text_is_read_the_more_is_silenced() -> None:
    rates = [chosen(epochs=epochs).training.dropout for epochs in (1, 4, 12, 40, 10_000)]
    assert rates == sorted(rates)
    assert rates[0] == 0
    assert 0.05 < rates[1] < 0.15
    assert rates[-1] == 0.5


def test_the_longer_a_run_the_lower_its_rate_within_bounds() -> None:
    rates = [chosen(steps=steps).training.learning_rate for steps in (10, 1_700, 5_000, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == rates[1] == 0.0065
    assert 0.004 < rates[2] < 0.005
    assert rates[-1] == 0.0026


def test_layers_that_are_handed_short_contexts_learn_at_a_lower_rate() -> None:
    plain = chosen(options={"ngram_embeddings": 0}, steps=5_000).training.learning_rate
    assert chosen(steps=5_000).training.learning_rate == pytest.approx(0.65 * plain, abs=1e-4)


@pytest.mark.parametrize("length", [{"steps": 100}, {"epochs": 3}])
def test_without_a_budget_nothing_follows_from_the_speed(length: dict[str, int]) -> None:
    assert chosen(**length).model == LSTMConfig().resolved(66)


@given(texts, computes)
def test_the_tokens_are_those_that_the_compute_buys(train_tokens: int, compute: float) -> None:
    choice = chosen(train_tokens, compute, budget=1.0)
    assert math.isclose(choice.tokens * flop_per_token(choice.model), compute)
    assert f"{choice.training.dropout}" and 0 <= choice.training.dropout <= 0.5


def test_every_option_shown_has_a_reason() -> None:
    reasons = chosen(budget=1.0, compute=1e12).reasons
    assert {"hidden_size", "batch_size", "learning_rate", "dropout", "weight_decay"} <= set(reasons)
    assert all(reasons.values())


# Plans


SMALL = {"hidden_size": (16,), "batch_size": 4, "sequence_length": 16, "threads": 1}


def test_a_plan_is_what_the_run_is(corpus: Path, tmp_path: Path) -> None:
    planned = plan(corpus, steps=40, **SMALL)
    assert [Path(each.source).name for each in planned.held_out] == ["corpus.txt"]
    assert planned.notes[0].startswith("held out for validation: corpus.txt from line 92 (")
    result = train(corpus, out=tmp_path / "run", steps=40, **SMALL)
    assert planned.parameters == result.parameters
    assert planned.tokens == result.tokens_seen
    header = checkpoint.describe(tmp_path / "run" / "last").header
    made = header.model.to_json() | header.training.to_json()
    for option in planned.options:
        if option.name != "precision":  # which a run leaves at auto
            value = list(option.value) if isinstance(option.value, tuple) else option.value
            assert made[option.name] == value, option.name
    state = (tmp_path / "run" / "last" / "state.safetensors").stat().st_size
    weights = (tmp_path / "run" / "last" / "model.safetensors").stat().st_size
    # weights; gradients, which are sparse where weights are looked up; and the moments, which are
    # most of the state's file
    looked_up = 4 * sum(each.numel() for each in on_meta(header.model).lookup_tables(sampled=False))
    assert looked_up
    assert planned.state_bytes == pytest.approx(2 * weights - looked_up + state, rel=0.2)


def test_the_memory_planned_is_that_of_weights_gradients_and_moments() -> None:
    for ngrams, candidates in ((0, 0), (3, 0), (3, 9)):
        shape = LSTMConfig(hidden_size=(12, 8), ngram_embeddings=ngrams).resolved(20)
        model = build(shape)
        training = TrainingConfig.from_options({"steps": 1, "candidates": candidates})
        state = make_state(model, np.arange(5000, dtype=np.uint16) % 20, training)
        state.update(1e-3)
        held = list(model.parameters())
        tables = {id(each) for each in model.lookup_tables(sampled=candidates > 0)}
        held += [p for p in model.parameters() if id(p) not in tables]  # the gradient
        slots = state.snapshot().tensors.items()
        held += [each for name, each in slots if name.endswith(("exp_avg", "exp_avg_sq"))]
        assert autotune.state_bytes(shape, candidates) == sum(each.nbytes for each in held)


def test_with_a_large_vocabulary_the_softmax_is_over_candidates(tmp_path: Path) -> None:
    words = [f"w{index}" for index in np.random.default_rng(1).integers(0, 9000, 20_000)]
    text = tmp_path / "words.txt"
    text.write_text(" ".join(words))
    large = plan(text, level="word", steps=5, hidden_size=8)
    small = plan(text, level="word", vocab_size=900, steps=5, hidden_size=8)
    given = plan(text, level="word", steps=5, hidden_size=8, candidates=0)
    assert [option_of(each, "candidates") for each in (large, small, given)] == [1024, 0, 0]
    assert large.state_bytes < given.state_bytes


def option_of(planned: Plan, name: str) -> object:
    return next(option.value for option in planned.options if option.name == name)


def test_n_gram_embeddings_are_dropped_in_runs_that_read_the_text_again() -> None:
    rates = [chosen(MILLION, epochs=each).training.ngram_dropout for each in (1, 2, 3, 8, 1000)]
    assert rates == sorted(rates)
    assert rates[0] == 0 and rates[2] == pytest.approx(0.2) and rates[-1] == 0.7
    assert chosen(MILLION, steps=100).training.ngram_dropout == 0
    assert chosen(MILLION, epochs=9, options={"dropout": 0.0}).training.ngram_dropout == 0


def test_a_short_text_has_small_tables_of_n_grams(tmp_path: Path) -> None:
    def rows(characters: int, **options: object) -> int:
        text = tmp_path / "text.txt"
        text.write_text("ab cd\n" * (characters // 6))
        train(text, out=tmp_path / "run", overwrite=True, steps=1, **(SMALL | options))
        model = checkpoint.describe(tmp_path / "run" / "last").header.model
        assert isinstance(model, LSTMConfig)
        return model.ngram_rows

    assert [rows(900), rows(20_000), rows(600_000)] == [64, 1024, 2**14]
    assert rows(900, ngram_rows=100) == 100


def test_candidates_cost_as_much_as_so_many_tokens() -> None:
    shape = LSTMConfig(hidden_size=(12,), ngram_embeddings=0).resolved(5000)
    layer = 4 * 12 * (12 + 12)
    assert flop_per_token(shape) == 6 * (layer + 12 * 5000)
    assert flop_per_token(shape, candidates=300) == 6 * (layer + 12 * 300)
    assert flop_per_token(shape, candidates=6000) == flop_per_token(shape)


def test_a_plan_tells_the_options_that_the_model_has(corpus: Path) -> None:
    planned = plan(corpus, steps=1, model="hmm", states=6)
    options = {option.name: option.value for option in planned.options}
    assert options["states"] == 6 and "hidden_size" not in options


def test_planning_writes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autotune, "tokens_per_second", lambda *_: 1e5)
    before = sorted(tmp_path.rglob("*"))
    plan(corpus, budget=60.0)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_budget_is_planned_by_the_speed_measured(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {1e2: (128,), 1e9: (512,)}
    for speed, width in speeds.items():
        monkeypatch.setattr(autotune, "tokens_per_second", lambda *_, speed=speed: speed)
        found = plan(corpus, budget=100.0)
        values = {option.name: option.value for option in found.options}
        assert values["hidden_size"] == width
        assert found.tokens_per_second == pytest.approx(speed)
        assert found.tokens == pytest.approx(100 * speed)


def test_a_model_too_large_for_memory_is_refused_before_it_is_timed(corpus: Path) -> None:
    with pytest.raises(UsageError, match="too large"):
        plan(corpus, budget=60.0, hidden_size=10**9)


def test_a_resumed_run_keeps_what_was_chosen(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(autotune, "tokens_per_second", lambda *_: 1e5)
    train(corpus, out=out, budget=0.5, **SMALL)
    first = checkpoint.describe(out / "last").header
    monkeypatch.setattr(autotune, "tokens_per_second", lambda *_: 1e9)
    train(out=out, resume=True, budget=0.8)
    second = checkpoint.describe(out / "last").header
    assert second.model == first.model
    assert second.training == replace(first.training, budget=0.8)


def test_a_plan_to_go_on_from_a_model_keeps_its_shape(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "tokens_per_second", lambda *_: 1e5)
    train(corpus, out=tmp_path / "run", steps=2, **SMALL)
    planned = plan(corpus, init_from=tmp_path / "run", budget=60.0)
    values = {option.name: option.value for option in planned.options}
    assert values["hidden_size"] == (16,)


def test_a_text_too_small_for_its_model_is_said() -> None:
    """Where the rule would drop out more than was ever tried."""
    (warning,) = chosen(54_000, epochs=40).warnings
    assert "54,000 tokens are too little text for this model: it reads each 40 times" in warning
    assert "--model lstm+ngram or ngram" in warning
    assert chosen(54_000, epochs=1).warnings == ()
    assert chosen(MILLION, epochs=20).warnings == ()
    assert chosen(54_000, epochs=40, options={"hidden_size": 16}).warnings == ()


@pytest.mark.parametrize("model", [name for name, kind in KINDS.items() if not kind.counts])
@pytest.mark.parametrize("length", [{"steps": 100}, {"budget": 60.0}])
def test_the_help_says_of_every_option_that_is_chosen_that_it_is(
    model: str, length: dict[str, object]
) -> None:
    """A default that the help shows as a number is the one that a run takes."""
    kind = KINDS[model]
    config = ModelConfig.from_options({"model": model})
    training = TrainingConfig.from_options({**kind.defaults, **length})
    tuned = choose(config, training, set(), TaskSize(66, MILLION, 1e14))
    for resolved in (tuned.model, tuned.training):
        for name, spec in resolved.fields().items():
            if "help" not in spec.metadata or name in length or name == "model":
                continue
            value, shown = getattr(resolved, name), spec.metadata["shown"]
            if name in kind.defaults:
                (number,) = value if isinstance(value, tuple) else (value,)
                assert shown == number or f"{model} {number:g}" in shown, name
            elif value != spec.default and name not in ("tie", "ngram_embeddings"):
                assert "chosen" in shown, name


def chosen_on_gpu(
    milliseconds: Callable[[int, int], float], given: dict[str, Any] | None = None
) -> TunedOptions:
    """What is chosen on a device where an update takes so long at each width and batch."""
    given = given or {}

    def speed(model: ModelConfig, training: TrainingConfig) -> float:
        (width,) = model.layer_sizes
        if training.batch_size > 1024:
            raise torch.cuda.OutOfMemoryError
        window = training.batch_size * training.sequence_length
        return 1000 * window / milliseconds(width, training.batch_size)

    config = ModelConfig.from_options(given)
    training = TrainingConfig.from_options({"budget": 60.0, **given})
    return choose_on_gpu(config, training, given.keys(), TaskSize(66, 20 * MILLION), speed)


def test_on_a_gpu_the_batch_grows_while_updates_take_hardly_longer() -> None:
    def occupied_from_64(width: int, batch: int) -> float:
        return 1.0 if batch <= 32 else 1.2 if batch == 64 else 2.4

    found = chosen_on_gpu(occupied_from_64)
    assert found.training.batch_size == 64
    alone = chosen_on_gpu(lambda width, batch: 1.0 * batch)
    assert alone.training.batch_size == 16
    # The rate of as many tokens, times the square root of the batch.
    same = choose(found.model, found.training, {"hidden_size"}, TaskSize(66, 20 * MILLION, 1e30))
    assert found.training.learning_rate == pytest.approx(2 * same.training.learning_rate, abs=1e-4)
    assert chosen_on_gpu(occupied_from_64, {"batch_size": 24}).training.batch_size == 24
    assert chosen_on_gpu(occupied_from_64, {"learning_rate": 0.001}).training.learning_rate == 0.001
    assert chosen_on_gpu(lambda *_: 1.0, {"batch_size": 512}).training.batch_size == 512


def test_on_a_gpu_the_width_is_that_whose_own_speed_suffices() -> None:
    def full_from_600(width: int, batch: int) -> float:
        return 1.0 if width < 600 else 1e5

    assert chosen_on_gpu(lambda *_: 1.0).model.layer_sizes == (1024,)
    found = chosen_on_gpu(full_from_600)
    assert found.model.layer_sizes == (512,)
    assert "budget" in found.reasons["hidden_size"]
    assert chosen_on_gpu(full_from_600, {"hidden_size": (768,)}).model.layer_sizes == (768,)
