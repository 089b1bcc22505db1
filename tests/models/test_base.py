"""Dropout, first output biases, the precision of training, and states."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen.config import LSTMConfig, Precision
from textgen.errors import UsageError
from textgen.models import Dropout, Model
from textgen.models.base import frequencies
from textgen.models.device import choose_precision
from textgen.models.lstm import LSTMState

MakeModel = Callable[..., Model]
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_a_rate_dropout_changes_and_draws_nothing() -> None:
    hidden, source = torch.randn(5, 3, 4, generator=generator()), generator(1)
    before = source.get_state()
    assert torch.equal(Dropout(0.0, source)(hidden), hidden)
    assert torch.equal(source.get_state(), before)


def test_dropout_silences_its_share_of_the_units_and_keeps_the_mean() -> None:
    dropped = Dropout(0.3, generator())(torch.ones(2, 400, 500))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)


def test_one_mask_serves_the_whole_window_and_differs_between_rows_and_seeds() -> None:
    dropped, same, other = (
        Dropout(0.5, generator(seed))(torch.ones(6, 3, 40)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(dropped[0], later) for later in dropped)
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert torch.equal(dropped, same) and not torch.equal(dropped, other)


def test_dropout_applies_before_every_layer_and_the_output(model: Model) -> None:
    class Counting(Dropout):
        seen: list[int] = []  # noqa: RUF012

        def __call__(self, hidden: Tensor) -> Tensor:
            self.seen.append(hidden.shape[-1])
            return hidden

    model(torch.tensor([[3], [5]]), model.start(1), Counting(0.5, generator()))
    assert Counting.seen == [6, 7, 5]


def test_frequencies_are_those_of_a_sample_from_all_over_the_text() -> None:
    short = np.arange(2, 102) % 7
    assert frequencies(short, 9).tolist() == np.bincount(short, minlength=9).tolist()
    halves = np.repeat(np.array([2, 3], np.uint16), 5_000_000)
    counts = frequencies(halves, 5)
    assert counts.sum() < 2**22
    assert 0.45 < counts[2] / counts.sum() < 0.55


def test_an_untrained_model_expects_tokens_as_often_as_they_occur(make_model: MakeModel) -> None:
    model = make_model(vocabulary=4)
    model.initialize(generator())
    with torch.no_grad():
        model.get_parameter("output.weight").zero_()
    model.initialize_from_text(np.repeat(np.arange(4), [0, 30, 10, 60]))
    logits, _ = model(torch.tensor([[1]]), model.start(1))
    found = logits.detach().softmax(-1).flatten()
    assert torch.allclose(found, torch.tensor([0.5, 30.5, 10.5, 60.5]) / 102)


def test_trained_biases_stay_as_they_are(make_model: MakeModel) -> None:
    model = make_model(vocabulary=4)
    trained = model.get_parameter("output.bias").detach().clone()
    assert trained.any()
    model.initialize_from_text(np.repeat(np.arange(4), [1, 2, 3, 4]))
    assert torch.equal(model.get_parameter("output.bias"), trained)


@pytest.mark.parametrize(
    ("precision", "why"), [("bf16", "bf16 needs a processor"), ("fp16", "fp16 needs a CUDA device")]
)
def test_a_precision_the_processor_cannot_learn_in_is_refused(
    precision: Precision, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.models.device.cpu_learns_in_bf16", lambda: False)
    with pytest.raises(UsageError, match=why):
        choose_precision(precision, CPU, LSTMConfig())


def test_auto_is_never_a_precision_that_is_refused() -> None:
    chosen = choose_precision("auto", CPU, LSTMConfig())
    assert choose_precision(chosen, CPU, LSTMConfig()) == chosen


# States: selected rows are in test_every_model


@pytest.fixture
def state(model: Model) -> LSTMState:
    """The state of 4 streams after 5 tokens."""
    ids = torch.randint(11, (5, 4), generator=generator(4))
    _, state = model(ids, model.start(4))
    assert isinstance(state, LSTMState)
    return state


def test_rows_that_are_not_kept_are_at_the_start_even_if_they_were_not_finite(
    model: Model, state: LSTMState
) -> None:
    broken = LSTMState.of((h * torch.nan, c * torch.inf) for h, c in state.layers)
    restarted = broken.keep(torch.zeros(4, dtype=torch.bool))
    assert bool(restarted.close_to(model.start(4), 0.0).all())


def test_a_row_is_as_close_as_its_most_different_unit(state: LSTMState) -> None:
    (hidden, cell), *rest = state.layers
    moved = cell.clone()
    moved[1, -1] += 0.1 * (1 + moved[1, -1].abs())
    moved[2, 0] = torch.nan
    other = LSTMState.of(((hidden, moved), *rest))
    assert state.close_to(other, 0.05).tolist() == [True, False, False, True]
    assert state.close_to(other, 0.15).tolist() == [True, True, False, True]
    below, (last_hidden, last_cell) = state.layers
    last_moved = LSTMState.of((below, (last_hidden + 5, last_cell)))
    assert not bool(state.close_to(last_moved, 0.5).any())


def test_a_large_cell_may_differ_by_its_rounding() -> None:
    def cells(*values: float) -> LSTMState:
        return LSTMState.of([(torch.zeros(len(values), 1), torch.tensor(values).unsqueeze(1))])

    near = cells(50.00002, 0.00002, -50.00002).close_to(cells(50.0, 0.0, -50.0), 1e-6)
    assert near.tolist() == [True, False, True]


def test_a_detached_state_has_no_gradient(state: LSTMState) -> None:
    assert all(tensor.requires_grad for tensor in state.tensors().values())
    assert not any(tensor.requires_grad for tensor in state.detach().tensors().values())


def test_the_shapes_of_a_model_do_not_load_the_compiler_of_torch() -> None:
    """It would take seconds and 70 MB, in every command that loads a model."""
    program = """
import sys
from textgen.config import KINDS, ModelConfig
from textgen.models import weight_shapes
for kind in KINDS:
    weight_shapes(ModelConfig.from_options({"model": kind}).resolved(50))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
