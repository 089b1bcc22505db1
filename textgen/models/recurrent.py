"""What recurrent networks share: embedding or one-hot input, stacked layers, output layer."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import RecurrentConfig
from textgen.errors import UsageError
from textgen.models.base import (
    Dropout,
    HiddenStates,
    IdArray,
    Model,
    State,
    init_output_bias,
)
from textgen.models.device import size_on

MAX_ONE_HOT_WIDTH = 512
"""With a larger vocabulary, one-hot vectors have columns only for the tokens of the window.

A GPU would have to wait to know these: there the limit is higher (``size_on``).
"""

_WIDTH_MULTIPLE = 128  # oneDNN compiles a kernel for each width


class OneHot(nn.Module):
    """ids (...) -> (..., vocabulary), 1 at the id and 0 elsewhere. It has no weights."""

    weight: ClassVar[None] = None

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding_dim = vocabulary_size
        self.register_buffer("one", torch.ones(()), persistent=False)  # has the model's dtype

    def forward(self, ids: Tensor, width: int | None = None) -> Tensor:
        zeros = cast(Tensor, self.one).new_zeros(*ids.shape, width or self.embedding_dim)
        return zeros.scatter_(-1, ids.unsqueeze(-1), 1)

    def vectors_and_weight(self, ids: Tensor, weight_ih: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot vectors (time, batch, columns) and the weights to multiply by (rows, columns).

        With a large vocabulary both have columns only for the tokens that occur.
        """
        if self.embedding_dim <= size_on(ids.device, MAX_ONE_HOT_WIDTH):
            return self(ids), weight_ih
        distinct, places = torch.unique(ids, return_inverse=True)
        columns = functional.pad(distinct, (0, -len(distinct) % _WIDTH_MULTIPLE))
        return self(places, len(columns)), weight_ih[:, columns]


@torch.no_grad()
def set_word_vectors(
    embedding: Tensor, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> None:
    """Put word vectors into an initialized embedding, and scale its other rows to their size.

    embedding: (vocabulary, width), changed in place. ids: (words,), the row of each vector.
    """
    given = torch.from_numpy(vectors).to(embedding)
    size, initial_size = (rows.square().mean().sqrt() for rows in (given, embedding))
    if size > 0:
        embedding.mul_(size / initial_size)
    embedding[torch.from_numpy(ids)] = given


LayerState = tuple[Tensor, ...]
"""The parts of a layer's state, each (batch, units)."""

LayerWeights = tuple[Tensor, ...]
"""weight_ih (rows, inputs), weight_hh (rows, units), bias_ih and bias_hh (rows,)."""


class RecurrentState(State):
    """For each layer its ``parts``, each (batch, units)."""

    parts: ClassVar[tuple[str, ...]] = ("hidden",)

    @classmethod
    def of(cls, layers: Iterable[LayerState]) -> Self:
        return cls(
            {
                f"{part}.{index}": rows
                for index, layer in enumerate(layers)
                for part, rows in zip(cls.parts, layer, strict=True)
            }
        )

    @property
    def layers(self) -> tuple[LayerState, ...]:
        return tuple(
            tuple(self.named[f"{part}.{index}"] for part in self.parts)
            for index in range(len(self.named) // len(self.parts))
        )


class RecurrentModel(Model):
    """Stacked layers of one kind, whose sizes may differ.

    layer_type: holds the weights of a layer. kernel: what runs it. gates: the number of rows that
    a unit has in its matrices.
    """

    config: RecurrentConfig
    layer_type: ClassVar[type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]]
    kernel: Callable[..., tuple[Tensor, ...]]
    gates: ClassVar[int]
    state_type: ClassVar[type[RecurrentState]] = RecurrentState

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embedding: nn.Embedding | OneHot
        if config.embedding_size == 0:
            self.embedding = OneHot(config.vocabulary_size)
        else:
            self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
            self.embedding.weight.requires_grad = not config.freeze_embeddings
        self.layers = self.make_layers()
        self.output = nn.Linear(config.hidden_size[-1], config.vocabulary_size)
        if isinstance(self.embedding, nn.Embedding) and config.tie:
            self.output.weight = self.embedding.weight

    @property
    def has_fixed_shapes(self) -> bool:
        widest = size_on(self.device, MAX_ONE_HOT_WIDTH)
        return not isinstance(self.embedding, OneHot) or self.embedding.embedding_dim <= widest

    def make_layers(self) -> nn.ModuleList:
        """Layers of the configured sizes, the lowest first."""
        sizes = (self.embedding.embedding_dim, *self.config.hidden_size)
        return nn.ModuleList(itertools.starmap(self.layer_type, itertools.pairwise(sizes)))

    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """inputs (time, batch, inputs) -> hidden states (time, batch, units), next state."""
        before = [part.unsqueeze(0) for part in state]
        # oneDNN is used on a CPU only for unpacked inputs and without projections.
        hidden, *after = self.kernel(
            inputs,
            before if len(before) > 1 else before[0],
            weights,
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        return hidden, tuple(part[0] for part in after)

    def matmul_parameters(self) -> int:
        weights = super().matmul_parameters()
        if self.config.tie:
            return weights + self.output.weight.numel()
        if isinstance(self.embedding, OneHot):
            rows, columns = next(self.layers[0].parameters()).shape
            weights -= rows * max(0, columns - MAX_ONE_HOT_WIDTH)
        return weights

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        if isinstance(self.embedding, nn.Embedding):
            # Tied to the output, it also starts small.
            deviation = self.embedding.embedding_dim**-0.5 if self.config.tie else 1.0
            self.embedding.weight.normal_(0, deviation, generator=generator)
        if not self.config.tie:
            bound = self.output.in_features**-0.5
            self.output.weight.uniform_(-bound, bound, generator=generator)
        self.output.bias.zero_()
        self.initialize_layers(self.layers, generator)

    @torch.no_grad()
    def initialize_layers(self, layers: nn.ModuleList, generator: torch.Generator) -> None:
        """Orthogonal recurrence (Saxe et al. 2014), and gates that preserve the state.

        The second gate, an LSTM's forget gate and a GRU's update gate, has bias 1 (Jozefowicz et
        al. 2015).
        """
        for index, layer in enumerate(layers):
            weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
            # Only one number of a one-hot vector is not zero.
            one_hot = index == 0 and isinstance(self.embedding, OneHot)
            bound = math.sqrt(0.75 / (1 if one_hot else weight_ih.shape[1]))
            weight_ih.uniform_(-bound, bound, generator=generator)
            for gate in weight_hh.chunk(self.gates):
                nn.init.orthogonal_(gate, generator=generator)
            bias_ih.zero_()
            bias_hh.zero_()
            if self.gates > 1:
                bias_ih.chunk(self.gates)[1].fill_(1.0)

    def initialize_from_text(self, ids: IdArray) -> None:
        init_output_bias(self.output.bias, ids)

    def start(self, batch: int) -> RecurrentState:
        zeros, parts = self.output.bias.new_zeros, self.state_type.parts
        sizes = self.config.hidden_size
        return self.state_type.of(tuple(zeros(batch, units) for _ in parts) for units in sizes)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, RecurrentState]:
        return self.run_layers(self.layers, ids, state, dropout)

    def run_layers(
        self, layers: nn.ModuleList, ids: Tensor, state: State, dropout: Dropout | None
    ) -> tuple[Tensor, RecurrentState]:
        """As ``hidden_states``, through these layers.

        Raises:
            UsageError: The ids are not (time, batch), or the state is not of this batch.
        """
        weights: list[LayerWeights] = [tuple(layer.parameters()) for layer in layers]
        if ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise UsageError(f"ids must be integers (time, batch), got {_described(ids)}")
        for (_, weight_hh, *_), before in zip(
            weights, cast(RecurrentState, state).layers, strict=True
        ):
            # PyTorch's kernels take the sizes of the state for granted.
            if any(each.shape != (ids.shape[1], weight_hh.shape[1]) for each in before):
                raise UsageError(
                    f"the state is {_described(before[0])}",
                    why=f"the ids are (time, batch) {tuple(ids.shape)}",
                    fix="start it with the batch of the ids",
                )
        if isinstance(self.embedding, OneHot):
            weight_ih, *others = weights[0]
            hidden, weight_ih = self.embedding.vectors_and_weight(ids, weight_ih)
            weights[0] = (weight_ih, *others)
        else:
            hidden = self.embedded(ids, state, dropout)
        states = []
        for layer, before in zip(weights, cast(RecurrentState, state).layers, strict=True):
            if dropout is not None:
                hidden = dropout(hidden)
            hidden, after = self.run_layer(layer, hidden, before)
            states.append(after)
        if dropout is not None:
            hidden = dropout(hidden)
        return hidden, self.state_type.of(states)

    def embedded(self, ids: Tensor, state: State, dropout: Dropout | None = None) -> Tensor:
        """The input of the first layer (time, batch, width) for ids (time, batch)."""
        return cast(Tensor, self.embedding(ids))

    @property
    def output_layer(self) -> nn.Linear:
        return self.output

    def logits(self, hidden: HiddenStates) -> Tensor:
        return cast(Tensor, self.output(hidden))


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def scan_is_faster(inputs: Tensor) -> bool:
    """Whether a layer with such inputs is trained faster with its gradients in closed form.

    On a CPU, autograd adds to the gradient of the weights at each step, and ``nn.RNN`` and
    ``nn.GRU`` take 1.7 and 1.1 times as long as ``RNNScan`` and ``GRUScan``
    (``benchmarks/cells.py``). In these only the gradient of the state goes from step to step
    (Werbos 1990); that of the weights is one product over the whole window.

    Their arguments are the gate inputs, weight_ih x + bias, (time, batch, gates * units), and a
    start state (batch, units); their results are the hidden states (time, batch, units).
    """
    on_cpu = inputs.device.type == "cpu"
    return on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
