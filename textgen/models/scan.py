"""GRU and plain recurrent layers with gradients in closed form, for training on a CPU.

``nn.RNN`` and ``nn.GRU`` are slower there: autograd adds to the gradient of the weights at each
step, which reads and writes all of it. Here only the gradient of the state goes from step to step
(Werbos 1990); the gradient of the weights is one product over the whole window. Against the
modules, forward and backward take 1.7 times (RNN) and 1.1 times (GRU) as long there
(``python benchmarks/cells.py``, ``benchmarks/results/cells.json``).

Each function takes the gate inputs, weight_ih x + bias, (time, batch, gates * units), and a start
state (batch, units), and returns the hidden states (time, batch, units).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textgen.config import Activation

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
}


def scan_is_faster(inputs: Tensor) -> bool:
    """Whether to use these functions for a layer with such inputs."""
    on_cpu = inputs.device.type == "cpu"
    return on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class RNNScan(torch.autograd.Function):
    """h' = f(gate input + weight_hh h), where f is tanh or relu (Elman 1990)."""

    @staticmethod
    def forward(
        ctx: Any, gate_inputs: Tensor, start: Tensor, weight_hh: Tensor, activation: Activation
    ) -> Tensor:
        """weight_hh: (units, units)."""
        activate, hidden = ACTIVATIONS[activation], torch.empty_like(gate_inputs)
        before = start
        for gate_input, after in zip(gate_inputs, hidden, strict=True):
            before = activate(torch.addmm(gate_input, before, weight_hh.T, out=after))
        ctx.activation = activation
        ctx.save_for_backward(start, weight_hh, hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        start, weight_hh, hidden = ctx.saved_tensors
        slope = 1 - hidden.square() if ctx.activation == "tanh" else (hidden > 0).to(hidden)
        grad_inputs = torch.empty_like(hidden)
        grad_state = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            torch.mul(gradient[time] + grad_state, slope[time], out=grad_inputs[time])
            grad_state = grad_inputs[time] @ weight_hh
        return grad_inputs, grad_state, _grad_weight(grad_inputs, start, hidden), None


class GRUScan(torch.autograd.Function):
    """The GRU (Cho et al. 2014) with the reset gate after the product, as in cuDNN.

    With a = weight_ih x + bias_ih and p = weight_hh h + bias_hh, in rows of reset, update and
    candidate: reset r and update z = sigmoid(a + p); candidate n = tanh(a + r p);
    h' = (1 - z) n + z h.
    """

    @staticmethod
    def forward(
        ctx: Any, gate_inputs: Tensor, start: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> Tensor:
        """weight_hh: (3 units, units), bias_hh: (3 units,)."""
        units = start.shape[1]
        hidden = gate_inputs.new_empty(*gate_inputs.shape[:2], units)
        gates, products = torch.empty_like(gate_inputs), torch.empty_like(gate_inputs)
        before = start
        for gate_input, after, gate, product in zip(
            gate_inputs, hidden, gates, products, strict=True
        ):
            torch.addmm(bias_hh, before, weight_hh.T, out=product)
            candidate, update = gru_gates(gate_input, product, gate)
            before = torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(start, weight_hh, hidden, gates, products[..., 2 * units :])
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        start, weight_hh, hidden, gates, product = ctx.saved_tensors
        units = start.shape[1]
        reset, update, candidate = gates.split(units, -1)
        before = torch.cat([start.unsqueeze(0), hidden[:-1]])
        # d h' / d (input of each gate), elementwise.
        to_candidate = (1 - update) * (1 - candidate.square())
        to_update = (before - candidate) * update * (1 - update)
        to_reset = to_candidate * product * reset * (1 - reset)
        slopes = torch.cat([to_reset, to_update, to_candidate * reset], -1)
        slopes = slopes.view(*hidden.shape[:2], 3, units)
        grad_products, grad_hidden = torch.empty_like(slopes), torch.empty_like(hidden)
        grad_state = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            total = torch.add(gradient[time], grad_state, out=grad_hidden[time])
            torch.mul(total.unsqueeze(1), slopes[time], out=grad_products[time])
            grad_state = torch.addmm(
                total * update[time], grad_products[time].flatten(1), weight_hh
            )
        grad_products = grad_products.flatten(2)
        grad_inputs = grad_products.clone()
        torch.mul(grad_hidden, to_candidate, out=grad_inputs[..., 2 * units :])
        grad_weight = _grad_weight(grad_products, start, hidden)
        return grad_inputs, grad_state, grad_weight, grad_products.sum((0, 1))


def gru_gates(gate_input: Tensor, product: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Compute candidate and update gate of one step, (batch, units) each.

    Args:
        gate_input: weight_ih x + bias_ih, (batch, 3 units).
        product: weight_hh h + bias_hh, (batch, 3 units).
        out: (batch, 3 units), receives reset, update, candidate.
    """
    units = product.shape[1] // 3
    reset_update, candidate = out[:, : 2 * units], out[:, 2 * units :]
    torch.add(gate_input[:, : 2 * units], product[:, : 2 * units], out=reset_update).sigmoid_()
    reset, update = reset_update.chunk(2, 1)
    torch.addcmul(gate_input[:, 2 * units :], reset, product[:, 2 * units :], out=candidate).tanh_()
    return candidate, update


def _grad_weight(grad_products: Tensor, start: Tensor, hidden: Tensor) -> Tensor:
    """The gradient of weight_hh, which multiplied the state before each step."""
    before = torch.cat([start.unsqueeze(0), hidden[:-1]])
    return grad_products.flatten(0, 1).T @ before.flatten(0, 1)
