"""An LSTM read one token a row at a time by PyTorch's own operators.

``nn.LSTM`` packs its weights anew at every call, which for a single token is most of the time.
"""

from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from textgen.models.base import State, Stepper
from textgen.models.recurrent_state import HiddenState, RecurrentState
from textgen.models.step_weights import LayerWeights, Matrix, StepWeights


class TorchStepper(Stepper):
    """Reads with prepared weights."""

    def __init__(self, weights: StepWeights, state: HiddenState) -> None:
        self._embedding, self._bias = weights.embedding, weights.bias
        self._last = _Product(weights.last)
        self._layers = [_Layer(each) for each in weights.layers]
        self._rows = 0
        self.state = state

    @property
    def state(self) -> RecurrentState:
        return RecurrentState.of(
            (layer.hidden.clone(), layer.cell.clone()) for layer in self._layers
        )

    @state.setter
    def state(self, state: State) -> None:
        pairs = cast(RecurrentState, state).layers
        rows = len(pairs[0][0])
        if rows != self._rows:
            for layer in self._layers:
                layer.set_aside(rows)
            self._logits = self._bias.new_empty(rows, len(self._bias))
            self._rows = rows
        for layer, (hidden, cell) in zip(self._layers, pairs, strict=True):
            layer.hidden.copy_(hidden)
            layer.cell.copy_(cell)

    def step(self, ids: Tensor) -> Tensor:
        below = None if self._embedding is None else self._embedding[ids]
        for layer in self._layers:
            below = layer.step(ids, below)
        assert below is not None
        return self._last.of(below, self._bias, self._logits)


class _Product:
    """A matrix (outputs, inputs) that many batches are multiplied by."""

    def __init__(self, matrix: Matrix) -> None:
        self._given = matrix
        self._packed: Tensor | None = None

    @cached_property
    def _matrix(self) -> Tensor:
        return self._given.whole().contiguous()

    def of(self, inputs: Tensor, plus: Tensor, out: Tensor) -> Tensor:
        """The product with inputs (batch, inputs), and ``plus``, (outputs,) or (batch, outputs).

        It is in ``out`` (batch, outputs), or elsewhere.
        """
        if len(inputs) == 1 or not _packs(self._matrix):  # one row reads it faster as it is
            return torch.addmm(plus, inputs, self._matrix.T, out=out)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._matrix)
        linear: Any = torch.ops.mkldnn._linear_pointwise
        if plus.ndim == 1:
            return cast(Tensor, linear(inputs, self._packed, plus, "none", [], ""))
        return cast(Tensor, linear.binary(inputs, plus, self._packed, None, "add"))


def _packs(matrix: Tensor) -> bool:
    """Whether oneDNN multiplies by this matrix, in an order of its own that it is packed in once.

    PyTorch's own products pack it at every call. The operators are those of its compiler.
    """
    if matrix.device.type != "cpu" or matrix.dtype != torch.float32:
        return False
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Layer:
    """One layer and its state."""

    hidden: Tensor
    cell: Tensor

    def __init__(self, weights: LayerWeights) -> None:
        self._weights, self._product = weights, _Product(weights.matrix)

    def set_aside(self, rows: int) -> None:
        """Memory for so many rows."""
        given, units = self._weights.given, self._weights.units
        self._inputs = given.new_empty(rows, self._weights.matrix.numbers.shape[1])
        self._below, self.hidden = self._inputs[:, :-units], self._inputs[:, -units:]
        self.cell = given.new_empty(rows, units)
        self._gates = given.new_empty(rows, 4 * units)

    def step(self, ids: Tensor, below: Tensor | None) -> Tensor:
        """ids (batch,), or the output below (batch, units below) -> this one's (batch, units)."""
        given, units = self._weights.given, self._weights.units
        if given.ndim == 2:
            given = given.index_select(0, ids)
        else:
            assert below is not None
            self._below.copy_(below)
        gates = self._product.of(self._inputs, given, self._gates)
        gates[:, : 3 * units].sigmoid_()
        admit, forget, expose, candidate = gates.chunk(4, 1)
        self.cell.mul_(forget).addcmul_(admit, candidate.tanh_())
        torch.tanh(self.cell, out=self.hidden).mul_(expose)
        return self.hidden
