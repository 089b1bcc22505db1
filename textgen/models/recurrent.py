"""What recurrent networks share: embedding or one-hot input, stacked layers, output layer."""

import itertools
import math
from abc import abstractmethod
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.models.base import Dropout, IdArray, Model, State, init_output_bias
from textgen.models.state import HiddenState, LayerState

MOST_COLUMNS = 512
"""Of more tokens than this, one-hot vectors are made of those alone that a window has."""

_COLUMNS_STEP = 128  # oneDNN prepares itself for each width it meets


class OneHot(nn.Module):
    """ids (...) -> (..., vocabulary), 1 at the id and 0 elsewhere. It has no weights."""

    weight: ClassVar[None] = None

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding_dim = vocabulary_size
        self.register_buffer("one", torch.ones(()), persistent=False)  # whose type is the model's

    def forward(self, ids: Tensor) -> Tensor:
        return self._made(ids, self.embedding_dim)

    def given(self, ids: Tensor, from_below: Tensor) -> tuple[Tensor, Tensor]:
        """What a layer is given, and the columns of its weights that this is multiplied by.

        ids (time, batch), from_below (rows, vocabulary) -> (time, batch, columns),
        (rows, columns). Where tokens are many, the columns are of those that are there: the
        others would be multiplied by zeros.
        """
        if self.embedding_dim <= MOST_COLUMNS:
            return self(ids), from_below
        distinct, places = torch.unique(ids, return_inverse=True)
        columns = functional.pad(distinct, (0, -len(distinct) % _COLUMNS_STEP))
        return self._made(places, len(columns)), from_below[:, columns]

    def _made(self, ids: Tensor, width: int) -> Tensor:
        zeros = cast(Tensor, self.one).new_zeros(*ids.shape, width)
        return zeros.scatter_(-1, ids.unsqueeze(-1), 1)


def input_module(config: ModelConfig) -> nn.Embedding | OneHot:
    """ids (...) -> (..., width), with the ``embedding_dim`` that is ``input_width``."""
    if config.embedding_size == 0:
        return OneHot(config.vocabulary_size)
    assert config.embedding_size is not None
    embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
    embedding.weight.requires_grad = not config.freeze_embeddings
    return embedding


def input_width(config: ModelConfig) -> int:
    return config.embedding_size or config.vocabulary_size


def input_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The weights of ``input_module``, where a model has it as ``embedding``."""
    if config.embedding_size == 0:
        return {}
    return {"embedding.weight": (config.vocabulary_size, input_width(config))}


@torch.no_grad()
def draw_inputs(inputs: nn.Embedding | OneHot, generator: torch.Generator, *, tied: bool) -> None:
    """Draw an embedding; one that is the output's matrix too, small enough for that."""
    if isinstance(inputs, nn.Embedding):
        spread = inputs.embedding_dim**-0.5 if tied else 1.0
        inputs.weight.normal_(0, spread, generator=generator)


@torch.no_grad()
def begin_with_vectors(
    embedding: Tensor, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> None:
    """Put vectors (some ids, width) into a drawn embedding (id, width); the others become as large.

    So none is louder than another for having been drawn.
    """
    given = torch.from_numpy(vectors).to(embedding)
    size, drawn = (rows.square().mean().sqrt() for rows in (given, embedding))
    if size > 0:
        embedding.mul_(size / drawn)
    embedding[torch.from_numpy(ids)] = given


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
        self, weights: LayerWeights, hidden: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        """hidden (time, batch, below) -> (time, batch, units), and the layer's state after."""

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
    def matmul_parameters(cls, config: ModelConfig) -> int:
        weights = super().matmul_parameters(config)
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
        init_output_bias(self.output.bias, ids)

    def start(self, batch: int) -> HiddenState:
        def zeros(units: int) -> LayerState:
            zero = torch.zeros(batch, units, dtype=self.dtype, device=self.device)
            return tuple(zero.clone() for _ in self.state_type.parts)

        return self.state_type.of(map(zeros, self._sizes))

    def restore(self, tensors: dict[str, Tensor]) -> HiddenState:
        names = self.start(1).named
        return self.state_type({name: tensors[name] for name in names})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, HiddenState]:
        return self.read_through(self.layers, ids, state, dropout)

    def read_through(
        self, layers: nn.ModuleList, ids: Tensor, state: State, dropout: Dropout | None
    ) -> tuple[Tensor, HiddenState]:
        """As ``hidden``, by some layers."""
        weights: list[LayerWeights] = [tuple(layer.parameters()) for layer in layers]
        if isinstance(self.embedding, OneHot):
            from_below, *others = weights[0]
            hidden, from_below = self.embedding.given(ids, from_below)
            weights[0] = (from_below, *others)
        else:
            hidden = self.embedding(ids)  # (time, batch, width)
        after = []
        for layer, before in zip(weights, cast(HiddenState, state).layers, strict=True):
            if dropout is not None:
                hidden = dropout(hidden)
            hidden, layer_after = self.through(layer, hidden, before)
            after.append(layer_after)
        if dropout is not None:
            hidden = dropout(hidden)
        return hidden, self.state_type.of(after)

    def logits(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.output(hidden))
