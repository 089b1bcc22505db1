"""The plain recurrent language model (Elman 1990; Mikolov et al. 2010)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import Activation, RNNConfig
from textgen.models.recurrent import LayerState, LayerWeights, RecurrentModel, scan_is_faster

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
}


class RNNModel(RecurrentModel):
    """Stacked layers of tanh or rectified linear units."""

    config: RNNConfig
    layer_type, gates = nn.RNN, 1

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        self.kernel = torch.rnn_tanh if config.activation == "tanh" else torch.rnn_relu

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Orthogonal recurrence (Saxe et al. 2014), or the identity (Le, Jaitly and Hinton 2015).

        With the identity, a unit keeps its value and adds its inputs.
        """
        super().initialize(generator)
        if self.config.recurrence == "identity":
            for layer in self.layers:
                _, weight_hh, _, _ = layer.parameters()
                nn.init.eye_(weight_hh)

    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        if not scan_is_faster(inputs):
            return super().run_layer(weights, inputs, state)
        (before,), (weight_ih, weight_hh, bias_ih, bias_hh) = state, weights
        gate_inputs = functional.linear(inputs, weight_ih, bias_ih + bias_hh)
        hidden: Tensor = RNNScan.apply(gate_inputs, before, weight_hh, self.config.activation)  # type: ignore[no-untyped-call]
        return hidden, (hidden[-1],)


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
        before = torch.cat([start.unsqueeze(0), hidden[:-1]])
        slope = 1 - hidden.square() if ctx.activation == "tanh" else (hidden > 0).to(hidden)
        grad_inputs = torch.empty_like(hidden)
        grad_state = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            torch.mul(gradient[time] + grad_state, slope[time], out=grad_inputs[time])
            grad_state = grad_inputs[time] @ weight_hh
        grad_weight = grad_inputs.flatten(0, 1).T @ before.flatten(0, 1)
        return grad_inputs, grad_state, grad_weight, None
