"""GRU and plain recurrent networks against their equations, and read in each of their ways."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.models import Model, build

Floats = npt.NDArray[np.float64]
CELLS: list[dict[str, Any]] = [
    {"model": "gru"},
    {"model": "rnn"},
    {"model": "rnn", "activation": "relu", "recurrence": "identity"},
    {"model": "gru", "embedding_size": 0, "tie": False},
    {"model": "rnn", "tie": True, "embedding_size": 6},
]


def drawn(options: dict[str, Any], *, dtype: torch.dtype = torch.float64) -> Model:
    """A model of 11 ids, layers of 9 and 6 units; of its biases too each is its own."""
    config = ModelConfig(**({"hidden_size": (9, 6), "embedding_size": 5} | options))
    model = build(config.resolved(11))
    model.initialize(generator := torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.05, generator=generator))
    return model.to(dtype)


def some_ids(time: int = 20, batch: int = 3) -> Tensor:
    return torch.randint(11, (time, batch), generator=torch.Generator().manual_seed(4))


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def numpy_step(kind: ModelConfig, layer: list[Floats], below: Floats, before: Floats) -> Floats:
    """One step of one layer, as the equations have it."""
    w_below, w_before, bias, second_bias = layer
    given, product = w_below @ below + bias, w_before @ before + second_bias
    if kind.model == "rnn":
        total = given + product
        return np.tanh(total) if kind.activation == "tanh" else np.maximum(total, 0)
    reset, update = (
        sigmoid(x + y)
        for x, y in zip(np.split(given, 3)[:2], np.split(product, 3)[:2], strict=True)
    )
    candidate = np.tanh(np.split(given, 3)[2] + reset * np.split(product, 3)[2])
    return (1 - update) * candidate + update * before


def numpy_log_probs(model: Model, ids: list[int]) -> Floats:
    """ln p of every next token (time, vocabulary)."""
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    config, rows = model.config, []
    hidden = [np.zeros(units) for units in config.hidden_size or ()]
    inputs = np.eye(11) if config.embedding_size == 0 else weights["embedding.weight"]
    output = weights["embedding.weight" if config.tie else "output.weight"]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for id in ids:
        below = inputs[id]
        for i, before in enumerate(hidden):
            layer = [weights[f"layers.{i}.{kind}_l0"] for kind in kinds]
            hidden[i] = below = numpy_step(config, layer, below, before)
        logits = output @ below + weights["output.bias"]
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.array(rows)


@pytest.mark.parametrize("options", CELLS)
@pytest.mark.parametrize("learning", [True, False])
def test_plain_numpy_in_float64_agrees(options: dict[str, Any], learning: bool) -> None:
    model, ids = drawn(options), some_ids(30, 1)
    expected = numpy_log_probs(model, ids[:, 0].tolist())
    with torch.set_grad_enabled(learning):
        logits, _ = model(ids, model.start(1))
    assert np.abs(logits[:, 0].log_softmax(-1).detach().numpy() - expected).max() < 1e-10


@pytest.mark.parametrize("options", CELLS)
def test_gradients_by_hand_are_those_of_pytorchs_modules(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each weight, and of the state before the window."""
    found = []
    for by_hand in (True, False):
        for module in ("gru", "rnn"):
            monkeypatch.setattr(f"textgen.models.{module}.pays", lambda _, by=by_hand: by)
        model = drawn(options)
        start = drawn({**options, "tie": None}).start(3)
        for rows in start.named.values():
            rows.normal_(generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits, after = model(some_ids(), start)
        last = sum(rows.sum() for rows in after.tensors().values())
        (logits.log_softmax(-1).square().sum() + last).backward()
        found.append([each.grad for each in (*model.parameters(), *start.named.values())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", CELLS)
@pytest.mark.parametrize("table", [0, 2**24])
def test_a_stepper_reads_on_as_the_model_does_from_any_state_and_number_of_rows(
    options: dict[str, Any], table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.inference.steppers._LARGEST_TABLE", table)
    model, ids = drawn(options), some_ids()
    stepper, state = model.stepper(), model.start(3)
    for rows in ([0, 1, 2], [2], [1, 1, 0, 2]):
        places = torch.tensor(rows)
        stepper.state = state = state.select(places % len(next(iter(state.tensors().values()))))
        for column in ids[:4, places]:
            expected, state = model(column.unsqueeze(0), state)
            torch.testing.assert_close(stepper.step(column), expected[0], rtol=0, atol=1e-12)
        assert bool(stepper.state.close_to(state, 1e-12).all())


def test_the_state_that_a_stepper_gave_stays_as_it_was() -> None:
    model = drawn({"model": "gru"})
    stepper = model.stepper()
    stepper.step(torch.tensor([3]))
    kept = stepper.state
    before = {name: rows.clone() for name, rows in kept.tensors().items()}
    stepper.step(torch.tensor([4]))
    assert all(torch.equal(rows, before[name]) for name, rows in kept.tensors().items())
    assert not bool(stepper.state.close_to(kept, 1e-9).all())


@pytest.mark.parametrize("options", CELLS[:2])
def test_learning_in_bf16_is_near_that_in_float32(options: dict[str, Any]) -> None:
    model, ids = drawn(options, dtype=torch.float32), some_ids()
    exact, _ = model(ids, model.start(3))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = model(ids, model.start(3))
    rounded.float().log_softmax(-1).sum().backward()
    gap = (rounded.float().log_softmax(-1) - exact.log_softmax(-1)).detach().abs().max()
    assert 1e-5 < float(gap) < 0.2
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def begun(**options: Any) -> dict[str, Tensor]:
    model = build(ModelConfig(hidden_size=(8, 6), **options).resolved(11))
    model.initialize(torch.Generator().manual_seed(0))
    return dict(model.named_parameters())


def test_identity_recurrence_keeps_what_a_unit_has() -> None:
    weights = begun(model="rnn", activation="relu", recurrence="identity")
    for layer, units in enumerate((8, 6)):
        assert torch.equal(weights[f"layers.{layer}.weight_hh_l0"], torch.eye(units))
        assert not weights[f"layers.{layer}.bias_ih_l0"].any()


@pytest.mark.parametrize(("name", "gates"), [("gru", 3), ("rnn", 1)])
def test_recurrence_starts_orthogonal(name: str, gates: int) -> None:
    weights = begun(model=name)
    for layer, units in enumerate((8, 6)):
        for gate in weights[f"layers.{layer}.weight_hh_l0"].chunk(gates):
            torch.testing.assert_close(gate @ gate.T, torch.eye(units), rtol=0, atol=1e-5)
