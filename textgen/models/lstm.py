"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

import torch
from torch import nn

from textgen.models.recurrent import RecurrentModel, RecurrentState


class LSTMState(RecurrentState):
    """Hidden state and cell of each layer."""

    parts = ("hidden", "cell")


class LSTMModel(RecurrentModel):
    """Stacked LSTM layers."""

    layer_type, kernel, gates = nn.LSTM, torch.lstm, 4
    state_type = LSTMState
