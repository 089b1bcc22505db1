"""The GRU language model (Cho et al. 2014; Chung et al. 2014)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.inference.steppers import CellStepper, CellWeights
from textgen.models.recurrent import LayerWeights, StackedModel
from textgen.models.scan import GRUScan, gru_gates, pays
from textgen.models.state import LayerState


class GRUModel(StackedModel):
    """Stacked GRU layers."""

    gates = 3

    def layer(self, below: int, units: int) -> nn.GRU:
        return nn.GRU(below, units)

    def through(
        self, weights: LayerWeights, outputs: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        (hidden,) = before
        if pays(outputs):
            from_below, from_before, bias, second_bias = weights
            given = functional.linear(outputs, from_below, bias)
            read: Tensor = GRUScan.apply(given, hidden, from_before, second_bias)  # type: ignore[no-untyped-call]
            return read, (read[-1],)
        outputs, last = torch.gru(
            outputs, hidden.unsqueeze(0), weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, (last[0],)

    def stepper(self, *, fast: bool = False) -> CellStepper:
        return CellStepper(self, _step)


def _step(weights: CellWeights, given: Tensor, before: Tensor) -> Tensor:
    product = torch.addmm(weights.bias, before, weights.from_before)
    return torch.lerp(*gru_gates(given, before, product, torch.empty_like(product)))
