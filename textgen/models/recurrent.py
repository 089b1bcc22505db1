"""What recurrent networks share: embedding or one-hot input, stacked layers, output layer."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import Activation, RecurrentConfig
from textgen.models.base import (
    Dropout,
    HiddenStates,
    IdArray,
    Model,
    State,
    TensorState,
    init_output_bias,
)

MAX_ONE_HOT_WIDTH = 512
"""With a larger vocabulary, one-hot vectors have columns only for the tokens of the window."""

_WIDTH_MULTIPLE = 128  # oneDNN compiles a kernel for each width


class OneHot(nn.Module):
    """ids (...) -> (..., vocabulary), 1 at the id and 0 elsewhere. It has no weights."""

    weight: ClassVar[None] = None

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding_dim = vocabulary_size
        self.register_buffer("one", torch.ones(()), persistent=False)  # has the model's dtype

    def forward(self, ids: Tensor) -> Tensor:
        return self._vectors(ids, self.embedding_dim)

    def vectors_and_weight(self, ids: Tensor, weight_ih: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot vectors and the weights to multiply them by.

        With a large vocabulary both have columns only for the tokens that occur, because all
        others would be multiplied by zeros.

        Args:
            ids: (time, batch).
            weight_ih: (rows, vocabulary).

        Returns:
            (time, batch, columns) and (rows, columns).
        """
        if self.embedding_dim <= MAX_ONE_HOT_WIDTH:
            return self(ids), weight_ih
        distinct, places = torch.unique(ids, return_inverse=True)
        columns = functional.pad(distinct, (0, -len(distinct) % _WIDTH_MULTIPLE))
        return self._vectors(places, len(columns)), weight_ih[:, columns]

    def _vectors(self, ids: Tensor, width: int) -> Tensor:
        zeros = cast(Tensor, self.one).new_zeros(*ids.shape, width)
        return zeros.scatter_(-1, ids.unsqueeze(-1), 1)


@torch.no_grad()
def set_word_vectors(
    embedding: Tensor, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> None:
    """Put word vectors into an initialized embedding, and scale its other rows to their size.

    Args:
        embedding: (vocabulary, width), changed in place.
        ids: (words,), the row of each vector.
        vectors: (words, width).
    """
    given = torch.from_numpy(vectors).to(embedding)
    size, initial_size = (rows.square().mean().sqrt() for rows in (given, embedding))
    if size > 0:
        embedding.mul_(size / initial_size)
    embedding[torch.from_numpy(ids)] = given


LayerState = tuple[Tensor, ...]
"""The parts of a layer's state, each (batch, units)."""

LayerWeights = tuple[Tensor, ...]
"""weight_ih (rows, inputs), weight_hh (rows, units), bias_ih and bias_hh (rows,); a unit has one
row for each gate."""


class RecurrentState(TensorState):
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

    gates: the number of rows that a unit has in a layer's matrices.
    """

    config: RecurrentConfig
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

    def make_layers(self) -> nn.ModuleList:
        """Layers of the configured sizes, the lowest first."""
        sizes = (self.embedding.embedding_dim, *self.config.hidden_size)
        return nn.ModuleList(itertools.starmap(self.make_layer, itertools.pairwise(sizes)))

    @abstractmethod
    def make_layer(self, inputs: int, units: int) -> nn.RNNBase:
        """One layer: (time, batch, inputs) -> (time, batch, units)."""

    @abstractmethod
    def run_layer(
        self, weights: LayerWeights, inputs: Tensor, state: LayerState
    ) -> tuple[Tensor, LayerState]:
        """inputs (time, batch, inputs) -> hidden states (time, batch, units), next state."""

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
        def zeros(units: int) -> LayerState:
            zero = torch.zeros(batch, units, dtype=self.dtype, device=self.device)
            return tuple(zero.clone() for _ in self.state_type.parts)

        return self.state_type.of(map(zeros, self.config.hidden_size))

    def restore(self, tensors: dict[str, Tensor]) -> RecurrentState:
        names = self.start(1).named
        return self.state_type({name: tensors[name] for name in names})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, RecurrentState]:
        return self.run_layers(self.layers, ids, state, dropout)

    def run_layers(
        self, layers: nn.ModuleList, ids: Tensor, state: State, dropout: Dropout | None
    ) -> tuple[Tensor, RecurrentState]:
        """As ``hidden_states``, through these layers."""
        weights: list[LayerWeights] = [tuple(layer.parameters()) for layer in layers]
        if isinstance(self.embedding, OneHot):
            weight_ih, *others = weights[0]
            hidden, weight_ih = self.embedding.vectors_and_weight(ids, weight_ih)
            weights[0] = (weight_ih, *others)
        else:
            hidden = self.embedding(ids)  # (time, batch, width)
        states = []
        for layer, before in zip(weights, cast(RecurrentState, state).layers, strict=True):
            if dropout is not None:
                hidden = dropout(hidden)
            hidden, after = self.run_layer(layer, hidden, before)
            states.append(after)
        if dropout is not None:
            hidden = dropout(hidden)
        return hidden, self.state_type.of(states)

    def logits(self, hidden: HiddenStates) -> Tensor:
        return cast(Tensor, self.output(hidden))


# GRU and plain recurrent layers with gradients in closed form, for training on a CPU.
#
# ``nn.RNN`` and ``nn.GRU`` are slower there: autograd adds to the gradient of the weights at each
# step, which reads and writes all of it. Here only the gradient of the state goes from step to step
# (Werbos 1990); the gradient of the weights is one product over the whole window. Against the
# modules, forward and backward take 1.7 times (RNN) and 1.1 times (GRU) as long there
# (``python benchmarks/cells.py``, ``benchmarks/results/cells.json``).
#
# Each function takes the gate inputs, weight_ih x + bias, (time, batch, gates * units), and a start
# state (batch, units), and returns the hidden states (time, batch, units).

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
}


def scan_is_faster(inputs: Tensor) -> bool:
    """Whether to use these functions for a layer with such inputs."""
    on_cpu = inputs.device.type == "cpu"
    return on_cpu and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class RNNScan(torch.autograd.Function):
    """h' = f(gate input + weight_hh h), where f is tanh or relu (Elman 1990)."""

    @staticmethod
    def forward(
        ctx: Any, gate_inputs: Tensor, start: Tensor, weight_hh: Tensor, activation: Activation
    ) -> Tensor:
        """weight_hh: (units, units)."""
        activate, hidden = ACTIVATIONS[activation], torch.empty_like(gate_inputs)
        before = start
        for gate_input, after in zip(gate_inputs, hidden, strict=True):
            before = activate(torch.addmm(gate_input, before, weight_hh.T, out=after))
        ctx.activation = activation
        ctx.save_for_backward(start, weight_hh, hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        start, weight_hh, hidden = ctx.saved_tensors
        slope = 1 - hidden.square() if ctx.activation == "tanh" else (hidden > 0).to(hidden)
        grad_inputs = torch.empty_like(hidden)
        grad_state = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            torch.mul(gradient[time] + grad_state, slope[time], out=grad_inputs[time])
            grad_state = grad_inputs[time] @ weight_hh
        return grad_inputs, grad_state, _grad_weight(grad_inputs, start, hidden), None


class GRUScan(torch.autograd.Function):
    """The GRU (Cho et al. 2014) with the reset gate after the product, as in cuDNN.

    With a = weight_ih x + bias_ih and p = weight_hh h + bias_hh, in rows of reset, update and
    candidate: reset r and update z = sigmoid(a + p); candidate n = tanh(a + r p);
    h' = (1 - z) n + z h.
    """

    @staticmethod
    def forward(
        ctx: Any, gate_inputs: Tensor, start: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> Tensor:
        """weight_hh: (3 units, units), bias_hh: (3 units,)."""
        units = start.shape[1]
        hidden = gate_inputs.new_empty(*gate_inputs.shape[:2], units)
        gates, products = torch.empty_like(gate_inputs), torch.empty_like(gate_inputs)
        before = start
        for gate_input, after, gate, product in zip(
            gate_inputs, hidden, gates, products, strict=True
        ):
            torch.addmm(bias_hh, before, weight_hh.T, out=product)
            candidate, update = gru_gates(gate_input, product, gate)
            before = torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(start, weight_hh, hidden, gates, products[..., 2 * units :])
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        start, weight_hh, hidden, gates, product = ctx.saved_tensors
        units = start.shape[1]
        reset, update, candidate = gates.split(units, -1)
        before = torch.cat([start.unsqueeze(0), hidden[:-1]])
        # d h' / d (input of each gate), elementwise.
        to_candidate = (1 - update) * (1 - candidate.square())
        to_update = (before - candidate) * update * (1 - update)
        to_reset = to_candidate * product * reset * (1 - reset)
        slopes = torch.cat([to_reset, to_update, to_candidate * reset], -1)
        slopes = slopes.view(*hidden.shape[:2], 3, units)
        grad_products, grad_hidden = torch.empty_like(slopes), torch.empty_like(hidden)
        grad_state = torch.zeros_like(start)
        for time in reversed(range(len(hidden))):
            total = torch.add(gradient[time], grad_state, out=grad_hidden[time])
            torch.mul(total.unsqueeze(1), slopes[time], out=grad_products[time])
            grad_state = torch.addmm(
                total * update[time], grad_products[time].flatten(1), weight_hh
            )
        grad_products = grad_products.flatten(2)
        grad_inputs = grad_products.clone()
        torch.mul(grad_hidden, to_candidate, out=grad_inputs[..., 2 * units :])
        grad_weight = _grad_weight(grad_products, start, hidden)
        return grad_inputs, grad_state, grad_weight, grad_products.sum((0, 1))


def gru_gates(gate_input: Tensor, product: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Compute candidate and update gate of one step, (batch, units) each.

    Args:
        gate_input: weight_ih x + bias_ih, (batch, 3 units).
        product: weight_hh h + bias_hh, (batch, 3 units).
        out: (batch, 3 units), receives reset, update, candidate.
    """
    units = product.shape[1] // 3
    reset_update, candidate = out[:, : 2 * units], out[:, 2 * units :]
    torch.add(gate_input[:, : 2 * units], product[:, : 2 * units], out=reset_update).sigmoid_()
    reset, update = reset_update.chunk(2, 1)
    torch.addcmul(gate_input[:, 2 * units :], reset, product[:, 2 * units :], out=candidate).tanh_()
    return candidate, update


def _grad_weight(grad_products: Tensor, start: Tensor, hidden: Tensor) -> Tensor:
    """The gradient of weight_hh, which multiplied the state before each step."""
    before = torch.cat([start.unsqueeze(0), hidden[:-1]])
    return grad_products.flatten(0, 1).T @ before.flatten(0, 1)
