"""Recurrent layers by hand for training on a CPU, where ``nn.RNN`` and ``nn.GRU`` are slower.

With autograd each step would add to the gradient of the weights, which is read and written every
time. Here only the gradient of the state goes from step to step (Werbos 1990); the gradient of the
weights is one product over the whole window.

Each layer takes the gates of its input (time, batch, gates * units) and a start state
(batch, units), and returns the states (time, batch, units).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textgen.config import Activation

ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh_, "relu": torch.relu_}


def pays(outputs: Tensor) -> bool:
    """Whether a layer that is given these is faster read here."""
    here = outputs.device.type == "cpu"
    return here and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class RNNScan(torch.autograd.Function):
    """hidden = f(given + weight before), f being tanh or relu (Elman 1990)."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, start: Tensor, weight: Tensor, activation: Activation
    ) -> Tensor:
        """weight: (units, units)."""
        activate, hidden = ACTIVATE[activation], torch.empty_like(given)
        before = start
        for here, after in zip(given, hidden, strict=True):
            before = activate(torch.addmm(here, before, weight.T, out=after))
        ctx.activation = activation
        ctx.save_for_backward(start, weight, hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        start, weight, hidden = ctx.saved_tensors
        slope = 1 - hidden.square() if ctx.activation == "tanh" else (hidden > 0).to(hidden)
        of_given = torch.empty_like(hidden)
        reached = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            torch.mul(gradient[time] + reached, slope[time], out=of_given[time])
            reached = of_given[time] @ weight
        return of_given, reached, _of_weight(of_given, start, hidden), None


class GRUScan(torch.autograd.Function):
    """The gated unit of Cho et al. (2014), with the reset gate after the product, as cuDNN has it.

    reset, update = sigmoid(given + weight before + bias), of their rows;
    candidate = tanh(given + reset (weight before + bias)), of its rows;
    hidden = (1 - update) candidate + update before.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, start: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """weight: (3 units, units), bias: (3 units,): reset, update, candidate."""
        units = start.shape[1]
        hidden = given.new_empty(*given.shape[:2], units)
        gates, products = torch.empty_like(given), torch.empty_like(given)
        before = start
        for here, after, gate, product in zip(given, hidden, gates, products, strict=True):
            torch.addmm(bias, before, weight.T, out=product)
            before = torch.lerp(*gru_gates(here, before, product, gate), out=after)
        ctx.save_for_backward(start, weight, hidden, gates, products[..., 2 * units :])
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        start, weight, hidden, gates, product = ctx.saved_tensors
        units = start.shape[1]
        reset, update, candidate = gates.split(units, -1)
        before = torch.cat([start.unsqueeze(0), hidden[:-1]])
        # What each gate's rows are given changes the hidden unit by so much.
        to_candidate = (1 - update) * (1 - candidate.square())
        to_update = (before - candidate) * update * (1 - update)
        to_reset = to_candidate * product * reset * (1 - reset)
        slopes = torch.cat([to_reset, to_update, to_candidate * reset], -1)
        slopes = slopes.view(*hidden.shape[:2], 3, units)
        of_products, of_hidden = torch.empty_like(slopes), torch.empty_like(hidden)
        reached = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            here = torch.add(gradient[time], reached, out=of_hidden[time])
            torch.mul(here.unsqueeze(1), slopes[time], out=of_products[time])
            reached = torch.addmm(here * update[time], of_products[time].flatten(1), weight)
        of_products = of_products.flatten(2)
        of_given = of_products.clone()
        torch.mul(of_hidden, to_candidate, out=of_given[..., 2 * units :])
        of_weight = _of_weight(of_products, start, hidden)
        return of_given, reached, of_weight, of_products.sum((0, 1))


def gru_gates(
    given: Tensor, before: Tensor, product: Tensor, out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Open the gates of one step: candidate, hidden before, and update, which lies between them.

    given, product: (batch, 3 units). out: as large, where the gates are left.
    """
    units = before.shape[1]
    both, candidate = out[:, : 2 * units], out[:, 2 * units :]
    torch.add(given[:, : 2 * units], product[:, : 2 * units], out=both).sigmoid_()
    reset, update = both.chunk(2, 1)
    torch.addcmul(given[:, 2 * units :], reset, product[:, 2 * units :], out=candidate).tanh_()
    return candidate, before, update


def _of_weight(of_products: Tensor, start: Tensor, hidden: Tensor) -> Tensor:
    """The gradient of a weight that multiplied the state before each place."""
    before = torch.cat([start.unsqueeze(0), hidden[:-1]])
    return of_products.flatten(0, 1).T @ before.flatten(0, 1)
