"""An optimizer of tables, of which an update uses a few rows."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.training.optimizers import RowOptimizer

LR, TIMES, DECAY, WEIGHT_DECAY = 0.025, 2.0, 0.9, 0.1


def trained(batches: list[list[int]], *, sparse: bool, found_inf: bool = False) -> list[Tensor]:
    """A table of 6 rows and its averages, after an update from the rows of each batch."""
    table = nn.Parameter(torch.arange(18.0).view(6, 3) / 18)
    groups = [{"params": [table], "weight_decay": WEIGHT_DECAY, "times": TIMES}]
    optimizer = RowOptimizer(groups, lr=LR, decay=DECAY)
    optimizer.found_inf = torch.tensor(float(found_inf))
    for rows in batches:
        optimizer.zero_grad()
        found = functional.embedding(torch.tensor(rows), table, sparse=sparse)
        (found.square() * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
        optimizer.step()
    return [table.detach(), optimizer.state[table]["exp_avg_sq"]]


BATCHES = [[0, 2, 2], [5, 2], [0], [2, 5, 5, 5]]


@pytest.mark.parametrize("sparse", [True, False])
def test_the_rows_of_each_update_move_as_in_plain_numpy(sparse: bool) -> None:
    table = np.arange(18.0).reshape(6, 3) / 18
    squares = np.zeros((6, 3))
    for step, rows in enumerate(BATCHES, start=1):
        for row in set(rows):
            gradient = rows.count(row) * 2 * table[row] * [1.0, -2.0, 0.5]
            squares[row] = DECAY * squares[row] + (1 - DECAY) * gradient**2
            size = np.sqrt(squares[row] / (1 - DECAY**step)) + 1e-8
            table[row] = table[row] * (1 - LR * WEIGHT_DECAY) - TIMES * LR * gradient / size
    found = trained(BATCHES, sparse=sparse)
    assert np.allclose(found[0].numpy(), table, atol=1e-5)
    assert np.allclose(found[1].numpy(), squares, atol=1e-5)


def test_rows_that_no_update_used_stay_bit_for_bit() -> None:
    for sparse in (True, False):
        table, squares = trained(BATCHES, sparse=sparse)
        unused = torch.tensor([1, 3, 4])
        assert torch.equal(table[unused], (torch.arange(18.0).view(6, 3) / 18)[unused])
        assert not squares[unused].any()


def test_rows_that_dropout_left_out_stay_though_they_were_looked_up() -> None:
    table = nn.Parameter(torch.ones(4, 3))
    optimizer = RowOptimizer([{"params": [table]}], lr=LR, decay=DECAY)
    optimizer.found_inf = torch.zeros(())
    optimizer.param_groups[0]["weight_decay"] = WEIGHT_DECAY
    for kept in ([1.0, 1.0], [1.0, 0.0]):
        before = table.detach().clone(), optimizer.state.get(table, {}).get("exp_avg_sq")
        optimizer.zero_grad()
        found = functional.embedding(torch.tensor([1, 2]), table, sparse=True)
        (found * torch.tensor(kept).unsqueeze(1)).square().sum().backward()
        averages = None if before[1] is None else before[1].clone()
        optimizer.step()
    assert averages is not None
    assert torch.equal(table[2], before[0][2]) and not torch.equal(table[1], before[0][1])
    assert torch.equal(optimizer.state[table]["exp_avg_sq"][2], averages[2])


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    for sparse in (True, False):
        table, squares = trained(BATCHES, sparse=sparse, found_inf=True)
        assert torch.equal(table, torch.arange(18.0).view(6, 3) / 18)
        assert not squares.any()
