import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.models import Dropout, Model, build, count_parameters
from textgen.models.base import PlainStepper
from textgen.models.lstm import LSTMModel
from textgen.models.state import RecurrentState

MakeModel = Callable[..., Model]
Floats = npt.NDArray[np.float64]
SHAPES = [
    (11, (7,), 6, False),
    (11, (7, 5, 9), 6, False),
    (11, (5, 7), 7, True),
    (3, (1,), 1, False),
    (300, (16, 16), 16, True),
    (11, (7, 5), 0, False),
]


def ids_of(*rows: list[int]) -> Tensor:
    """Rows of text -> ids (time, batch)."""
    return torch.tensor(rows).T.contiguous()


def random_batch(time: int = 20, batch: int = 3, vocabulary: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(vocabulary, (time, batch), generator=generator)


def numpy_log_probs(model: Model, ids: list[int]) -> Floats:
    """ln p of every next token (time, vocabulary): the LSTM's equations, one token at a time."""
    weights = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    layers = len(model.config.hidden_size)
    hidden = [np.zeros(units) for units in model.config.hidden_size]
    cell = [np.zeros(units) for units in model.config.hidden_size]
    output = weights["embedding.weight"] if model.config.tie else weights["output.weight"]
    rows = []
    for id in ids:
        below = weights["embedding.weight"][id]
        for i in range(layers):
            w_below, w_before, bias, second_bias = (
                weights[f"layers.{i}.{kind}_l0"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            gates = w_below @ below + w_before @ hidden[i] + bias + second_bias
            admit, forget, candidate, expose = np.split(gates, 4)
            cell[i] = sigmoid(forget) * cell[i] + sigmoid(admit) * np.tanh(candidate)
            hidden[i] = below = sigmoid(expose) * np.tanh(cell[i])
        logits = output @ below + weights["output.bias"]
        rows.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return np.array(rows)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
def test_next_token_probabilities_are_positive_and_sum_to_one(
    make_model: MakeModel, vocabulary: int, hidden: tuple[int, ...], embedding: int, tie: bool
) -> None:
    model = make_model(vocabulary, hidden, embedding, tie=tie, dtype=torch.float64)
    logits, _ = model(random_batch(vocabulary=vocabulary), model.start(3))
    probabilities = logits.softmax(-1)
    assert bool((probabilities > 0).all())
    torch.testing.assert_close(
        probabilities.sum(-1), torch.ones(20, 3, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
def test_step_by_step_equals_the_whole_sequence(
    make_model: MakeModel, vocabulary: int, hidden: tuple[int, ...], embedding: int, tie: bool
) -> None:
    model = make_model(vocabulary, hidden, embedding, tie=tie, dtype=torch.float64)
    ids = random_batch(vocabulary=vocabulary)
    whole, last = model(ids, model.start(3))
    stepper = model.stepper()
    stepper.state = model.start(3)
    for time, column in enumerate(ids):
        torch.testing.assert_close(stepper.step(column), whole[time], rtol=0, atol=1e-12)
    assert bool(stepper.state.close_to(last, 1e-12).all())


@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
@pytest.mark.parametrize("table", [0, 2**24])
def test_a_stepper_reads_on_from_any_state_and_any_number_of_rows(
    make_model: MakeModel,
    vocabulary: int,
    hidden: tuple[int, ...],
    embedding: int,
    tie: bool,
    table: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("textgen.inference.step_weights._LARGEST_TABLE", table)
    model = make_model(vocabulary, hidden, embedding, tie=tie, dtype=torch.float64)
    ids = random_batch(vocabulary=vocabulary)
    stepper, state = model.stepper(), model.start(3)
    for rows in ([0, 1, 2], [2], [1, 1, 0, 2], [0]):
        places = torch.tensor(rows)
        stepper.state = state.select(places)
        for column in ids[:4]:
            expected, _ = model(column[places].unsqueeze(0), stepper.state)
            logits = stepper.step(column[places])
            torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-12)
    kept = stepper.state
    before = {name: tensor.clone() for name, tensor in kept.tensors().items()}
    stepper.step(ids[0, :1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.tensors().items())


@pytest.mark.parametrize("packs", [True, False])
def test_in_float32_it_reads_the_same_packed_or_not(
    make_model: MakeModel, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr("textgen.inference.steppers._packs", lambda matrix: False)
    model = make_model(11, (32, 24), 16)
    ids = random_batch()
    for rows in (1, 2, 3):
        whole, _ = model(ids[:, :rows], model.start(rows))
        stepper = model.stepper()
        stepper.state = model.start(rows)
        for time, column in enumerate(ids[:, :rows]):
            torch.testing.assert_close(stepper.step(column), whole[time], rtol=0, atol=1e-5)


def test_a_plain_stepper_reads_as_the_model_does(make_model: MakeModel) -> None:
    model = make_model(dtype=torch.float64)
    plain, fast = PlainStepper(model), model.stepper()
    plain.state = fast.state = model.start(2)
    for column in random_batch(batch=2):
        torch.testing.assert_close(plain.step(column), fast.step(column), rtol=0, atol=1e-12)


def test_a_sequence_read_in_two_parts_equals_it_read_at_once(model: Model) -> None:
    ids = random_batch()
    whole, _ = model(ids, model.start(3))
    first, state = model(ids[:7], model.start(3))
    second, _ = model(ids[7:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-5)


def test_the_carried_state_changes_what_comes_next(model: Model) -> None:
    ids = random_batch()
    _, carried = model(ids[:10], model.start(3))
    after, _ = model(ids[10:], carried)
    reset, _ = model(ids[10:], model.start(3))
    assert bool(((after - reset)[0].abs().amax(-1) > 1e-3).all())


@pytest.mark.parametrize("tie", [False, True])
def test_a_plain_numpy_lstm_in_float64_agrees(make_model: MakeModel, tie: bool) -> None:
    ids = random_batch(60, 1)
    double = make_model(11, (9, 6), 6, tie=tie, dtype=torch.float64)
    expected = numpy_log_probs(double, ids[:, 0].tolist())
    logits, _ = double(ids, double.start(1))
    assert np.abs(logits[:, 0].log_softmax(-1).detach().numpy() - expected).max() < 1e-10
    single = double.float()
    rounded = numpy_log_probs(single, ids[:, 0].tolist())
    logits, _ = single(ids, single.start(1))
    assert np.abs(logits[:, 0].log_softmax(-1).detach().numpy() - rounded).max() < 1e-5


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_probabilities_of_all_strings_of_a_length_sum_to_one(
    make_model: MakeModel, length: int
) -> None:
    model = make_model(4, (6, 5), 5, dtype=torch.float64)
    strings = torch.tensor(list(itertools.product(range(4), repeat=length))).T  # (time, 4**length)
    inputs = torch.cat([torch.ones_like(strings[:1]), strings[:-1]])
    logits, _ = model(inputs, model.start(strings.shape[1]))
    log_probs = logits.log_softmax(-1).gather(-1, strings.unsqueeze(-1)).sum((0, 2))
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
def test_count_is_the_number_of_weights(
    vocabulary: int, hidden: tuple[int, ...], embedding: int, tie: bool
) -> None:
    config = ModelConfig(
        hidden_size=hidden, embedding_size=embedding, tie=tie, vocabulary_size=vocabulary
    )
    assert count_parameters(config) == sum(p.numel() for p in build(config).parameters())


def test_count_is_exact_where_the_model_could_not_be_made() -> None:
    config = ModelConfig(hidden_size=(10**9,), embedding_size=1, tie=False, vocabulary_size=2)
    assert count_parameters(config) == 2 + 4 * 10**9 * (10**9 + 3) + 2 * (10**9 + 1)


def test_tied_weights_are_one_tensor_that_learns_from_both_ends(make_model: MakeModel) -> None:
    model = make_model(11, (7, 6), 6, tie=True)
    assert isinstance(model, LSTMModel)
    assert model.output.weight is model.embedding.weight
    logits, _ = model(ids_of([3, 3, 3]), model.start(1))
    logits[..., 5].sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert bool((gradient[3] != 0).any()), "read as input"
    assert bool((gradient[5] != 0).any()), "read as output"


def test_untied_weights_are_two_tensors(make_model: MakeModel) -> None:
    model = make_model(11, (7, 6), 6, tie=False)
    assert isinstance(model, LSTMModel)
    assert model.output.weight is not model.embedding.weight


def test_the_generator_alone_decides_the_first_weights() -> None:
    config = ModelConfig(hidden_size=(8, 6), embedding_size=5, tie=False, vocabulary_size=11)

    def drawn(seed: int, global_seed: int) -> list[Tensor]:
        torch.manual_seed(global_seed)
        model = build(config)
        model.initialize(torch.Generator().manual_seed(seed))
        return [p.detach() for p in model.parameters()]

    for first, same, other in zip(drawn(1, 1), drawn(1, 2), drawn(2, 1), strict=True):
        assert torch.equal(first, same)
        assert first.ndim == 1 or not torch.equal(first, other)


def test_recurrence_starts_orthogonal_and_gates_start_open_to_the_past() -> None:
    config = ModelConfig(hidden_size=(8, 6), embedding_size=5, tie=False, vocabulary_size=11)
    model = build(config)
    model.initialize(torch.Generator().manual_seed(0))
    weights = dict(model.named_parameters())
    for layer, units in enumerate(config.hidden_size):
        for gate in weights[f"layers.{layer}.weight_hh_l0"].chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(units), rtol=0, atol=1e-5)
        bias = weights[f"layers.{layer}.bias_ih_l0"] + weights[f"layers.{layer}.bias_hh_l0"]
        assert bias.tolist() == [0.0] * units + [1.0] * units + [0.0] * 2 * units


# State


def read_state(model: Model, batch: int = 4) -> RecurrentState:
    _, state = model(random_batch(5, batch), model.start(batch))
    assert isinstance(state, RecurrentState)
    return state.detach()


def row_of(state: RecurrentState, row: int) -> list[list[float]]:
    return [tensor[row].tolist() for tensor in state.tensors().values()]


def test_select_takes_rows_in_their_order_and_more_than_once(model: Model) -> None:
    state = read_state(model)
    selected = state.select(torch.tensor([2, 0, 2]))
    assert [row_of(selected, i) for i in range(3)] == [row_of(state, i) for i in (2, 0, 2)]


def test_keep_puts_the_start_state_where_the_mask_is_false(model: Model) -> None:
    state = read_state(model)
    kept = state.keep(torch.tensor([True, False, True, False]))
    start = model.start(1)
    assert isinstance(start, RecurrentState)
    assert [row_of(kept, i) for i in (0, 2)] == [row_of(state, i) for i in (0, 2)]
    assert row_of(kept, 1) == row_of(kept, 3) == row_of(start, 0)


def test_keep_forgets_even_what_is_not_a_number(model: Model) -> None:
    broken = RecurrentState.of((h * torch.nan, c * torch.inf) for h, c in read_state(model).layers)
    kept = broken.keep(torch.zeros(4, dtype=torch.bool))
    assert bool(kept.close_to(model.start(4), 0.0).all())


def test_replace_changes_the_named_rows_alone(model: Model) -> None:
    state, other = read_state(model), read_state(model).select(torch.tensor([3, 3]))
    replaced = state.replace(torch.tensor([1, 0]), other)
    assert [row_of(replaced, i) for i in range(4)] == [row_of(state, i) for i in (3, 3, 2, 3)]


def test_close_to_judges_each_row_by_its_worst_unit(model: Model) -> None:
    state = read_state(model)
    (hidden, cell), *rest = state.layers
    moved = cell.clone()
    moved[1, -1] += 0.1 * (1 + moved[1, -1].abs())
    moved[2, 0] = torch.nan
    other = RecurrentState.of(((hidden, moved), *rest))
    assert state.close_to(other, 0.05).tolist() == [True, False, False, True]
    assert state.close_to(other, 0.15).tolist() == [True, True, False, True]
    below, (last_hidden, last_cell) = state.layers
    last_moved = RecurrentState.of((below, (last_hidden + 5, last_cell)))
    assert not bool(state.close_to(last_moved, 0.5).any())


def test_close_to_allows_a_large_cell_its_rounding() -> None:
    def cells(*values: float) -> RecurrentState:
        return RecurrentState.of([(torch.zeros(len(values), 1), torch.tensor(values).unsqueeze(1))])

    near = cells(50.00002, 0.00002, -50.00002).close_to(cells(50.0, 0.0, -50.0), 1e-6)
    assert near.tolist() == [True, False, True]


def test_a_state_goes_through_named_tensors_and_back(model: Model) -> None:
    state = read_state(model)
    tensors = state.tensors()
    assert all(len(tensor) == 4 for tensor in tensors.values())
    assert bool(state.close_to(model.restore(tensors), 0.0).all())
    assert len(set(tensors)) == 2 * len(model.config.hidden_size)


def test_detach_cuts_the_graph(model: Model) -> None:
    _, state = model(random_batch(5, 4), model.start(4))
    assert all(tensor.requires_grad for tensor in state.tensors().values())
    assert not any(tensor.requires_grad for tensor in state.detach().tensors().values())


# Dropout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_rate_is_no_noise_and_draws_nothing() -> None:
    features, source = torch.randn(5, 3, 4, generator=generator()), generator(1)
    before = source.get_state()
    assert torch.equal(Dropout(0.0, source)(features), features)
    assert torch.equal(source.get_state(), before)


def test_noise_silences_the_asked_share_and_keeps_the_mean() -> None:
    noisy = Dropout(0.3, generator())(torch.ones(2, 400, 500))
    assert (noisy == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert noisy.mean().item() == pytest.approx(1.0, abs=0.01)


def test_one_mask_serves_the_whole_window_and_differs_between_rows() -> None:
    noisy = Dropout(0.5, generator())(torch.ones(6, 3, 40))
    assert all(torch.equal(noisy[0], later) for later in noisy)
    assert not torch.equal(noisy[0, 0], noisy[0, 1])


def test_the_generator_alone_decides_the_mask() -> None:
    features = torch.ones(2, 3, 40)
    masks = [Dropout(0.5, generator(seed))(features) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_the_model_applies_noise_before_every_layer_and_the_output(model: Model) -> None:
    class Counting(Dropout):
        seen: list[int] = []  # noqa: RUF012

        def __call__(self, features: Tensor) -> Tensor:
            self.seen.append(features.shape[-1])
            return features

    model(random_batch(), model.start(3), Counting(0.5, generator()))
    assert Counting.seen == [6, 7, 5]


def test_a_model_that_has_learned_nothing_expects_tokens_as_often_as_they_are_seen(
    make_model: Callable[..., Model],
) -> None:
    text = np.repeat(np.arange(4), [0, 30, 10, 60])
    model = make_model(vocabulary=4)
    model.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.get_parameter("output.weight").zero_()
    model.read(text)
    logits, _ = model(torch.tensor([[1]]), model.start(1))
    found = logits.detach().softmax(-1).flatten()
    assert torch.allclose(found, torch.tensor([0.5, 30.5, 10.5, 60.5]) / 102)


def test_what_a_model_expects_by_now_is_left_as_it_is(make_model: Callable[..., Model]) -> None:
    model = make_model(vocabulary=4)
    learned = model.get_parameter("output.bias").detach().clone()
    assert learned.any()
    model.read(np.repeat(np.arange(4), [1, 2, 3, 4]))
    assert torch.equal(model.get_parameter("output.bias"), learned)
