"""An LSTM read one token a row at a time by compiled code (``textgen.native``).

It multiplies out of packed weights, and opens the gates of what it has just multiplied.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from textgen.models.base import State, Stepper
from textgen.models.recurrent_state import RecurrentState
from textgen.models.step_weights import LayerWeights, Matrix, StepWeights
from textgen.native import LayerMemory, Library, Network, PackedLayer, PackedMatrix

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
