"""Where a tensor's numbers are, for the compiled code.

Many draws at once from tempered softmaxes, by the compiled code.

What the compiled code is told of a network: the structs of ``step.h``, and a handle.

What the compiled code is told of n-grams: the structs of ``ngrams.h``.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.inference.native.loading import Library


def address(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
    """Of a contiguous tensor on the CPU; None of None."""
    if tensor is None:
        return None
    assert tensor.dtype == dtype
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous()
    return tensor.data_ptr()


Numbers = npt.NDArray[np.float64]

_NUMBERS_A_THREAD = 2**15


def draw(
    library: Library, logits: Tensor, barrier: Tensor, temperatures: Numbers, uniforms: Numbers
) -> tuple[Tensor, Tensor]:
    """An id for each row, and its natural log-probability in the softmax of the logits themselves.

    logits: (batch, vocabulary), float32. barrier: 0 or -inf, (vocabulary,) or (batch, vocabulary),
    float64. temperatures, uniforms: (batch,). The id is -1 where nothing may be drawn.
    """
    rows, size = logits.shape
    ids, log_probs = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float64)
    threads = max(1, min(rows, rows * size // _NUMBERS_A_THREAD, torch.get_num_threads()))
    shares = torch.empty(threads, size, dtype=torch.float64)
    logits = logits.contiguous()
    library.textgen_draw(
        address(logits),
        address(barrier, torch.float64),
        size if barrier.ndim == 2 else 0,
        address(torch.from_numpy(temperatures), torch.float64),
        address(torch.from_numpy(uniforms), torch.float64),
        rows,
        size,
        address(ids, torch.long),
        address(log_probs, torch.float64),
        address(shares, torch.float64),
        threads,
    )
    return ids, log_probs


_ADDRESS = ctypes.c_void_p


class _Level(ctypes.Structure):
    _fields_ = tuple((name, _ADDRESS) for name in ("begins", "words", "own", "left", "log_seen"))


class _Ngrams(ctypes.Structure):
    _fields_ = (
        ("order", ctypes.c_int64),
        ("vocabulary", ctypes.c_int64),
        ("levels", ctypes.POINTER(_Level)),
        ("first", _ADDRESS),
        ("weight", _ADDRESS),
        ("bias", ctypes.c_float),
        ("numbers", _ADDRESS),
        ("shares", _ADDRESS),
    )


@dataclass(frozen=True)
class NgramLevel:
    """The n-grams of one length, as ``ngrams.h`` has them: int64 and float64.

    begins, words: as they were counted. own: (entries,), the share of each. left: (contexts,),
    the share that is left to shorter n-grams, 1 where nothing follows. log_seen: (contexts,),
    ln(1 + how much was counted after each).
    """

    begins: Tensor
    words: Tensor
    own: Tensor
    left: Tensor
    log_seen: Tensor

    def struct(self) -> _Level:
        whole = (address(each, torch.int64) for each in (self.begins, self.words))
        real = (address(each, torch.float64) for each in (self.own, self.left, self.log_seen))
        return _Level(*whole, *real)


class Ngrams:
    """N-grams to be mixed into rows of logits.

    levels: of 2 tokens, of 3 and so on. first: (vocabulary,) float64. weight, bias: the gate's,
    float32. numbers: (rows, order - 1) int64, read and written by whoever reads on.
    """

    def __init__(
        self,
        levels: Sequence[NgramLevel],
        first: Tensor,
        weight: Tensor,
        bias: float,
        numbers: Tensor,
        threads: int,
    ) -> None:
        structs = (_Level * len(levels))(*(level.struct() for level in levels))
        shares = first.new_empty(threads, 2, len(first))
        self._struct = _Ngrams(
            len(levels) + 1,
            len(first),
            structs,
            address(first, torch.float64),
            address(weight),
            bias,
            address(numbers, torch.int64),
            address(shares, torch.float64),
        )
        self._kept = (levels, structs, first, weight, numbers, shares)
        self.pointer = ctypes.addressof(self._struct)


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("outputs", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("units", ctypes.c_int64),
        ("matrix", _Matrix),
        ("given", ctypes.c_void_p),
        ("given_stride", ctypes.c_int64),
        ("inputs", ctypes.c_void_p),
        ("cell", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
    )


class _Network(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("layer_count", ctypes.c_int64),
        ("layers", ctypes.POINTER(_Layer)),
        ("last", _Matrix),
        ("last_bias", ctypes.c_void_p),
        ("embedding", ctypes.c_void_p),
        ("embedding_size", ctypes.c_int64),
        ("logits", ctypes.c_void_p),
        ("products", ctypes.c_void_p),
        ("shares", ctypes.c_void_p),
        ("ngrams", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class PackedMatrix:
    """numbers (blocks, inputs, 4 lanes); where they are int8, scales (blocks, 4 lanes)."""

    outputs: int
    numbers: Tensor
    scales: Tensor | None

    def struct(self) -> _Matrix:
        dtype = torch.float32 if self.scales is None else torch.int8
        return _Matrix(
            self.outputs, self.numbers.shape[1], address(self.numbers, dtype), address(self.scales)
        )


@dataclass(frozen=True)
class PackedLayer:
    """given: (blocks, 4 lanes), or (vocabulary, blocks, 4 lanes) by each token."""

    units: int
    matrix: PackedMatrix
    given: Tensor


@dataclass(frozen=True)
class LayerMemory:
    """inputs: (rows, inputs). cell, output: (rows, blocks * lanes)."""

    inputs: Tensor
    cell: Tensor
    output: Tensor


class Network:
    """A network and as many rows of state, for the compiled code to read on with.

    logits: (rows, vocabulary), after what was read.
    """

    def __init__(
        self,
        library: Library,
        layers: Sequence[tuple[PackedLayer, LayerMemory]],
        last: PackedMatrix,
        last_bias: Tensor,
        embedding: Tensor | None,
        logits: Tensor,
        threads: int,
    ) -> None:
        structs = (_Layer * len(layers))(*(_struct(*layer) for layer in layers))
        network = _Network(
            len(logits),
            len(structs),
            structs,
            last.struct(),
            address(last_bias),
            address(embedding),
            0 if embedding is None else embedding.shape[1],
            address(logits),
            address(products := logits.new_empty(threads, len(logits), last.numbers.shape[2])),
            address(shares := logits.new_empty(last.outputs, dtype=torch.float64), torch.float64),
            None,
        )
        self._kept = (network, layers, last, last_bias, embedding, products, shares)
        self._library, self.logits, self.threads = library, logits, threads
        self._struct, self._pointer = network, ctypes.addressof(network)
        self.ngrams: Ngrams | None = None

    def mix(self, ngrams: Ngrams) -> None:
        """From now on the logits are of the network and these n-grams, mixed in probability."""
        self.ngrams, self._struct.ngrams = ngrams, ngrams.pointer

    def read(self, ids: Tensor) -> None:
        """Read tokens, a step after another: ids (steps, rows)."""
        assert ids.shape[1] == len(self.logits)
        ids = ids.contiguous()
        self._library.textgen_read(self._pointer, address(ids, torch.long), len(ids), self.threads)

    def write(
        self, barrier: Tensor, temperatures: Numbers, uniforms: Numbers
    ) -> tuple[list[int], list[float]]:
        """Of one row, draw tokens one after another, and read all but the last.

        Returns ids and log-probabilities as ``draw`` does. barrier: (vocabulary,), the same for
        all. temperatures, uniforms: (tokens,). Ends early with an id of -1.
        """
        assert len(self.logits) == 1
        ids = torch.full((len(uniforms),), -1)
        log_probs = torch.zeros(len(uniforms), dtype=torch.float64)
        self._library.textgen_write(
            self._pointer,
            address(barrier, torch.float64),
            address(torch.from_numpy(temperatures), torch.float64),
            address(torch.from_numpy(uniforms), torch.float64),
            len(uniforms),
            address(ids, torch.long),
            address(log_probs, torch.float64),
            self.threads,
        )
        return ids.tolist(), log_probs.tolist()


def _struct(layer: PackedLayer, memory: LayerMemory) -> _Layer:
    return _Layer(
        layer.units,
        layer.matrix.struct(),
        address(layer.given),
        layer.given.stride(0) if layer.given.ndim == 3 else 0,
        address(memory.inputs),
        address(memory.cell),
        address(memory.output),
    )
