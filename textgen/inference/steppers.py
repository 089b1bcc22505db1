"""Steppers: read one token per row at a time, with the weights prepared once.

``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` prepare their weights at every call, which for a single token
is most of the time. An LSTM, alone or mixed with n-grams, is read by compiled code where there is
a compiler, by PyTorch operators otherwise, and on a GPU as one CUDA graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.inference import native
from textgen.inference.native import (
    LayerMemory,
    Library,
    Network,
    Ngrams,
    PackedLayer,
    PackedMatrix,
)
from textgen.inference.step_weights import LayerWeights, Matrix, StepWeights
from textgen.models.base import State, Stepper
from textgen.models.ngram import stepping
from textgen.models.state import HiddenState, RecurrentState, TensorState

if TYPE_CHECKING:
    from textgen.models.lstm import LSTMModel
    from textgen.models.mixture import MixtureModel
    from textgen.models.recurrent import StackedModel


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


_LARGEST_TABLE = 2**24  # numbers: 64 MB of float32


@dataclass(frozen=True)
class CellWeights:
    """A layer's, of which each unit has ``gates`` columns.

    given: what it gets beside its products, (columns,); or (vocabulary, columns) by each token,
    and then from_below is None. from_below: (units below, columns). from_before: (units,
    columns), with its bias (columns,).
    """

    given: Tensor
    from_below: Tensor | None
    from_before: Tensor
    bias: Tensor


Step = Callable[[CellWeights, Tensor, Tensor], Tensor]
"""(weights, given (batch, columns), state before (batch, units)) -> state after."""


class CellStepper(Stepper):
    """Reads with prepared weights, a view of the model's where that will do."""

    @torch.no_grad()
    def __init__(self, model: "StackedModel", step: Step) -> None:
        self._step, self._logits = step, model.logits
        self._embedding, self._state_type = model.embedding, model.state_type
        self._layers = [_prepared(layer) for layer in model.layers]
        first, vocabulary = self._layers[0], model.config.vocabulary_size
        embedding = model.embedding.weight
        if embedding is None or vocabulary * len(first.given) <= _LARGEST_TABLE:
            # Of few tokens, what each gives the first layer is known beforehand.
            assert first.from_below is not None
            by_token = first.from_below if embedding is None else embedding @ first.from_below
            table = by_token + first.given
            self._layers[0] = CellWeights(table, None, first.from_before, first.bias)
        self.state = model.start(1)

    @property
    def state(self) -> HiddenState:
        return self._state_type.of((hidden,) for hidden in self._hidden)

    @state.setter
    def state(self, state: State) -> None:
        self._hidden = [hidden for (hidden,) in cast(HiddenState, state).layers]

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        below = ids
        for place, weights in enumerate(self._layers):
            if weights.from_below is None:
                given = weights.given[ids]
            else:
                inputs = below if place else self._embedding(ids)
                given = torch.addmm(weights.given, inputs, weights.from_below)
            below = self._hidden[place] = self._step(weights, given, self._hidden[place])
        return self._logits(below)


def _prepared(layer: nn.Module) -> CellWeights:
    from_below, from_before, bias, second_bias = (each.detach() for each in layer.parameters())
    return CellWeights(bias, from_below.T, from_before.T, second_bias)


Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]

_STEPS_BEFORE = 32
"""Capturing takes about as long as so many steps: it pays where the rows stay as many."""


def capture(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record what a function launches, which has run before; what is returned runs it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


class GraphedStepper(Stepper):
    """Reads as another stepper does, whose state must stay in the same memory for as many rows."""

    def __init__(self, stepper: Stepper, capture: Capture = capture) -> None:
        self._stepper, self._capture = stepper, capture
        self._begin(_rows(stepper.state))

    def _begin(self, rows: int) -> None:
        self._rows, self._steps = rows, 0
        self._replay: Callable[[], Tensor] | None = None

    @property
    def state(self) -> State:
        return self._stepper.state

    @state.setter
    def state(self, state: State) -> None:
        self._stepper.state = state
        if _rows(state) != self._rows:
            self._begin(_rows(state))

    def step(self, ids: Tensor) -> Tensor:
        self._steps += 1
        if self._steps <= _STEPS_BEFORE:
            return self._stepper.step(ids)
        if self._replay is None:
            self._ids = ids.clone()
            self._replay = self._capture(lambda: self._stepper.step(self._ids))
        self._ids.copy_(ids)
        return self._replay()


def _rows(state: State) -> int:
    return len(next(iter(state.tensors().values())))


_ROWS_OF_BYTES = 4
"""Of more rows, what has to be done to bytes before they are multiplied takes longer than reading
four times as many."""

_BYTES_A_THREAD = 2**21
"""Another thread for fewer weights gains little alone, and loses much beside another program."""


class CompiledStepper(Stepper):
    """Reads with weights packed in blocks of four vectors, as ``native/step.h`` says."""

    def __init__(self, library: Library, weights: StepWeights, state: State) -> None:
        self._library, self._lanes = library, library.textgen_lanes()
        self._bytes = weights if weights.last.scales is not None else None
        self._packed: dict[bool, tuple[list[PackedLayer], PackedMatrix]] = {}
        if self._bytes is None:
            self._packed[True] = self._pack(weights, whole=True)
        self._last_bias = self._in_blocks(weights.bias, of_gates=False)
        self._embedding = None if weights.embedding is None else weights.embedding.contiguous()
        self._rows = 0
        self.state = state

    @property
    def state(self) -> RecurrentState:
        return RecurrentState.of((hidden.clone(), cell.clone()) for hidden, cell in self._state)

    @state.setter
    def state(self, state: State) -> None:
        pairs = cast(RecurrentState, state).layers
        if len(pairs[0][0]) != self._rows:
            self._set_aside(len(pairs[0][0]))
        for (hidden, cell), (new_hidden, new_cell) in zip(self._state, pairs, strict=True):
            hidden.copy_(new_hidden)
            cell.copy_(new_cell)

    def step(self, ids: Tensor) -> Tensor:
        self._network.read(ids.unsqueeze(0))
        return self._network.logits

    @property
    def network(self) -> Network:
        return self._network

    def _set_aside(self, rows: int) -> None:
        """Memory for so many rows."""
        layers, last = self._packed_for(rows)
        memories = [self._memory(layer, rows) for layer in layers]
        self._state = [
            (memory.inputs[:, -layer.units :], memory.cell[:, : layer.units])
            for layer, memory in zip(layers, memories, strict=True)
        ]
        size = sum(matrix.numbers.nbytes for matrix in (last, *(each.matrix for each in layers)))
        self._network = Network(
            self._library,
            list(zip(layers, memories, strict=True)),
            last,
            self._last_bias,
            self._embedding,
            self._last_bias.new_empty(rows, last.outputs),
            max(1, min(rows * size // _BYTES_A_THREAD, torch.get_num_threads())),
        )
        self._rows = rows

    def _memory(self, layer: PackedLayer, rows: int) -> LayerMemory:
        blocks, inputs, _ = layer.matrix.numbers.shape
        zeros = self._last_bias.new_zeros
        width = blocks * self._lanes
        return LayerMemory(zeros(rows, inputs), zeros(rows, width), zeros(rows, width))

    def _packed_for(self, rows: int) -> tuple[list[PackedLayer], PackedMatrix]:
        """The layers and the last matrix, whole where there are many rows to multiply by them."""
        if self._bytes is None:
            return self._packed[True]
        whole = rows > _ROWS_OF_BYTES
        if whole not in self._packed:
            self._packed[whole] = self._pack(self._bytes, whole=whole)
        return self._packed[whole]

    def _pack(self, weights: StepWeights, *, whole: bool) -> tuple[list[PackedLayer], PackedMatrix]:
        layers = [self._packed_layer(layer, whole=whole) for layer in weights.layers]
        return layers, self._packed_matrix(weights.last, of_gates=False, whole=whole)

    def _packed_layer(self, layer: LayerWeights, *, whole: bool) -> PackedLayer:
        given = self._in_blocks(layer.given.movedim(-1, 0), of_gates=True)
        if layer.given.ndim == 2:
            given = given.movedim(-1, 0).contiguous()
        matrix = self._packed_matrix(layer.matrix, of_gates=True, whole=whole)
        return PackedLayer(layer.units, matrix, given)

    def _packed_matrix(self, matrix: Matrix, *, of_gates: bool, whole: bool) -> PackedMatrix:
        matrix = Matrix(matrix.whole()) if whole else matrix
        numbers, scales = self._in_blocks(matrix.numbers, of_gates=of_gates), matrix.scales
        if scales is not None:
            scales = self._in_blocks(scales, of_gates=of_gates)
        return PackedMatrix(len(matrix.numbers), numbers.transpose(1, 2).contiguous(), scales)

    def _in_blocks(self, outputs: Tensor, *, of_gates: bool) -> Tensor:
        """(outputs, ...) -> (blocks, 4 lanes, ...), zeros where the last block goes further.

        A block is of outputs one after another; or of some units, a vector for each gate.
        """
        rest = outputs.shape[1:]
        parts = outputs.view(4, -1, *rest) if of_gates else outputs.unsqueeze(0)
        lanes = self._lanes if of_gates else 4 * self._lanes
        lacking = -parts.shape[1] % lanes
        parts = functional.pad(parts, (0, 0) * len(rest) + (0, lacking))
        parts = parts.reshape(len(parts), -1, lanes, *rest).transpose(0, 1)
        return parts.reshape(-1, 4 * self._lanes, *rest).contiguous()


class RecurrentStepper(Stepper):
    """Holds prepared copies of the weights: a model that learns on needs a new one.

    fast: the weights are rounded to 8 bits. What it reads is the same in any way but for rounding.
    """

    def __init__(self, model: "LSTMModel", *, fast: bool = False) -> None:
        self._weights: StepWeights | None = StepWeights.of(model, fast=fast)
        self._device, self._dtype = model.device, model.dtype
        self._way: Stepper = TorchStepper(self._weights, model.start(1))
        if model.device.type == "cuda":
            self._way = GraphedStepper(self._way)
        self._compile()

    @property
    def state(self) -> State:
        return self._way.state

    @state.setter
    def state(self, state: State) -> None:
        self._way.state = state

    @property
    def network(self) -> Network | None:
        return self._way.network

    def step(self, ids: Tensor) -> Tensor:
        self._compile()
        return self._way.step(ids)

    def _compile(self) -> None:
        """Go over to compiled code once there is some, after which the weights are not needed."""
        if self._weights is None:
            return
        if (library := native.library(self._device, self._dtype)) is not None:
            self._way = CompiledStepper(library, self._weights, self._way.state)
            self._weights = None


class MixtureStepper(Stepper):
    """Has the network read by its own stepper."""

    def __init__(self, model: "MixtureModel", *, fast: bool = False) -> None:
        self._model, self._inner = model, model.network.stepper(fast=fast)
        self._step = stepping(model.tables)
        self.state = model.start(1)

    @property
    def state(self) -> State:
        of_network = cast(TensorState, self._inner.state).named
        return self._model.restore({**of_network, "ngrams": self._numbers.clone()})

    @state.setter
    def state(self, state: State) -> None:
        named = dict(cast(TensorState, state).named)
        self._numbers = named.pop("ngrams").clone()
        self._inner.state = RecurrentState(named)
        self._mixing: Network | None = None

    @property
    def network(self) -> Network | None:
        network = self._inner.network
        if network is not None and network is not self._mixing:
            model = self._model
            weight, bias = model.gate.weight.contiguous(), float(model.gate.bias)
            levels, first = model.tables.compiled()
            ngrams = Ngrams(levels, first, weight, bias, self._numbers, network.threads)
            network.mix(ngrams)
            self._mixing = network
        return network

    def step(self, ids: Tensor) -> Tensor:
        network = self.network
        if network is not None:
            network.read(ids.unsqueeze(0))
            return network.logits
        logits = self._inner.step(ids)
        by_ngrams, self._numbers = self._step(ids, self._numbers)
        return self._model.mixed(logits, by_ngrams, self._numbers)
