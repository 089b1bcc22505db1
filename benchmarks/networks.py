"""Networks that were tried in place of those of textgen; ``studies.py`` names them."""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from textgen.config import LSTMConfig
from textgen.models import Dropout, State
from textgen.models.base import HiddenStates
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


class Smeared(LSTMModel):
    """To each embedding is added that of the token before, by a gate (modded-nanogpt's "smear").

    It needs n-gram embeddings, whose state has the ids of the tokens before.
    """

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.smear = nn.Linear(config.embedding_size, 1)
        nn.init.zeros_(self.smear.weight)
        nn.init.constant_(self.smear.bias, -2.0)

    def embedded(self, ids: Tensor, state: State, dropout: Dropout | None = None) -> Tensor:
        vectors = super().embedded(ids, state, dropout)
        before = state.named["ids"][:, -1]
        first = self.embedding(before.clamp(min=0)) * (before >= 0).unsqueeze(-1)
        earlier = torch.cat([first.unsqueeze(0), vectors[:-1]])
        return vectors + self.smear(vectors).sigmoid() * earlier


class SoftCapped(LSTMModel):
    """Logits between -cap and cap by a tanh (Gemma 2; modded-nanogpt)."""

    cap: ClassVar[float] = 15.0

    def logits(self, hidden: HiddenStates) -> Tensor:
        return self.cap * torch.tanh(super().logits(hidden) / self.cap)


class SoftCapped30(SoftCapped):
    cap = 30.0


class Mogrified(LSTMModel):
    """Input and hidden state gate each other before each step (Melis et al. 2020); one layer."""

    rounds = 4

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.input_gates, self.hidden_gates = (
            nn.ModuleList(nn.Linear(inputs, outputs) for _ in range(self.rounds // 2))
            for inputs, outputs in (
                (config.hidden_size[0], config.embedding_size),
                (config.embedding_size, config.hidden_size[0]),
            )
        )

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, LSTMState]:
        vectors = self.embedded(ids, state, dropout)
        if dropout is not None:
            vectors = dropout(vectors)
        (layer,), ((hidden, cell),) = self.layers, cast(LSTMState, state).layers
        weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
        outputs = []
        for vector in vectors:
            for by_hidden, by_input in zip(self.input_gates, self.hidden_gates, strict=True):
                vector = 2 * by_hidden(hidden).sigmoid() * vector
                hidden = 2 * by_input(vector).sigmoid() * hidden
            hidden, cell = torch.lstm_cell(vector, (hidden, cell), *weights)
            outputs.append(hidden)
        stacked = torch.stack(outputs)
        after = LSTMState.of([(hidden, cell)])
        if self.ngram_embedding is not None:
            text = torch.cat([state.named["ids"].T, ids])
            after = after.after(text[len(ids) :].T.contiguous())
        return stacked if dropout is None else dropout(stacked), after
