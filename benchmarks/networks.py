"""Networks that were tried in place of those of textgen; ``studies.py`` names them."""

from typing import cast

from torch import Tensor, nn

from textgen.config import LSTMConfig
from textgen.models import Dropout, State
from textgen.models.lstm import LSTMModel, LSTMState


class ObservedLSTM(LSTMModel):
    """An LSTM that keeps its last hidden states, for a penalty on them."""

    last_hidden: Tensor

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        self.last_hidden, following = super().hidden_states(ids, state, dropout)
        return self.last_hidden, following


class OutputDropout(LSTMModel):
    """Dropout after the last layer alone, none on the embedding or between layers."""

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        outputs, following = super().hidden_states(ids, state)
        return outputs if dropout is None else dropout(outputs), following


class Deep(LSTMModel):
    """Layers with residual connections, and optional layer normalisation between them."""

    normalised = False

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.LayerNorm(units) for units in config.hidden_size)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        outputs = self.embedding(ids)
        following = []
        layer_states = cast(LSTMState, state).layers
        for layer, norm, (hidden, cell) in zip(self.layers, self.norms, layer_states, strict=True):
            below = dropout(outputs) if dropout is not None else outputs
            above, (hidden, cell) = layer(below, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            outputs = above + outputs if above.shape == outputs.shape else above
            outputs = norm(outputs) if self.normalised else outputs
            following.append((hidden[0], cell[0]))
        if dropout is not None:
            outputs = dropout(outputs)
        return outputs, LSTMState.of(following)


class DeepNormalised(Deep):
    normalised = True
