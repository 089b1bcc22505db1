"""Networks that were tried in place of textgen's own, for ``studies.py`` to name."""

from typing import cast

from torch import Tensor, nn

from textgen.config import RecurrentConfig
from textgen.models import Dropout, State
from textgen.models.lstm import LSTMModel, LSTMState


class Watched(LSTMModel):
    """An LSTM that lets a penalty see its last features."""

    seen: Tensor

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        self.seen, following = super().hidden_states(ids, state, dropout)
        return self.seen, following


class OutputNoise(LSTMModel):
    """Dropout after the last layer alone, none on the embedding or between layers."""

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        features, following = super().hidden_states(ids, state)
        return features if dropout is None else dropout(features), following


class Deep(LSTMModel):
    """Layers with residual connections, and layer normalisation between them where asked."""

    normalised = False

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.LayerNorm(units) for units in config.hidden_size)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        features = self.embedding(ids)
        following = []
        layer_states = cast(LSTMState, state).layers
        for layer, norm, (hidden, cell) in zip(self.layers, self.norms, layer_states, strict=True):
            below = dropout(features) if dropout is not None else features
            above, (hidden, cell) = layer(below, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            features = above + features if above.shape == features.shape else above
            features = norm(features) if self.normalised else features
            following.append((hidden[0], cell[0]))
        if dropout is not None:
            features = dropout(features)
        return features, LSTMState.of(following)


class DeepNormalised(Deep):
    normalised = True
