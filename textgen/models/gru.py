"""The GRU language model (Cho et al. 2014; Chung et al. 2014)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.models.recurrent import LayerState, LayerWeights, RecurrentModel, scan_is_faster


class GRUModel(RecurrentModel):
    """Stacked GRU layers."""

    layer_type, kernel, gates = nn.GRU, torch.gru, 3

    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        if not scan_is_faster(inputs):
            return super().run_layer(weights, inputs, state)
        (before,), (weight_ih, weight_hh, bias_ih, bias_hh) = state, weights
        gate_inputs = functional.linear(inputs, weight_ih, bias_ih)
        hidden: Tensor = GRUScan.apply(gate_inputs, before, weight_hh, bias_hh)  # type: ignore[no-untyped-call]
        return hidden, (hidden[-1],)


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
        grad_weight = grad_products.flatten(0, 1).T @ before.flatten(0, 1)
        return grad_inputs, grad_state, grad_weight, grad_products.sum((0, 1))


def gru_gates(gate_input: Tensor, product: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Candidate and update gate of one step, (batch, units) each.

    gate_input: weight_ih x + bias_ih; product: weight_hh h + bias_hh; out: receives reset, update,
    candidate; (batch, 3 units) each.
    """
    units = product.shape[1] // 3
    reset_update, candidate = out[:, : 2 * units], out[:, 2 * units :]
    torch.add(gate_input[:, : 2 * units], product[:, : 2 * units], out=reset_update).sigmoid_()
    reset, update = reset_update.chunk(2, 1)
    torch.addcmul(gate_input[:, 2 * units :], reset, product[:, 2 * units :], out=candidate).tanh_()
    return candidate, update
