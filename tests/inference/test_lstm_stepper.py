"""Steps of an LSTM, with PyTorch operators and with compiled code, against the model."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from textgen.inference.lstm_stepper import StepWeights, TorchStepper
from textgen.inference.native.kernels import PackedMatrix
from textgen.inference.steppers import make_stepper
from textgen.models import Model
from textgen.models.device import choose_device
from textgen.models.lstm import LSTMModel

MakeModel = Callable[..., Model]
SHAPES = [
    (11, (7, 5), 6, False),
    (11, (32,), 16, False),
    (70, (33, 20, 16), 16, True),
    (11, (7,), 0, False),
]
COMPILED = pytest.mark.usefixtures("compiled", "two_threads")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def compiled_gap(model: Model, rows: int, tolerance: float, *, fast: bool = False) -> float:
    """The largest gap between logits of compiled code and of the model, below the tolerance."""
    size = model.config.vocabulary_size
    ids = torch.randint(0, size, (20, rows), generator=generator(rows))
    with torch.inference_mode():
        stepper, state = make_stepper(model, fast=fast), model.start(rows)
        stepper.state = state
        assert stepper.network is not None
        largest = 0.0
        for column in ids:
            expected, state = model(column.unsqueeze(0), state)
            largest = max(largest, float((stepper.step(column) - expected[0]).abs().max()))
        if not fast:
            assert bool(stepper.state.close_to(state, tolerance).all())
    assert largest < tolerance
    return largest


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("ngrams", [0, 4])
def test_operators_in_float32_give_the_model_s_logits_packed_or_not(
    make_model: MakeModel, packs: bool, ngrams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.inference.native.kernels.library", lambda device, dtype: None)
    if not packs:
        monkeypatch.setattr("textgen.inference.lstm_stepper._packs", lambda matrix: False)
    model = make_model(11, (32, 24), 16, ngrams=ngrams)
    ids = torch.randint(0, 11, (20, 3), generator=generator(4))
    for rows in (1, 2, 3):
        whole, _ = model(ids[:, :rows], model.start(rows))
        stepper = make_stepper(model)
        stepper.state = model.start(rows)
        for time, column in enumerate(ids[:, :rows]):
            torch.testing.assert_close(stepper.step(column), whole[time], rtol=0, atol=1e-5)


@COMPILED
@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
@pytest.mark.parametrize("table", [0, 2**24])
@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (1, 3), (20, 1), (2, 2)])
def test_compiled_code_gives_the_model_s_logits(
    make_model: MakeModel,
    vocabulary: int,
    hidden: tuple[int, ...],
    embedding: int,
    tie: bool,
    table: int,
    rows: int,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(threads)  # restored by ``two_threads``
    monkeypatch.setattr("textgen.inference.lstm_stepper.LARGEST_TABLE", table)
    compiled_gap(make_model(vocabulary, hidden, embedding, tie=tie), rows, 2e-5)


@COMPILED
@pytest.mark.parametrize("longest", [2, 3, 6])
@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (1, 3), (20, 2)])
def test_compiled_code_adds_n_gram_embeddings(
    make_model: MakeModel, longest: int, rows: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    model = make_model(11, (24, 9), 16, ngrams=longest)
    compiled_gap(model, rows, 2e-5)
    with torch.no_grad():
        assert isinstance(model, LSTMModel) and model.ngram_embedding is not None
        model.ngram_embedding.weight.mul_(50)  # so that a wrong row shows
    compiled_gap(model, rows, 2e-4)


@COMPILED
@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES[1:3])
@pytest.mark.parametrize(("rows", "table"), [(1, 0), (3, 2**24), (20, 0)])
def test_weights_that_16_bits_hold_are_read_in_16_bits_and_give_the_model_s_logits(
    make_model: MakeModel,
    vocabulary: int,
    hidden: tuple[int, ...],
    embedding: int,
    tie: bool,
    rows: int,
    table: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("textgen.inference.lstm_stepper.LARGEST_TABLE", table)
    packed: list[PackedMatrix] = []
    struct = PackedMatrix.struct
    monkeypatch.setattr(
        PackedMatrix, "struct", lambda matrix: packed.append(matrix) or struct(matrix)
    )
    model = make_model(vocabulary, hidden, embedding, tie=tie)
    compiled_gap(model, rows, 2e-5)
    assert {matrix.weights.dtype for matrix in packed} == {torch.float32}
    packed.clear()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(weight.bfloat16())
    compiled_gap(model, rows, 2e-5)
    assert {matrix.weights.dtype for matrix in packed} == {torch.int32}


@COMPILED
@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("ngrams", [0, 3])
def test_weights_of_8_bits_are_near(make_model: MakeModel, rows: int, ngrams: int) -> None:
    assert compiled_gap(make_model(70, (32, 24), 16, ngrams=ngrams), rows, 0.3, fast=True) > 1e-3


@COMPILED
def test_weights_of_8_bits_are_the_same_in_any_batch(make_model: MakeModel) -> None:
    model, ids = make_model(70, (32, 24), 16), torch.arange(1, 30)
    with torch.inference_mode():
        one, five = make_stepper(model, fast=True), make_stepper(model, fast=True)
        five.state = model.start(5)
        for id in ids:
            alone, beside = one.step(id.view(1)), five.step(id.expand(5).contiguous())
            torch.testing.assert_close(beside, alone.expand(5, -1), rtol=0, atol=2e-5)


@COMPILED
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("size", [1e-30, 20.0, 1e4])
def test_gates_may_be_saturated(make_model: MakeModel, rows: int, size: float) -> None:
    model = make_model(11, (16,), 6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("layers"):
                parameter.mul_(size)
    compiled_gap(model, rows, 1e-4)


@COMPILED
def test_a_row_of_weights_may_be_zero(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter("output.weight")[3] = 0
    compiled_gap(model, 1, 0.3, fast=True)


@COMPILED
def test_several_steps_at_once_are_the_same_as_one_after_another(model: Model) -> None:
    ids = torch.arange(11)
    one, several = make_stepper(model), make_stepper(model)
    for id in ids:
        expected = one.step(id.view(1))
    assert several.network is not None
    several.network.read(ids.unsqueeze(1))
    assert torch.equal(several.network.logits, expected)
    assert bool(several.state.close_to(one.state, 0).all())


# Steps that are replayed


class Recorder:
    """Captures as a graph does: what is replayed reads and writes the memory that it was given."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.captured += 1

        def replay() -> Tensor:
            self.replayed += 1
            return work()

        return replay


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("ngrams", [0, 3])
def test_what_is_replayed_is_what_would_be_read(
    make_model: MakeModel, ngrams: int, rows: int
) -> None:
    model = make_model(ngrams=ngrams)
    weights, recorder = StepWeights.of(model, fast=False), Recorder()
    plain = TorchStepper(weights, model.start(1))
    graphed = TorchStepper(weights, model.start(1), recorder)
    drawing = generator(0)
    for part in range(3):
        state = model.start(rows + part % 2)
        plain.state = graphed.state = state
        for _ in range(50):
            ids = torch.randint(0, 11, (rows + part % 2,), generator=drawing)
            assert torch.equal(graphed.step(ids), plain.step(ids))
        plain.state = graphed.state = graphed.state  # as where a row is replaced
        assert torch.equal(graphed.step(ids), plain.step(ids))
    assert (recorder.captured, recorder.replayed) == (3, 3 * 19)


def test_the_memory_of_a_state_stays_where_it_is_for_as_many_rows(model: Model) -> None:
    stepper = TorchStepper(StepWeights.of(model, fast=False), model.start(2))
    ids = torch.tensor([1, 2])
    places = [layer.hidden.data_ptr() for layer in stepper._layers]
    stepper.state = model.start(2)
    stepper.step(ids)
    assert [layer.hidden.data_ptr() for layer in stepper._layers] == places


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_on_the_device_reads_as_the_model_does(model: Model) -> None:
    model = model.to(choose_device("cuda"))  # which turns TensorFloat-32 off
    drawing = generator(0)
    with torch.inference_mode():
        for rows in (1, 4):
            stepper, state = make_stepper(model), model.start(rows)
            stepper.state = state
            for _ in range(80):
                ids = torch.randint(0, 11, (rows,), generator=drawing).cuda()
                expected, state = model(ids.unsqueeze(0), state)
                torch.testing.assert_close(stepper.step(ids), expected[0], rtol=0, atol=1e-4)


@COMPILED
@pytest.mark.parametrize("ids", [[-1, 0], [0, 11], [2**62, 0], [0], [0, 0, 0], [[0, 0]]])
def test_compiled_code_never_sees_ids_outside_the_vocabulary(
    make_model: MakeModel, ids: list[int]
) -> None:
    model = make_model()
    stepper = make_stepper(model)
    stepper.state = model.start(2)
    assert stepper.network is not None
    with pytest.raises(ValueError, match="does not fit"):
        stepper.step(torch.tensor(ids))


@COMPILED
@pytest.mark.parametrize("wrong", [-2, 11, 2**62])
def test_compiled_code_never_remembers_ids_outside_the_vocabulary(
    make_model: MakeModel, wrong: int
) -> None:
    stepper = make_stepper(make_model(ngrams=3))
    state = stepper.state
    with pytest.raises(ValueError, match="does not fit"):
        stepper.state = type(state)({**state.named, "ids": torch.tensor([[-1, wrong]])})
