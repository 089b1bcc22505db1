"""An LSTM read one token a row at a time.

``nn.LSTM`` packs its weights anew at every call, which for a single token is most of the time.
Here a layer is one product of its input and its last output, side by side, with one matrix, and
all is written into memory that was set aside before.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from textgen.models.base import State, Stepper
from textgen.models.recurrent_state import RecurrentState

if TYPE_CHECKING:
    from textgen.models.recurrent import LSTMModel

_LARGEST_TABLE = 2**24  # numbers: 64 MB of float32


class RecurrentStepper(Stepper):
    """Holds prepared copies of the weights: a model that learns on needs a new one."""

    @torch.no_grad()
    def __init__(self, model: "LSTMModel") -> None:
        self._embedding = model.embedding.weight.detach()
        self._weight, self._bias = model.output.weight.detach(), model.output.bias.detach()
        self._layers: list[_Layer] = []
        for layer in model.layers:
            from_below, from_before, bias, second_bias = (
                _candidate_last(weights) for weights in layer.parameters()
            )
            bias = bias + second_bias
            table = None
            if not self._layers and len(self._embedding) * len(bias) <= _LARGEST_TABLE:
                # Of few tokens, what each gives the first layer is known beforehand.
                table = torch.addmm(bias, self._embedding, from_below.T)
                matrix = from_before
            else:
                matrix = torch.cat([from_below, from_before], 1)
            self._layers.append(_Layer(matrix.contiguous(), bias, table))
        self.state = model.start(1)

    @property
    def state(self) -> RecurrentState:
        return RecurrentState(
            tuple((layer.hidden.clone(), layer.cell.clone()) for layer in self._layers)
        )

    @state.setter
    def state(self, state: State) -> None:
        pairs = cast(RecurrentState, state).layers
        for layer, (hidden, cell) in zip(self._layers, pairs, strict=True):
            layer.set_aside(len(hidden))
            layer.hidden.copy_(hidden)
            layer.cell.copy_(cell)
        self._logits = self._weight.new_empty(len(pairs[0][0]), len(self._bias))

    def step(self, ids: Tensor) -> Tensor:
        below = None if self._layers[0].table is not None else self._embedding[ids]
        for layer in self._layers:
            below = layer.step(ids, below)
        assert below is not None
        if len(below) == 1:
            torch.addmv(self._bias, self._weight, below[0], out=self._logits[0])
        else:
            torch.addmm(self._bias, below, self._weight.T, out=self._logits)
        return self._logits


class _Layer:
    """One layer: matrix (4 units, inputs), the gates in the order admit, forget, expose, candidate.

    table: (vocabulary, 4 units) what each token gives the gates; the inputs are then the layer's
    last output alone, and else the output below and that.
    """

    hidden: Tensor
    cell: Tensor

    def __init__(self, matrix: Tensor, bias: Tensor, table: Tensor | None) -> None:
        self.table = table
        self._matrix, self._bias = matrix, bias
        self._units = len(bias) // 4

    def set_aside(self, batch: int) -> None:
        """Memory for so many rows, and the views of it that a step writes through."""
        units, inputs = self._units, self._matrix.shape[1]
        self._inputs = self._matrix.new_empty(batch, inputs)
        self._below = self._inputs[:, : inputs - units]
        self.hidden = self._inputs[:, inputs - units :]
        self.cell = self._matrix.new_empty(batch, units)
        self._gates = self._matrix.new_empty(batch, 4 * units)
        self._opening = self._gates[:, : 3 * units]
        self._admit, self._forget, self._expose, self._candidate = self._gates.chunk(4, 1)

    def step(self, ids: Tensor, below: Tensor | None) -> Tensor:
        """ids (batch,), or the output below (batch, units below) -> this one's (batch, units)."""
        alone = len(self._inputs) == 1  # a product with a vector is the faster for it
        if self.table is not None:
            torch.index_select(self.table, 0, ids, out=self._gates)
            if alone:
                self._gates[0].addmv_(self._matrix, self._inputs[0])
            else:
                self._gates.addmm_(self._inputs, self._matrix.T)
        else:
            assert below is not None
            self._below.copy_(below)
            if alone:
                torch.addmv(self._bias, self._matrix, self._inputs[0], out=self._gates[0])
            else:
                torch.addmm(self._bias, self._inputs, self._matrix.T, out=self._gates)
        self._opening.sigmoid_()
        self._candidate.tanh_()
        self.cell.mul_(self._forget).addcmul_(self._admit, self._candidate)
        torch.tanh(self.cell, out=self.hidden).mul_(self._expose)
        return self.hidden


def _candidate_last(weights: Tensor) -> Tensor:
    """The gates of nn.LSTM (admit, forget, candidate, expose) with those that open first."""
    admit, forget, candidate, expose = weights.chunk(4)
    return torch.cat([admit, forget, expose, candidate])
