"""The plain recurrent language model (Elman 1990; Mikolov et al. 2010)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import RNNConfig
from textgen.models.recurrent import (
    LayerState,
    LayerWeights,
    RecurrentModel,
    RNNScan,
    scan_is_faster,
)


class RNNModel(RecurrentModel):
    """Stacked layers of tanh or rectified linear units."""

    config: RNNConfig
    gates = 1

    def make_layer(self, inputs: int, units: int) -> nn.RNN:
        return nn.RNN(inputs, units, nonlinearity=self.config.activation)

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
        (before,) = state
        activation = self.config.activation
        if scan_is_faster(inputs):
            weight_ih, weight_hh, bias_ih, bias_hh = weights
            gate_inputs = functional.linear(inputs, weight_ih, bias_ih + bias_hh)
            hidden: Tensor = RNNScan.apply(gate_inputs, before, weight_hh, activation)  # type: ignore[no-untyped-call]
            return hidden, (hidden[-1],)
        layer = torch.rnn_tanh if activation == "tanh" else torch.rnn_relu
        hidden, last = layer(
            inputs, before.unsqueeze(0), weights, True, 1, 0.0, self.training, False, False
        )
        return hidden, (last[0],)
