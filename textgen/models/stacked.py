"""What recurrent networks share: embedding or one-hot input, stacked layers, output layer."""

import itertools
import math
from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from textgen.config import ModelConfig
from textgen.models.base import IdArray, Model, Noise, State
from textgen.models.frequencies import begin_with_frequencies
from textgen.models.inputs import (
    MOST_COLUMNS,
    OneHot,
    draw_inputs,
    input_module,
    input_shapes,
    input_width,
)
from textgen.models.recurrent_state import HiddenState, LayerState

LayerWeights = tuple[Tensor, ...]
"""(rows, below), (rows, units) and two biases (rows,), the rows being ``gates`` of each unit."""


class StackedModel(Model):
    """Layers of one kind whose sizes may differ, one above the other; the output tied or not.

    gates: how many rows each unit has in a layer's matrices. state_type: what it remembers.
    """

    gates: ClassVar[int]
    state_type: ClassVar[type[HiddenState]] = HiddenState

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.hidden_size is not None
        self._sizes = config.hidden_size
        self.embedding = input_module(config)
        self.layers = self.stack()
        self.output = nn.Linear(self._sizes[-1], config.vocabulary_size)
        if config.tie:
            assert isinstance(self.embedding, nn.Embedding)
            self.output.weight = self.embedding.weight

    def stack(self) -> nn.ModuleList:
        """Layers of the sizes that are asked for, the lowest first."""
        sizes = (input_width(self.config), *self._sizes)
        return nn.ModuleList(itertools.starmap(self.layer, itertools.pairwise(sizes)))

    @abstractmethod
    def layer(self, below: int, units: int) -> nn.RNNBase:
        """One layer: (time, batch, below) -> (time, batch, units)."""

    @abstractmethod
    def through(
        self, weights: LayerWeights, features: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        """features (time, batch, below) -> (time, batch, units), and the layer's state after."""

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.hidden_size is not None
        shapes, below = input_shapes(config), input_width(config)
        for index, units in enumerate(config.hidden_size):
            layer, rows = f"layers.{index}", cls.gates * units
            shapes[f"{layer}.weight_ih_l0"] = (rows, below)
            shapes[f"{layer}.weight_hh_l0"] = (rows, units)
            shapes[f"{layer}.bias_ih_l0"] = shapes[f"{layer}.bias_hh_l0"] = (rows,)
            below = units
        if not config.tie:
            shapes["output.weight"] = (config.vocabulary_size, below)
        return shapes | {"output.bias": (config.vocabulary_size,)}

    @classmethod
    def multiplied(cls, config: ModelConfig) -> int:
        weights = super().multiplied(config)
        if config.embedding_size != 0:
            return weights
        rows, columns = cls.shapes(config)["layers.0.weight_ih_l0"]
        return weights - rows * max(0, columns - MOST_COLUMNS)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        draw_inputs(self.embedding, generator, tied=bool(self.config.tie))
        if not self.config.tie:
            bound = self.output.in_features**-0.5
            self.output.weight.uniform_(-bound, bound, generator=generator)
        self.output.bias.zero_()
        self.draw_layers(self.layers, generator)

    @torch.no_grad()
    def draw_layers(self, layers: nn.ModuleList, generator: torch.Generator) -> None:
        """Orthogonal recurrence (Saxe et al. 2014); units with gates keep what they are.

        The second gate of a GRU as of an LSTM is the one that keeps: its bias is 1 (Jozefowicz et
        al. 2015).
        """
        for index, layer in enumerate(layers):
            from_below, from_before, bias, second_bias = layer.parameters()
            # Of a one-hot vector a single number is not zero.
            one_hot = index == 0 and self.config.embedding_size == 0
            bound = math.sqrt(0.75 / (1 if one_hot else from_below.shape[1]))
            from_below.uniform_(-bound, bound, generator=generator)
            for gate in from_before.chunk(self.gates):
                nn.init.orthogonal_(gate, generator=generator)
            bias.zero_()
            second_bias.zero_()
            if self.gates > 1:
                bias.chunk(self.gates)[1].fill_(1.0)

    def read(self, ids: IdArray) -> None:
        begin_with_frequencies(self.output.bias, ids)

    def start(self, batch: int) -> HiddenState:
        def zeros(units: int) -> LayerState:
            zero = torch.zeros(batch, units, dtype=self.dtype, device=self.device)
            return tuple(zero.clone() for _ in self.state_type.parts)

        return self.state_type.of(map(zeros, self._sizes))

    def restore(self, tensors: dict[str, Tensor]) -> HiddenState:
        names = self.start(1).named
        return self.state_type({name: tensors[name] for name in names})

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, HiddenState]:
        return self.read_through(self.layers, ids, state, noise)

    def read_through(
        self, layers: nn.ModuleList, ids: Tensor, state: State, noise: Noise | None
    ) -> tuple[Tensor, HiddenState]:
        """As ``features``, by some layers."""
        weights: list[LayerWeights] = [tuple(layer.parameters()) for layer in layers]
        if isinstance(self.embedding, OneHot):
            from_below, *others = weights[0]
            features, from_below = self.embedding.given(ids, from_below)
            weights[0] = (from_below, *others)
        else:
            features = self.embedding(ids)  # (time, batch, width)
        after = []
        for layer, before in zip(weights, cast(HiddenState, state).layers, strict=True):
            if noise is not None:
                features = noise(features)
            features, layer_after = self.through(layer, features, before)
            after.append(layer_after)
        if noise is not None:
            features = noise(features)
        return features, self.state_type.of(after)

    def logits(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.output(features))
