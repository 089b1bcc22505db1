"""An LSTM read one token a row at a time.

``nn.LSTM`` packs its weights anew at every call, which for a single token is most of the time.
Here a layer is one product of its input and its last output, side by side, with one matrix.
"""

from typing import TYPE_CHECKING, Any, cast

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
        self._last = _Product(self._weight)
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
        self._logits = self._last.of(below, self._bias, self._logits)
        return self._logits


class _Product:
    """A matrix (outputs, inputs) that many batches are multiplied by."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self._packed: Tensor | None = None

    def of(self, inputs: Tensor, plus: Tensor, out: Tensor) -> Tensor:
        """The product with inputs (batch, inputs), and ``plus``, (outputs,) or (batch, outputs).

        It is in ``out`` (batch, outputs), or elsewhere.
        """
        if len(inputs) == 1:  # a product with a vector reads the matrix faster
            torch.addmv(plus.view(-1), self._matrix, inputs[0], out=out[0])
            return out
        if not _packs(self._matrix):
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
    """One layer: matrix (4 units, inputs), the gates in the order admit, forget, expose, candidate.

    table: (vocabulary, 4 units) what each token gives the gates; the inputs are then the layer's
    last output alone, and else the output below and that.
    """

    hidden: Tensor
    cell: Tensor

    def __init__(self, matrix: Tensor, bias: Tensor, table: Tensor | None) -> None:
        self.table = table
        self._bias, self._product = bias, _Product(matrix)
        self._units, self._inputs_size = len(bias) // 4, matrix.shape[1]

    def set_aside(self, batch: int) -> None:
        """Memory for so many rows."""
        inputs = self._inputs_size
        self._inputs = self._bias.new_empty(batch, inputs)
        self._below = self._inputs[:, : inputs - self._units]
        self.hidden = self._inputs[:, inputs - self._units :]
        self.cell = self._bias.new_empty(batch, self._units)
        self._gates = self._bias.new_empty(batch, 4 * self._units)

    def step(self, ids: Tensor, below: Tensor | None) -> Tensor:
        """ids (batch,), or the output below (batch, units below) -> this one's (batch, units)."""
        if self.table is not None:
            given = self.table[ids]
        else:
            assert below is not None
            self._below.copy_(below)
            given = self._bias
        gates = self._product.of(self._inputs, given, self._gates)
        gates[:, : 3 * self._units].sigmoid_()
        admit, forget, expose, candidate = gates.chunk(4, 1)
        self.cell.mul_(forget).addcmul_(admit, candidate.tanh_())
        torch.tanh(self.cell, out=self.hidden).mul_(expose)
        return self.hidden


def _candidate_last(weights: Tensor) -> Tensor:
    """The gates of nn.LSTM (admit, forget, candidate, expose) with those that open first."""
    admit, forget, candidate, expose = weights.chunk(4)
    return torch.cat([admit, forget, expose, candidate])
