"""Steps of an LSTM: PyTorch operators, compiled code once it is loaded, a CUDA graph on a GPU."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.nn import functional

from textgen.inference.native import kernels
from textgen.inference.native.kernels import Library, Network, PackedLayer, PackedMatrix
from textgen.inference.stepper import Stepper
from textgen.models.base import State
from textgen.models.lstm import LSTMModel, LSTMState, NgramEmbeddings

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


LARGEST_TABLE = 2**24  # numbers: 64 MB of float32


@dataclass(frozen=True)
class Matrix:
    """weights: (outputs, inputs); if int8, with scales (outputs,) that multiply them."""

    weights: Tensor
    scales: Tensor | None = None

    @classmethod
    def rounded(cls, exact: Tensor) -> Self:
        """The nearest in 8 bits: 127 steps from zero to the largest absolute weight of a row."""
        scales = exact.abs().amax(1).div_(127).clamp_(min=torch.finfo(exact.dtype).tiny)
        return cls((exact / scales.unsqueeze(1)).round_().to(torch.int8), scales)

    def exact(self) -> Tensor:
        """The weights with their scales multiplied in."""
        return self.weights if self.scales is None else self.weights * self.scales.unsqueeze(1)


@dataclass(frozen=True)
class LayerWeights:
    """A layer as one product, in the order of gates input, forget, output, cell candidate.

    matrix: (4 units, inputs), for the output of the layer below and the hidden state, side by
    side. bias: (4 units,); or a table of it by token (vocabulary, 4 units) that includes what the
    token's embedding contributes, and then the input is the hidden state alone.
    """

    matrix: Matrix
    bias: Tensor

    @property
    def units(self) -> int:
        return self.bias.shape[-1] // 4


@dataclass(frozen=True)
class StepWeights:
    """An LSTM's weights, prepared for steps.

    embedding: (vocabulary, width), None if the first layer has a table of biases. ngrams: are
    added to it. last: (vocabulary, units).
    """

    embedding: Tensor | None
    ngrams: NgramEmbeddings | None
    layers: tuple[LayerWeights, ...]
    last: Matrix
    last_bias: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: LSTMModel, *, fast: bool) -> Self:
        """fast: with matrices of 8 bits."""
        matrix_of = Matrix.rounded if fast else Matrix
        embedding = None if model.embedding.weight is None else model.embedding.weight.detach()
        table_size = 4 * model.config.hidden_size[0] * model.config.vocabulary_size
        ngrams = copy.deepcopy(model.ngram_embedding)  # training may go on
        if ngrams is not None:
            ngrams.requires_grad_(False)
        has_table = ngrams is None and (embedding is None or table_size <= LARGEST_TABLE)
        layers: list[LayerWeights] = []
        for layer in model.layers:
            weight_ih, weight_hh, bias_ih, bias_hh = map(_candidate_last, layer.parameters())
            bias = bias_ih + bias_hh
            if layers or not has_table:
                weights = torch.cat([weight_ih, weight_hh], 1)
            else:  # the products of tokens with the first layer's weights are computed once
                columns = weight_ih.T  # which are these products for one-hot input
                bias = columns + bias if embedding is None else bias.addmm(embedding, columns)
                weights = weight_hh
            layers.append(LayerWeights(matrix_of(weights), bias))
        last, last_bias = model.output.weight.detach(), model.output.bias.detach()
        embedding = None if has_table else embedding
        return cls(embedding, ngrams, tuple(layers), matrix_of(last), last_bias)


def _candidate_last(weights: Tensor) -> Tensor:
    """Gates in the order of nn.LSTM, i, f, g, o, as i, f, o, g."""
    i, f, g, o = weights.detach().chunk(4)
    return torch.cat([i, f, o, g])


class TorchStepper(Stepper):
    """Steps with PyTorch operators on prepared weights.

    capture: if given, steps are recorded and replayed where the rows stay as many.
    """

    def __init__(self, weights: StepWeights, state: State, capture: Capture | None = None) -> None:
        self._embedding, self._last_bias = weights.embedding, weights.last_bias
        self._ngrams = weights.ngrams
        self._last = _Product(weights.last)
        self._layers = [_Layer(each) for each in weights.layers]
        self._capture, self._rows = capture, 0
        self.state = state

    @property
    def state(self) -> State:
        state = LSTMState.of((layer.hidden.clone(), layer.cell.clone()) for layer in self._layers)
        return state if self._before is None else state.after(self._before.clone())

    @state.setter
    def state(self, state: State) -> None:
        pairs = cast(LSTMState, state).layers
        rows = len(pairs[0][0])
        before = state.named.get("ids")
        if rows != self._rows:
            self._before = None if before is None else before.clone()
            for layer in self._layers:
                layer.allocate(rows)
            self._logits = self._last_bias.new_empty(rows, len(self._last_bias))
            self._rows, self._steps = rows, 0
            self._replay: Callable[[], Tensor] | None = None
        for layer, (hidden, cell) in zip(self._layers, pairs, strict=True):
            layer.hidden.copy_(hidden)
            layer.cell.copy_(cell)
        if self._before is not None:
            self._before.copy_(cast(Tensor, before))

    def step(self, ids: Tensor) -> Tensor:
        self._steps += 1
        if self._capture is None or self._steps <= _STEPS_BEFORE:
            return self._step(ids)
        if self._replay is None:
            self._ids = ids.clone()
            self._replay = self._capture(lambda: self._step(self._ids))
        self._ids.copy_(ids)
        return self._replay()

    def _step(self, ids: Tensor) -> Tensor:
        output = None if self._embedding is None else self._embedding[ids]
        if self._ngrams is not None and self._before is not None and output is not None:
            output = output + self._ngrams(ids.unsqueeze(0), self._before)[0]
            self._before.copy_(torch.cat([self._before[:, 1:], ids.unsqueeze(1)], 1))
        for layer in self._layers:
            output = layer.step(ids, output)
        assert output is not None
        return self._last.add_to(self._last_bias, output, self._logits)


class _Layer:
    """A layer, with its state in memory that stays the same for a number of rows."""

    hidden: Tensor
    cell: Tensor

    def __init__(self, weights: LayerWeights) -> None:
        self._weights, self._product = weights, _Product(weights.matrix)

    def allocate(self, rows: int) -> None:
        bias, units = self._weights.bias, self._weights.units
        self._inputs = bias.new_empty(rows, self._weights.matrix.weights.shape[1])
        self._below, self.hidden = self._inputs[:, :-units], self._inputs[:, -units:]
        self.cell = bias.new_empty(rows, units)
        self._gates = bias.new_empty(rows, 4 * units)

    def step(self, ids: Tensor, below: Tensor | None) -> Tensor:
        """ids (batch,), output of the layer below (batch, inputs) -> output (batch, units)."""
        bias, units = self._weights.bias, self._weights.units
        if bias.ndim == 2:
            bias = bias.index_select(0, ids)
        else:
            assert below is not None
            self._below.copy_(below)
        gates = self._product.add_to(bias, self._inputs, self._gates)
        gates[:, : 3 * units].sigmoid_()
        i, f, o, g = gates.chunk(4, 1)
        self.cell.mul_(f).addcmul_(i, g.tanh_())
        torch.tanh(self.cell, out=self.hidden).mul_(o)
        return self.hidden


class _Product:
    """A matrix (outputs, inputs) that many batches are multiplied by."""

    def __init__(self, matrix: Matrix) -> None:
        self._given = matrix
        self._packed: Tensor | None = None

    @cached_property
    def _matrix(self) -> Tensor:
        return self._given.exact().contiguous()

    def add_to(self, bias: Tensor, inputs: Tensor, out: Tensor) -> Tensor:
        """bias, (outputs,) or (batch, outputs), plus the product with inputs (batch, inputs).

        The result is in ``out`` (batch, outputs), or in new memory.
        """
        if len(inputs) == 1 or not _packs(self._matrix):  # a single row is faster unpacked
            return torch.addmm(bias, inputs, self._matrix.T, out=out)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._matrix)
        linear: Any = torch.ops.mkldnn._linear_pointwise
        if bias.ndim == 1:
            return cast(Tensor, linear(inputs, self._packed, bias, "none", [], ""))
        return cast(Tensor, linear.binary(inputs, bias, self._packed, None, "add"))


def _packs(matrix: Tensor) -> bool:
    """Whether oneDNN multiplies by this matrix packed once; torch.addmm packs it at each call."""
    if matrix.device.type != "cpu" or matrix.dtype != torch.float32:
        return False
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class CompiledStepper(Stepper):
    """Steps with compiled code, on weights packed in blocks of four vectors (``native/step.h``)."""

    def __init__(self, library: Library, weights: StepWeights, state: State) -> None:
        self._library, self._lanes = library, library.textgen_lanes()
        self._layers = [self._packed_layer(layer) for layer in weights.layers]
        self._last = self._packed_matrix(weights.last, of_gates=False)
        self._last_bias = self._in_blocks(weights.last_bias, of_gates=False)
        self._embedding = None if weights.embedding is None else weights.embedding.contiguous()
        self._ngrams = weights.ngrams
        self._rows = 0
        self.state = state

    @property
    def state(self) -> State:
        network = self._network
        state = LSTMState.of((hidden.clone(), cell.clone()) for hidden, cell in network.state)
        return state if network.before is None else state.after(network.before.clone())

    @state.setter
    def state(self, state: State) -> None:
        pairs = cast(LSTMState, state).layers
        rows = len(pairs[0][0])
        if rows != self._rows:
            self._network = Network(
                self._library,
                self._layers,
                self._last,
                self._last_bias,
                self._embedding,
                self._ngrams,
                rows,
            )
            self._rows = rows
        for (hidden, cell), (new_hidden, new_cell) in zip(self._network.state, pairs, strict=True):
            hidden.copy_(new_hidden)
            cell.copy_(new_cell)
        if self._network.before is not None:
            self._network.remember(state.named["ids"])

    def step(self, ids: Tensor) -> Tensor:
        self._network.read(ids.unsqueeze(0))
        return self._network.logits

    @property
    def network(self) -> Network:
        return self._network

    def _packed_layer(self, layer: LayerWeights) -> PackedLayer:
        bias = self._in_blocks(layer.bias.movedim(-1, 0), of_gates=True)
        if layer.bias.ndim == 2:
            bias = bias.movedim(-1, 0).contiguous()
        return PackedLayer(layer.units, self._packed_matrix(layer.matrix, of_gates=True), bias)

    def _packed_matrix(self, matrix: Matrix, *, of_gates: bool) -> PackedMatrix:
        """In 16 bits where these hold every weight exactly, as those of a rounded checkpoint."""
        weights = self._in_blocks(matrix.weights, of_gates=of_gates).transpose(1, 2).contiguous()
        scales = matrix.scales
        if scales is not None:
            scales = self._in_blocks(scales, of_gates=of_gates)
        elif torch.equal((halves := weights.bfloat16()).float(), weights):
            weights = self._in_pairs(halves)
        return PackedMatrix(len(matrix.weights), weights, scales)

    def _in_pairs(self, halves: Tensor) -> Tensor:
        """bfloat16 (blocks, inputs, 4 lanes) -> int32 (blocks, inputs, 2 lanes)."""
        bits = halves.view(torch.int16).int().view(*halves.shape[:2], 2, 2, self._lanes)
        pairs: Tensor = bits[..., 0, :] & 0xFFFF | bits[..., 1, :] << 16
        return pairs.flatten(2)

    def _in_blocks(self, outputs: Tensor, *, of_gates: bool) -> Tensor:
        """(outputs, ...) -> (blocks, 4 lanes, ...), padded with zeros.

        A block has consecutive outputs; or, of gates, one vector of units for each gate.
        """
        rest = outputs.shape[1:]
        parts = outputs.view(4, -1, *rest) if of_gates else outputs.unsqueeze(0)
        lanes = self._lanes if of_gates else 4 * self._lanes
        missing = -parts.shape[1] % lanes
        parts = functional.pad(parts, (0, 0) * len(rest) + (0, missing))
        parts = parts.reshape(len(parts), -1, lanes, *rest).transpose(0, 1)
        return parts.reshape(-1, 4 * self._lanes, *rest).contiguous()


class LSTMStepper(Stepper):
    """Uses PyTorch operators until compiled code is available; fast: on weights of 8 bits."""

    def __init__(self, model: LSTMModel, *, fast: bool = False) -> None:
        self._weights: StepWeights | None = StepWeights.of(model, fast=fast)
        self._device, self._dtype = model.device, model.dtype
        graphs = capture if model.device.type == "cuda" else None
        self._inner: Stepper = TorchStepper(self._weights, model.start(1), graphs)
        self._switch_to_compiled()

    @property
    def state(self) -> State:
        return self._inner.state

    @state.setter
    def state(self, state: State) -> None:
        self._inner.state = state

    @property
    def network(self) -> Network | None:
        return self._inner.network

    def step(self, ids: Tensor) -> Tensor:
        self._switch_to_compiled()
        return self._inner.step(ids)

    def _switch_to_compiled(self) -> None:
        """Use compiled code once it is available; then the weights are no longer needed."""
        if self._weights is None:
            return
        if (library := kernels.library(self._device, self._dtype)) is not None:
            self._inner = CompiledStepper(library, self._weights, self._inner.state)
            self._weights = None
