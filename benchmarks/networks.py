"""Networks that were tried in place of textgen's own, for ``studies.py`` to name."""

from typing import cast

from torch import Tensor, nn

from textgen.config import ModelConfig
from textgen.models import Noise, State
from textgen.models.recurrent import LSTMModel, RecurrentState


class Watched(LSTMModel):
    """An LSTM that lets a penalty see its last features."""

    seen: Tensor

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, RecurrentState]:
        self.seen, following = super().features(ids, state, noise)
        return self.seen, following


class OutputNoise(LSTMModel):
    """Dropout after the last layer alone, none on the embedding or between layers."""

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, RecurrentState]:
        features, following = super().features(ids, state)
        return features if noise is None else noise(features), following


class Deep(LSTMModel):
    """Layers with residual connections, and layer normalisation between them where asked."""

    normalised = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norms = nn.ModuleList(nn.LayerNorm(units) for units in config.hidden_size)

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, RecurrentState]:
        features = self.embedding(ids)
        following = []
        layer_states = cast(RecurrentState, state).layers
        for layer, norm, (hidden, cell) in zip(self.layers, self.norms, layer_states, strict=True):
            below = noise(features) if noise is not None else features
            above, (hidden, cell) = layer(below, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            features = above + features if above.shape == features.shape else above
            features = norm(features) if self.normalised else features
            following.append((hidden[0], cell[0]))
        if noise is not None:
            features = noise(features)
        return features, RecurrentState.of(following)


class DeepNormalised(Deep):
    normalised = True
