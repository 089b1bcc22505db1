"""What is chosen where the user gave no option, and the plan that shows it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgen import checkpoint, plan, train
from textgen.config import KINDS, ModelConfig, RecurrentConfig, TrainingConfig
from textgen.errors import UsageError
from textgen.models import build
from textgen.training import autotune
from textgen.training.autotune import TaskSize, TunedOptions, choose, flop_per_token

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
    training = {k: v for k, v in options.items() if k != "hidden_size"} | length
    model = {k: v for k, v in options.items() if k == "hidden_size"}
    return choose(
        ModelConfig.from_options(model),
        TrainingConfig.from_options(training),
        options.keys(),
        TaskSize(66, train_tokens, compute),
    )


def test_the_cost_of_a_token_is_six_operations_a_weight() -> None:
    model = RecurrentConfig(hidden_size=(512,), embedding_size=128).resolved(66)
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
    assert rates[0] == rates[1] == 0.01
    assert 0.006 < rates[2] < 0.008
    assert rates[-1] == 0.004


@pytest.mark.parametrize("length", [{"steps": 100}, {"epochs": 3}])
def test_without_a_budget_nothing_follows_from_the_speed(length: dict[str, int]) -> None:
    assert chosen(**length).model == RecurrentConfig().resolved(66)


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
    # weights, gradients as large, and the two moments, which are most of the state's file
    assert planned.state_bytes == pytest.approx(2 * weights + state, rel=0.2)


def test_the_memory_planned_is_that_of_weights_gradients_and_moments() -> None:
    shape = RecurrentConfig(hidden_size=(12, 8)).resolved(20)
    model = build(shape)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [t for p in model.parameters() for t in (p, p.grad)]
    held += [s[k] for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")]
    assert autotune.state_bytes(shape) == sum(t.nbytes for t in held if t is not None)


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
            elif value != spec.default:
                assert "chosen" in shown or name == "tie", name
