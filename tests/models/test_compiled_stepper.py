"""The compiled step against the model."""

from collections.abc import Callable, Iterator

import pytest
import torch

from textgen.models import Model

SHAPES = [
    (11, (7, 5), 6, False),
    (11, (32,), 16, False),
    (70, (33, 20, 16), 16, True),
    (11, (7,), 0, False),
]


@pytest.fixture(autouse=True)
def _compiled(compiled: None, two_threads: None) -> None:
    pass


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def reads_as_the_model(model: Model, rows: int, tolerance: float, *, fast: bool = False) -> float:
    """The largest gap between the logits of a stepper and those of the model."""
    size = model.config.vocabulary_size
    ids = torch.randint(0, size, (20, rows), generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        stepper, state = model.stepper(fast=fast), model.start(rows)
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


@pytest.mark.parametrize(("vocabulary", "hidden", "embedding", "tie"), SHAPES)
@pytest.mark.parametrize("table", [0, 2**24])
@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (1, 2), (1, 3), (2, 1), (9, 2), (20, 3)])
def test_it_reads_as_the_model_does(
    make_model: Callable[..., Model],
    vocabulary: int,
    hidden: tuple[int, ...],
    embedding: int,
    tie: bool,
    table: int,
    rows: int,
    threads: int,
    set_threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_threads(threads)
    monkeypatch.setattr("textgen.inference.step_weights._LARGEST_TABLE", table)
    model = make_model(vocabulary, hidden, embedding, tie=tie)
    reads_as_the_model(model, rows, 2e-5)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_weights_of_8_bits_are_near(make_model: Callable[..., Model], rows: int) -> None:
    model = make_model(70, (32, 24), 16)
    assert reads_as_the_model(model, rows, 0.3, fast=True) > 1e-3


def test_weights_of_8_bits_are_the_same_in_any_batch(make_model: Callable[..., Model]) -> None:
    model, ids = make_model(70, (32, 24), 16), torch.arange(1, 30)
    with torch.inference_mode():
        one, five = model.stepper(fast=True), model.stepper(fast=True)
        five.state = model.start(5)
        for id in ids:
            alone, beside = one.step(id.view(1)), five.step(id.expand(5).contiguous())
            torch.testing.assert_close(beside, alone.expand(5, -1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("size", [1e-30, 20.0, 1e4])
def test_gates_far_open_and_far_shut(
    make_model: Callable[..., Model], rows: int, size: float
) -> None:
    model = make_model(11, (16,), 6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("layers"):
                parameter.mul_(size)
    reads_as_the_model(model, rows, 1e-4)


def test_a_row_with_nothing_in_its_weights(make_model: Callable[..., Model]) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter("output.weight")[3] = 0
    reads_as_the_model(model, 1, 0.3, fast=True)


def test_reading_several_at_once_is_reading_each(model: Model) -> None:
    ids = torch.arange(11)
    one, several = model.stepper(), model.stepper()
    for id in ids:
        expected = one.step(id.view(1))
    assert several.network is not None
    several.network.read(ids.unsqueeze(1))
    assert torch.equal(several.network.logits, expected)
    assert bool(several.state.close_to(one.state, 0).all())
