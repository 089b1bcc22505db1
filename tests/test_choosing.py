"""What is chosen where nobody chose."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import ModelConfig, TrainingConfig
from textgen.training.autotune import Choice, Circumstances, choose, flop_per_token

MILLION = 10**6
computes = st.floats(1e8, 1e20)
texts = st.integers(100, 10**10)


def chosen(
    train_tokens: int = MILLION,
    compute: float | None = None,
    options: dict[str, object] | None = None,
    **length: object,
) -> Choice:
    options = options or {}
    training = {k: v for k, v in options.items() if k != "hidden_size"} | length
    model = {k: v for k, v in options.items() if k == "hidden_size"}
    return choose(
        ModelConfig.from_options(model),
        TrainingConfig.from_options(training),
        options.keys(),
        Circumstances(66, train_tokens, compute),
    )


def test_the_cost_of_a_token_is_six_operations_a_weight() -> None:
    model = ModelConfig(hidden_size=(512,), embedding_size=128).resolved(66)
    assert flop_per_token(model) == 6 * (4 * 512 * (128 + 512) + 512 * 66)


def test_what_is_looked_up_costs_nothing() -> None:
    sizes = {"window": 5, "hidden_size": (30, 20), "embedding_size": 8}
    window, bag = (
        ModelConfig(model=name, **sizes).resolved(66) for name in ("feedforward", "bag-of-words")
    )
    assert flop_per_token(window) == 6 * (5 * 8 * 30 + 30 * 20 + 20 * 66)
    assert flop_per_token(bag) == 6 * (8 * 30 + 30 * 20 + 20 * 66)
    assert flop_per_token(ModelConfig(model="hmm", states=9).resolved(66)) == 6 * 9 * 9


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
    assert choice.reasons["dropout"] == choice.reasons["hidden_size"] == "as asked"


def test_a_tied_width_that_was_given_is_kept() -> None:
    options = {"tie": True, "embedding_size": 96}
    model, training = ModelConfig.from_options(options), TrainingConfig(budget=1.0)
    choice = choose(model, training, options.keys(), Circumstances(66, MILLION, 1e15))
    assert choice.model.hidden_size == (96,)
    assert choice.reasons["hidden_size"] == "that of the tied embedding"


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
    assert chosen(**length).model == ModelConfig().resolved(66)


@given(texts, computes)
def test_the_tokens_are_those_that_the_compute_buys(train_tokens: int, compute: float) -> None:
    choice = chosen(train_tokens, compute, budget=1.0)
    assert math.isclose(choice.tokens * flop_per_token(choice.model), compute)
    assert f"{choice.training.dropout}" and 0 <= choice.training.dropout <= 0.5


def test_every_option_shown_has_a_reason() -> None:
    reasons = chosen(budget=1.0, compute=1e12).reasons
    assert {"hidden_size", "batch_size", "learning_rate", "dropout", "weight_decay"} <= set(reasons)
    assert all(reasons.values())
