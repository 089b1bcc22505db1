"""The GRU language model (Cho et al. 2014; Chung et al. 2014)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.models.recurrent import (
    GRUScan,
    LayerState,
    LayerWeights,
    RecurrentModel,
    scan_is_faster,
)


class GRUModel(RecurrentModel):
    """Stacked GRU layers."""

    gates = 3

    def make_layer(self, inputs: int, units: int) -> nn.GRU:
        return nn.GRU(inputs, units)

    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        (before,) = state
        if scan_is_faster(inputs):
            weight_ih, weight_hh, bias_ih, bias_hh = weights
            gate_inputs = functional.linear(inputs, weight_ih, bias_ih)
            hidden: Tensor = GRUScan.apply(gate_inputs, before, weight_hh, bias_hh)  # type: ignore[no-untyped-call]
            return hidden, (hidden[-1],)
        hidden, last = torch.gru(
            inputs, before.unsqueeze(0), weights, True, 1, 0.0, self.training, False, False
        )
        return hidden, (last[0],)
