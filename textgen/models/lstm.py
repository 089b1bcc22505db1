"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

import torch
from torch import Tensor, nn

from textgen.inference.steppers import RecurrentStepper
from textgen.models.base import Stepper
from textgen.models.recurrent import LayerWeights, StackedModel
from textgen.models.state import LayerState, RecurrentState


class LSTMModel(StackedModel):
    """Stacked LSTM layers."""

    gates = 4
    state_type = RecurrentState

    def layer(self, below: int, units: int) -> nn.LSTM:
        return nn.LSTM(below, units)

    def through(
        self, weights: LayerWeights, outputs: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        start = [part.unsqueeze(0) for part in before]
        # It takes oneDNN's path on a CPU only unpacked and without projections.
        outputs, hidden, cell = torch.lstm(
            outputs, start, weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, (hidden[0], cell[0])

    def stepper(self, *, fast: bool = False) -> Stepper:
        return RecurrentStepper(self, fast=fast)
