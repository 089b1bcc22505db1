"""States that are broken, compared and detached. Selected rows are in test_every_model."""

import pytest
import torch

from textgen.models import Model
from textgen.models.lstm import LSTMState


@pytest.fixture
def state(model: Model) -> LSTMState:
    """The state of 4 streams after 5 tokens."""
    ids = torch.randint(11, (5, 4), generator=torch.Generator().manual_seed(4))
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
