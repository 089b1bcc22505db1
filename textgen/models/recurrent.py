"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

import torch
from torch import Tensor, nn

from textgen.models.base import Stepper
from textgen.models.recurrent_state import LayerState, RecurrentState
from textgen.models.recurrent_stepper import RecurrentStepper
from textgen.models.stacked import LayerWeights, StackedModel


class LSTMModel(StackedModel):
    """Stacked LSTM layers."""

    gates = 4
    state_type = RecurrentState

    def layer(self, below: int, units: int) -> nn.LSTM:
        return nn.LSTM(below, units)

    def through(
        self, weights: LayerWeights, features: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        start = [part.unsqueeze(0) for part in before]
        # It takes oneDNN's path on a CPU only unpacked and without projections.
        features, hidden, cell = torch.lstm(
            features, start, weights, True, 1, 0.0, self.training, False, False
        )
        return features, (hidden[0], cell[0])

    def stepper(self, *, fast: bool = False) -> Stepper:
        return RecurrentStepper(self, fast=fast)
