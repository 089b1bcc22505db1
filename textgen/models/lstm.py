"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

import torch
from torch import Tensor, nn

from textgen.models.recurrent import LayerState, LayerWeights, RecurrentModel, RecurrentState


class LSTMState(RecurrentState):
    """Hidden state and cell of each layer."""

    parts = ("hidden", "cell")


class LSTMModel(RecurrentModel):
    """Stacked LSTM layers."""

    gates = 4
    state_type = LSTMState

    def make_layer(self, inputs: int, units: int) -> nn.LSTM:
        return nn.LSTM(inputs, units)

    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        before = [part.unsqueeze(0) for part in state]
        # oneDNN is used on a CPU only for unpacked inputs and without projections.
        outputs, hidden, cell = torch.lstm(
            inputs, before, weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, (hidden[0], cell[0])
