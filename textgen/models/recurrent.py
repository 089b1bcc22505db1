"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

import itertools
import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from textgen.config import ModelConfig
from textgen.models.base import Model, Noise, State, Stepper
from textgen.models.recurrent_state import RecurrentState
from textgen.models.recurrent_stepper import RecurrentStepper


class LSTMModel(Model):
    """Embedding, stacked LSTM layers whose sizes may differ, output layer, tied or not."""

    kind: ClassVar[str] = "lstm"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.embedding_size is not None
        sizes = (config.embedding_size, *config.hidden_size)
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.layers = nn.ModuleList(itertools.starmap(nn.LSTM, itertools.pairwise(sizes)))
        self.output = nn.Linear(config.hidden_size[-1], config.vocabulary_size)
        if config.tie:
            self.output.weight = self.embedding.weight

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.embedding_size is not None
        vocabulary, below = config.vocabulary_size, config.embedding_size
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary, below)}
        for index, units in enumerate(config.hidden_size):
            layer, gates = f"layers.{index}", 4 * units
            shapes[f"{layer}.weight_ih_l0"] = (gates, below)
            shapes[f"{layer}.weight_hh_l0"] = (gates, units)
            shapes[f"{layer}.bias_ih_l0"] = shapes[f"{layer}.bias_hh_l0"] = (gates,)
            below = units
        if not config.tie:
            shapes["output.weight"] = (vocabulary, below)
        return shapes | {"output.bias": (vocabulary,)}

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Orthogonal recurrence (Saxe et al. 2014), forget-gate bias 1 (Jozefowicz et al. 2015)."""
        tied = bool(self.config.tie)
        width = self.embedding.embedding_dim
        self.embedding.weight.normal_(0, width**-0.5 if tied else 1.0, generator=generator)
        if not tied:
            bound = self.output.in_features**-0.5
            self.output.weight.uniform_(-bound, bound, generator=generator)
        self.output.bias.zero_()
        for layer, units in zip(self.layers, self.config.hidden_size, strict=True):
            from_below, from_before, bias, second_bias = layer.parameters()
            bound = math.sqrt(0.75 / from_below.shape[1])
            from_below.uniform_(-bound, bound, generator=generator)
            for gate in from_before.chunk(4):
                nn.init.orthogonal_(gate, generator=generator)
            bias.zero_()
            second_bias.zero_()
            bias[units : 2 * units] = 1.0

    @torch.no_grad()
    def expect(self, counts: Tensor) -> None:
        """Begin with the frequencies of the tokens, which Adam else takes long to arrive at.

        A bias moves by no more than the rate in an update, and that of a rare token has to
        fall by ten. What has been learned already is left as it is.
        """
        if not self.output.bias.any():
            smoothed = counts.to(self.output.bias) + 0.5
            self.output.bias.copy_((smoothed / smoothed.sum()).log())

    def start(self, batch: int) -> RecurrentState:
        def zeros(units: int) -> Tensor:
            return torch.zeros(batch, units, dtype=self.dtype, device=self.device)

        return RecurrentState(
            tuple((zeros(units), zeros(units)) for units in self.config.hidden_size)
        )

    def restore(self, tensors: dict[str, Tensor]) -> RecurrentState:
        return RecurrentState(
            tuple(
                (tensors[f"hidden.{index}"], tensors[f"cell.{index}"])
                for index in range(len(self.layers))
            )
        )

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, RecurrentState]:
        layer_states = cast(RecurrentState, state).layers
        features = self.embedding(ids)  # (time, batch, embedding)
        next_states = []
        for layer, (hidden, cell) in zip(self.layers, layer_states, strict=True):
            if noise is not None:
                features = noise(features)
            # nn.LSTM takes oneDNN's path on a CPU only unpacked and without projections.
            features, (hidden, cell) = layer(features, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            next_states.append((hidden[0], cell[0]))
        if noise is not None:
            features = noise(features)
        return features, RecurrentState(tuple(next_states))

    def logits(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.output(features))

    def stepper(self, *, fast: bool = False) -> Stepper:
        return RecurrentStepper(self, fast=fast)
