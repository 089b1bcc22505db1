"""Muon, an optimizer that was tried on the matrices of the LSTM."""

import math
from typing import cast

import torch
from techniques import Technique, Trial
from torch import Tensor

from textgen.config import LSTMConfig
from textgen.models.device import choose_precision

_FAST_BF16 = choose_precision("auto", torch.device("cpu"), LSTMConfig()) == "bf16"


class Muon(Technique):
    """Orthogonalized momentum for the matrices of the LSTM, one gate at a time (Jordan 2024).

    AdamW updates all other parameters.
    """

    def __init__(self, rate: float, *, whole: bool = False) -> None:
        self._rate, self._whole = rate, whole

    def begin(self, trial: Trial) -> None:
        adam = trial.optimizer
        chosen = {id(p): p for n, p in trial.model.named_parameters() if "weight_hh" in n}
        chosen |= {id(p): p for n, p in trial.model.named_parameters() if "weight_ih" in n}
        for group in adam.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in chosen]
        self._weights = list(chosen.values())
        self._momentum = [torch.zeros_like(p) for p in self._weights]
        self._peak, self._decay = trial.config.learning_rate, trial.config.weight_decay
        self._adam = adam
        adam.register_step_pre_hook(self._step)

    @torch.no_grad()
    def _step(self, *_: object) -> None:
        rate = self._rate * self._adam.param_groups[0]["lr"] / self._peak
        for weight, momentum in zip(self._weights, self._momentum, strict=True):
            gradient = cast(Tensor, weight.grad)
            momentum.lerp_(gradient, 0.05)
            update = gradient.lerp(momentum, 0.95)
            blocks = [update] if self._whole else list(update.chunk(4))
            stacked = torch.stack([_orthogonal(block) for block in blocks]).view_as(weight)
            weight.mul_(1 - rate * self._decay).sub_(rate * stacked)
            weight.grad = None


def _orthogonal(matrix: Tensor) -> Tensor:
    """An approximation of the nearest orthogonal matrix, by five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    # In bf16 only where the processor supports it; emulation is slow.
    x = matrix.bfloat16() if _FAST_BF16 else matrix
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    x = (x.T if tall else x).float()
    return x * math.sqrt(max(1.0, x.shape[0] / x.shape[1]))
