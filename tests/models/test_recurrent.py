"""LSTM, GRU and plain recurrent networks: equations, gradients, inputs, first weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.config import LSTMConfig, ModelConfig
from textgen.errors import UsageError
from textgen.inference.steppers import make_stepper
from textgen.models import Model, build, count_parameters
from textgen.models.lstm import LSTMModel
from textgen.models.recurrent import set_word_vectors
from textgen.training.autotune import flop_per_token
from textgen.training.prepare import extended

MakeModel = Callable[..., Model]
Floats = npt.NDArray[np.float64]
RECURRENT = ("lstm", "gru", "rnn")
CELLS: list[dict[str, Any]] = [
    {"model": "gru"},
    {"model": "rnn"},
    {"model": "rnn", "activation": "relu", "recurrence": "identity"},
    {"model": "gru", "embedding_size": 0, "tie": False},
    {"model": "rnn", "tie": True, "embedding_size": 6},
]
LSTMS: list[dict[str, Any]] = [
    {"model": "lstm"},
    {"model": "lstm", "ngram_embeddings": 0},
    {"model": "lstm", "tie": True, "embedding_size": 6, "ngram_embeddings": 2},
    {"model": "lstm", "embedding_size": 0, "tie": False},
]
NO_NGRAMS = {"lstm": {"ngram_embeddings": 0}}


def made(options: dict[str, Any], vocabulary: int = 11) -> Model:
    """A model with layers of 9 and 6 units and its first weights."""
    config = ModelConfig.from_options({"hidden_size": (9, 6), "embedding_size": 5} | options)
    model = build(config.resolved(vocabulary))
    model.initialize(torch.Generator().manual_seed(0))
    return model


def changed(options: dict[str, Any], *, dtype: torch.dtype = torch.float64) -> Model:
    """A model all of whose weights, biases too, differ."""
    model, generator = made(options), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.05, generator=generator))
    return model.to(dtype)


def some_ids(time: int = 20, batch: int = 3) -> Tensor:
    return torch.randint(11, (time, batch), generator=torch.Generator().manual_seed(4))


def tensors(state: Any) -> list[Tensor]:
    return list(state.tensors().values())


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def numpy_step(
    config: Any, layer: list[Floats], inputs: Floats, hidden: Floats, cell: Floats
) -> tuple[Floats, Floats]:
    """Hidden state and cell after one step of one layer, by the equations."""
    weight_ih, weight_hh, bias_ih, bias_hh = layer
    a, p = weight_ih @ inputs + bias_ih, weight_hh @ hidden + bias_hh
    if config.model == "rnn":
        return np.tanh(a + p) if config.activation == "tanh" else np.maximum(a + p, 0), cell
    if config.model == "lstm":
        i, f, g, o = np.split(a + p, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(cell), cell
    reset, update = (sigmoid(x) for x in np.split((a + p)[: 2 * len(hidden)], 2))
    candidate = np.tanh(np.split(a, 3)[2] + reset * np.split(p, 3)[2])
    return (1 - update) * candidate + update * hidden, cell


def numpy_log_probs(model: Model, ids: list[int]) -> Floats:
    """ln p of every next token (time, vocabulary)."""
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    config: Any = model.config
    rows = []
    hidden = [np.zeros(units) for units in config.hidden_size]
    cell = [np.zeros(units) for units in config.hidden_size]
    inputs = np.eye(11) if config.embedding_size == 0 else weights["embedding.weight"]
    output = weights["embedding.weight" if config.tie else "output.weight"]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for place, id in enumerate(ids):
        below = inputs[id].copy()
        hashed = id + 1
        for length in range(2, (getattr(config, "ngram_embeddings", 0) or 0) + 1):
            earlier = ids[place - length + 1] if place >= length - 1 else -1
            hashed = (hashed * 1_000_003 + earlier + 1) % (2**31 - 1)
            row = (length - 2) * config.ngram_rows + hashed % config.ngram_rows
            below += weights["ngram_embedding.weight"][row]
        for i in range(len(hidden)):
            layer = [weights[f"layers.{i}.{kind}_l0"] for kind in kinds]
            hidden[i], cell[i] = numpy_step(config, layer, below, hidden[i], cell[i])
            below = hidden[i]
        logits = output @ below + weights["output.bias"]
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.array(rows)


@pytest.mark.parametrize("options", CELLS + LSTMS)
@pytest.mark.parametrize("with_gradients", [True, False])
def test_plain_numpy_in_float64_agrees(options: dict[str, Any], with_gradients: bool) -> None:
    model, ids = changed(options), some_ids(30, 1)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        model = model.to(dtype)
        expected = numpy_log_probs(model, ids[:, 0].tolist())
        with torch.set_grad_enabled(with_gradients):
            logits, _ = model(ids, model.start(1))
        assert np.abs(logits[:, 0].log_softmax(-1).detach().numpy() - expected).max() < tolerance


# Training


@pytest.mark.parametrize("options", CELLS)
def test_gradients_in_closed_form_are_those_of_pytorch_s_modules(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each weight, and of the state before the window."""
    found = []
    for scans in (True, False):
        for module in ("gru", "rnn"):
            monkeypatch.setattr(f"textgen.models.{module}.scan_is_faster", lambda _, by=scans: by)
        model = changed(options)
        start = changed({**options, "tie": None}).start(3)
        for rows in start.named.values():
            rows.normal_(generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits, after = model(some_ids(), start)
        last = sum(rows.sum() for rows in after.tensors().values())
        (logits.log_softmax(-1).square().sum() + last).backward()
        found.append([each.grad for each in (*model.parameters(), *start.named.values())])
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", CELLS[:2])
def test_training_in_bf16_is_near_that_in_float32(options: dict[str, Any]) -> None:
    model, ids = changed(options, dtype=torch.float32), some_ids()
    exact, _ = model(ids, model.start(3))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = model(ids, model.start(3))
    rounded.float().log_softmax(-1).sum().backward()
    gap = (rounded.float().log_softmax(-1) - exact.log_softmax(-1)).detach().abs().max()
    assert 1e-5 < float(gap) < 0.2
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_tied_weights_are_one_tensor_that_learns_from_both_ends(make_model: MakeModel) -> None:
    model = make_model(11, (7, 6), 6, tie=True)
    assert isinstance(model, LSTMModel)
    assert model.output.weight is model.embedding.weight
    logits, _ = model(torch.tensor([[3], [3], [3]]), model.start(1))
    logits[..., 5].sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert bool((gradient[3] != 0).any()), "as input"
    assert bool((gradient[5] != 0).any()), "as output"
    assert count_parameters(model.config) == sum(p.numel() for p in model.parameters())


def test_parameters_are_counted_where_the_model_does_not_fit_in_memory() -> None:
    config = LSTMConfig(hidden_size=(10**8,), embedding_size=1, tie=False, vocabulary_size=2)
    assert count_parameters(config) == 2 + 4 * 10**8 * (10**8 + 3) + 2 * (10**8 + 1)
    larger = LSTMConfig(hidden_size=(10**10,), embedding_size=1, vocabulary_size=2, tie=False)
    with pytest.raises(UsageError, match=r"lstm 10000000000.*too large.*lower --hidden-size"):
        count_parameters(larger)


# Steps


@pytest.mark.parametrize("options", CELLS + LSTMS)
@pytest.mark.parametrize("table", [0, 2**24])
@torch.no_grad()
def test_a_stepper_continues_from_any_state_with_any_number_of_rows(
    options: dict[str, Any], table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("steppers", "lstm_stepper"):
        monkeypatch.setattr(f"textgen.inference.{module}.LARGEST_TABLE", table)
    model, ids = changed(options), some_ids()
    stepper, state = make_stepper(model), model.start(3)
    for rows in ([0, 1, 2], [2], [1, 1, 0, 2]):
        places = torch.tensor(rows)
        stepper.state = state = state.select(places % len(tensors(state)[0]))
        for column in ids[:4, places]:
            kept, before = stepper.state, [each.clone() for each in tensors(stepper.state)]
            expected, state = model(column.unsqueeze(0), state)
            torch.testing.assert_close(stepper.step(column), expected[0], rtol=0, atol=1e-12)
            assert all(map(torch.equal, tensors(kept), before))  # a state does not change
        assert bool(stepper.state.close_to(state, 1e-12).all())


# First weights


@pytest.mark.parametrize("name", RECURRENT)
def test_the_generator_alone_determines_the_first_weights(name: str) -> None:
    def drawn(seed: int, global_seed: int) -> list[Tensor]:
        torch.manual_seed(global_seed)
        model = made({"model": name} | NO_NGRAMS.get(name, {}))
        model.initialize(torch.Generator().manual_seed(seed))
        return [p.detach() for p in model.parameters()]

    for first, same, other in zip(drawn(1, 1), drawn(1, 2), drawn(2, 1), strict=True):
        assert torch.equal(first, same)
        assert first.ndim == 1 or not torch.equal(first, other)


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_recurrence_starts_orthogonal_with_gates_that_preserve_the_state(
    name: str, gates: int
) -> None:
    weights = dict(made({"model": name}).named_parameters())
    for layer, units in enumerate((9, 6)):
        for gate in weights[f"layers.{layer}.weight_hh_l0"].chunk(gates):
            torch.testing.assert_close(gate @ gate.T, torch.eye(units), rtol=0, atol=1e-5)
        bias = weights[f"layers.{layer}.bias_ih_l0"] + weights[f"layers.{layer}.bias_hh_l0"]
        means = [part.mean().item() for part in bias.chunk(gates)]
        assert means == [0.0, 1.0, 0.0, 0.0][:gates] and len(bias.unique()) <= 2


def test_identity_recurrence_keeps_the_value_of_a_unit() -> None:
    options = {"model": "rnn", "activation": "relu", "recurrence": "identity"}
    weights = dict(made(options).named_parameters())
    for layer, units in enumerate((9, 6)):
        assert torch.equal(weights[f"layers.{layer}.weight_hh_l0"], torch.eye(units))
        assert not weights[f"layers.{layer}.bias_ih_l0"].any()


def test_word_vectors_stay_and_other_rows_become_as_large() -> None:
    embedding = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    vectors = np.full((2, 8), 0.1, np.float32)
    set_word_vectors(embedding, np.array([5, 3]), vectors)
    assert torch.equal(embedding[[5, 3]], torch.from_numpy(vectors))
    rest = torch.cat([embedding[:3], embedding[6:]])
    assert float(rest.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)


# One-hot input


def one_hot(name: str) -> Model:
    return made({"model": name, "embedding_size": 0}).double()


@pytest.mark.parametrize("name", RECURRENT)
def test_one_hot_input_is_an_embedding_that_is_the_identity(name: str) -> None:
    model, ids = one_hot(name), some_ids()
    shape = {"model": name, "embedding_size": 11, "tie": False} | NO_NGRAMS.get(name, {})
    other = made(shape).double()
    other.load_state_dict(model.state_dict() | {"embedding.weight": torch.eye(11)})
    assert torch.allclose(model(ids, model.start(3))[0], other(ids, other.start(3))[0])
    assert "embedding.weight" not in model.state_dict()


@pytest.mark.parametrize("name", RECURRENT)
def test_with_many_tokens_the_columns_of_those_that_occur_are_enough(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, found = some_ids() % 5, []
    for width in (512, 4):
        monkeypatch.setattr("textgen.models.recurrent.MAX_ONE_HOT_WIDTH", width)
        model = one_hot(name)
        logits, _ = model(ids, model.start(3))
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad for p in model.parameters())])
    for whole, some in zip(*found, strict=True):
        torch.testing.assert_close(whole, some)
    first = found[0][1]
    assert first is not None and bool((first[:, 5:] == 0).all()) and bool(first[:, :5].any())


def test_only_the_columns_that_are_multiplied_cost_operations() -> None:
    def cost(vocabulary: int) -> float:
        config = LSTMConfig(hidden_size=(100,), embedding_size=0, tie=False)
        return flop_per_token(config.resolved(vocabulary))

    assert cost(66) == 6 * (4 * 100 * (66 + 100) + 100 * 66)
    assert cost(10_000) == 6 * (4 * 100 * (512 + 100) + 100 * 10_000)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_new_token_of_one_hot_input_starts_as_unknown(name: str) -> None:
    model = one_hot(name)
    bigger = extended(model, 14).double()
    ids = torch.tensor([[3], [0], [7]])
    unknown, new = (bigger(torch.tensor([[3], [id], [7]]), bigger.start(1))[0] for id in (0, 13))
    assert torch.allclose(unknown, new)
    assert torch.allclose(bigger(ids, bigger.start(1))[0][..., :11], model(ids, model.start(1))[0])


def test_one_hot_input_has_no_matrix_to_tie() -> None:
    with pytest.raises(UsageError, match="--tie and --embedding-size 0 cannot both"):
        LSTMConfig(tie=True, embedding_size=0, hidden_size=(8,))
    assert LSTMConfig(embedding_size=0).resolved(5000).tie is False
