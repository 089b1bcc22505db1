"""Steps that are replayed, against those that are taken."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from textgen.inference.lstm_stepper import GraphedStepper, StepWeights, TorchStepper
from textgen.inference.steppers import make_stepper
from textgen.models import Model


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
def test_what_is_replayed_is_what_would_be_read(model: Model, rows: int) -> None:
    weights, recorder = StepWeights.of(model, fast=False), Recorder()
    plain = TorchStepper(weights, model.start(1))
    graphed = GraphedStepper(TorchStepper(weights, model.start(1)), recorder)
    generator = torch.Generator().manual_seed(0)
    for part in range(3):
        state = model.start(rows + part % 2)
        plain.state = graphed.state = state
        for _ in range(50):
            ids = torch.randint(0, 11, (rows + part % 2,), generator=generator)
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
    model = model.cuda()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for rows in (1, 4):
            stepper, state = make_stepper(model), model.start(rows)
            stepper.state = state
            for _ in range(80):
                ids = torch.randint(0, 11, (rows,), generator=generator).cuda()
                expected, state = model(ids.unsqueeze(0), state)
                torch.testing.assert_close(stepper.step(ids), expected[0], rtol=0, atol=1e-4)
