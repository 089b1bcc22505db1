"""The optimizers: AdamW, and one of tables of which an update uses few rows."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_EPSILON = 1e-8


class AdamW(torch.optim.AdamW):
    """PyTorch's own, without the decorators that import its compiler, which is never used here.

    That import takes as long as the rest of PyTorch's.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class RowOptimizer(torch.optim.Optimizer):
    """RMSProp (Tieleman and Hinton 2012) with Adam's bias correction, of the rows with a gradient.

    Other rows and their averages stay as they are, and so does everything where ``found_inf`` is
    1: where the gradient is not finite. There is no momentum: that of a row that is rarely used is
    out of date, and n-gram embeddings learned less with it. Gradients may be sparse or dense.
    """

    _step_supports_amp_scaling = True  # as PyTorch's fused optimizers, it reads ``found_inf``
    found_inf: Tensor

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, decay: float) -> None:
        """groups: tables (rows, width), with their weight_decay and ``times``, by which their
        learning rate is higher than ``lr``. decay: of averages of squares.
        """
        super().__init__(groups, {"lr": lr, "decay": decay, "times": 1.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step(table, table.grad, group)

    def _step(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), device=table.device)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1 - self.found_inf
        averages: Tensor = state["exp_avg_sq"]
        correction = 1 - group["decay"] ** state["step"]

        def updated(rows: Tensor, squares: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
            squares = squares.lerp(gradient.square(), 1 - group["decay"])
            steps = gradient / (squares / correction).sqrt_().add_(_EPSILON)
            kept = 1 - group["lr"] * group["weight_decay"]
            return rows * kept - group["lr"] * group["times"] * steps, squares

        if not gradient.is_sparse:
            used = (gradient != 0).any(1, keepdim=True) & (self.found_inf == 0)
            rows, squares = updated(table, averages, gradient)
            table.copy_(torch.where(used, rows, table))
            averages.copy_(torch.where(used, squares, averages))
        elif not self.found_inf:
            gradient = gradient.coalesce()
            used = gradient.values().any(1)  # dropout left others out
            ids, found = gradient.indices()[0][used], gradient.values()[used]
            rows, squares = updated(table[ids], averages[ids], found)
            table.index_copy_(0, ids, rows)
            averages.index_copy_(0, ids, squares)
