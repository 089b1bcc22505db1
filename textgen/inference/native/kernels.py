"""Steps and draws of sampling in C: loading the compiled code, its structs and functions.

It is compiled in the background if it is not cached. Without a C compiler there is none, and
PyTorch operators are used.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from torch import Tensor

from textgen.models.base import NOTHING
from textgen.models.lstm import HASH_FACTOR, HASH_MODULUS, NgramEmbeddings
from textgen.models.mixture import Gate
from textgen.models.ngram import NgramTables

Library = ctypes.CDLL

_SOURCES = [
    Path(__file__).with_name(name) for name in ("textgen.c", "draw.h", "ngrams.h", "step.h")
]
_ADDRESS, _COUNT, _THREADS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_FUNCTIONS = {
    "textgen_read": [_ADDRESS, _ADDRESS, _COUNT, _THREADS],
    "textgen_sample": [*4 * [_ADDRESS], _COUNT, _ADDRESS, _ADDRESS, _THREADS],
    "textgen_draw": [
        *(_ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT, _COUNT),
        *(_ADDRESS, _ADDRESS, _ADDRESS, _THREADS),
    ],
}
"""The argument types of each function of ``textgen.c``."""
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_VECTOR_FLAGS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
_OPENMP_FLAGS = ("-fopenmp", "-fopenmp-simd")
_TIMEOUT_SECONDS = 60


def library(device: torch.device, dtype: torch.dtype) -> Library | None:
    """The compiled code for such tensors; None without a compiler, or while it is compiled."""
    return loading().library if device.type == "cpu" and dtype == torch.float32 else None


@cache
def loading() -> "Loading":
    return Loading(platformdirs.user_cache_path("textgen"), _compiler())


def note() -> str | None:
    """What the user should know about how the code was loaded, if anything."""
    return loading().note if loading.cache_info().currsize else None


class Loading:
    """Loads the library from a cache folder, or compiles it into the folder in a thread.

    The name of the file is a hash of platform, compiler flags and source. What others than the
    user and root could have written is not loaded: it is compiled anew, in a private folder where
    the cache is not the user's. The process does not exit before the thread has ended.

    Attributes:
        note: Why the cache was not used; else None.
    """

    def __init__(self, folder: Path, compiler: list[str] | None) -> None:
        self.library: Library | None = None
        self._thread: Thread | None = None
        flags = (*_FLAGS, *_VECTOR_FLAGS.get(torch.backends.cpu.get_cpu_capability(), ()))
        key = hashlib.sha256(" ".join([sys.platform, platform.machine(), *flags]).encode())
        for source in _SOURCES:
            key.update(source.read_bytes())
        self._path = folder / f"{key.hexdigest()[:16]}.so"
        self.note: str | None = None
        if self._path.exists():
            if _is_private(folder) and _is_private(self._path):
                self._load(self._path)
            else:
                self.note = f"compiled code is not read from {folder}: others could write there"
        if self.library is None and compiler is not None:
            self._thread = Thread(target=self._compile, args=([*compiler, *flags],))
            self._thread.start()

    def wait(self) -> Library | None:
        """Wait for the compilation; the library, or None if there is none."""
        if self._thread is not None:
            self._thread.join()
        return self.library

    def _load(self, path: Path) -> None:
        try:
            library = Library(str(path))
            for name, types in _FUNCTIONS.items():
                function = getattr(library, name)
                function.argtypes, function.restype = types, None
        except (OSError, AttributeError):
            return
        self.library = library

    def _compile(self, command: list[str]) -> None:
        cache = self._path.parent
        try:
            keeps = _make_private(cache)
            if not keeps:
                self.note = f"compiled code is not kept in {cache}: it belongs to another user"
            with tempfile.TemporaryDirectory(dir=cache if keeps else None) as folder:
                compiled = Path(folder, self._path.name)
                for flag in _OPENMP_FLAGS:
                    done = subprocess.run(
                        [*command, flag, str(_SOURCES[0]), "-o", str(compiled), "-lm"],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=_TIMEOUT_SECONDS,
                        check=False,
                    )
                    if done.returncode == 0:
                        compiled.chmod(0o700)
                        self._load(compiled.replace(self._path) if keeps else compiled)
                        break
        except (OSError, subprocess.SubprocessError):
            return


def _is_private(path: Path) -> bool:
    """Whether only the user and root can have written this file, or into this folder."""
    if os.name != "posix":
        return True
    found = path.stat() if path.is_dir() else path.lstat()
    of_us = found.st_uid in (0, os.geteuid())
    return of_us and not stat.S_ISLNK(found.st_mode) and not found.st_mode & 0o022


def _make_private(folder: Path) -> bool:
    """Make a folder that only the user can open; False for one that is another's.

    Raises OSError if it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix" and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)
    return _is_private(folder)


def _compiler() -> list[str] | None:
    """The command of a C compiler, None if there is none."""
    if sys.platform == "win32":
        return None
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [[name] for name in _COMPILERS]:
        if command and (found := shutil.which(command[0])):
            return [found, *command[1:]]
    return None


Numbers = npt.NDArray[np.float64]

_LOGITS_PER_THREAD = 2**15
_WEIGHTS_PER_THREAD = 2**19
"""For fewer weights another thread gains little, and costs much if the cores are shared."""


def address(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
    """The address of a contiguous tensor on the CPU; None for None."""
    if tensor is None:
        return None
    _check(tensor.dtype == dtype and tensor.device.type == "cpu" and tensor.is_contiguous())
    return tensor.data_ptr()


def _check(fits: bool) -> None:
    """Compiled code believes its arguments. Raises ValueError: an assertion can be switched off."""
    if not fits:
        raise ValueError("a tensor or an id does not fit the compiled model")


def draw(
    library: Library, logits: Tensor, logit_mask: Tensor, temperatures: Numbers, uniforms: Numbers
) -> tuple[Tensor, Tensor]:
    """Draw one id for each row from a tempered and masked softmax of logits (batch, vocabulary).

    logit_mask: 0 or -inf, (vocabulary,) or (batch, vocabulary). temperatures, uniforms: (batch,).

    Returns ids, -1 where all are masked or a logit is not finite; ln p of each in the softmax of
    the logits themselves.
    """
    rows, size = logits.shape
    _check(logit_mask.shape in ((size,), (rows, size)))
    _check(temperatures.shape == uniforms.shape == (rows,))
    ids, log_probs = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float64)
    threads = max(1, min(rows, rows * size // _LOGITS_PER_THREAD, torch.get_num_threads()))
    scratch = torch.empty(threads, size, dtype=torch.float64)
    logits = logits.contiguous()
    library.textgen_draw(
        address(logits),
        address(logit_mask, torch.float64),
        size if logit_mask.ndim == 2 else 0,
        address(torch.from_numpy(temperatures), torch.float64),
        address(torch.from_numpy(uniforms), torch.float64),
        rows,
        size,
        address(ids, torch.long),
        address(log_probs, torch.float64),
        address(scratch, torch.float64),
        threads,
    )
    return ids, log_probs


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


def _fields(type_: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, type_) for name in names.split()]


class _NgramOrder(ctypes.Structure):
    _fields_ = _fields(_POINTER, "offsets tokens probability backoff log_total")


class _Ngrams(ctypes.Structure):
    _fields_ = (
        *_fields(_INT, "order vocabulary"),
        ("orders", ctypes.POINTER(_NgramOrder)),
        *_fields(_POINTER, "unigrams gate_weight"),
        ("gate_bias", ctypes.c_float),
        *_fields(_POINTER, "ngram_ids scratch"),
    )


class _Matrix(ctypes.Structure):
    _fields_ = (*_fields(_INT, "outputs inputs bits"), *_fields(_POINTER, "weights scales"))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("units", _INT),
        ("matrix", _Matrix),
        ("bias", _POINTER),
        ("bias_stride", _INT),
        *_fields(_POINTER, "inputs cell output"),
    )


class _NgramEmbeddings(ctypes.Structure):
    _fields_ = (*_fields(_INT, "longest rows factor modulus"), *_fields(_POINTER, "weight before"))


class _Network(ctypes.Structure):
    _fields_ = (
        *_fields(_INT, "rows layer_count"),
        ("layers", ctypes.POINTER(_Layer)),
        ("last", _Matrix),
        *_fields(_POINTER, "last_bias embedding"),
        ("embedding_size", _INT),
        *_fields(_POINTER, "ngram_embeddings logits products probabilities ngrams"),
    )


@dataclass(frozen=True)
class PackedMatrix:
    """weights: (blocks, inputs, 4 lanes), float32; or int8, with scales (blocks, 4 lanes).

    Or bfloat16 in pairs: (blocks, inputs, 2 lanes) int32, with the first and the third vector of
    lanes in the lower 16 bits, the second and the fourth in the upper.
    """

    outputs: int
    weights: Tensor
    scales: Tensor | None

    def struct(self) -> _Matrix:
        dtype = self.weights.dtype
        _check((dtype == torch.int8) == (self.scales is not None))
        return _Matrix(
            self.outputs,
            self.weights.shape[1],
            {torch.float32: 32, torch.int32: 16, torch.int8: 8}[dtype],
            address(self.weights, dtype),
            address(self.scales),
        )


@dataclass(frozen=True)
class PackedLayer:
    """bias: (blocks, 4 lanes), or a table of it by token (vocabulary, blocks, 4 lanes)."""

    units: int
    matrix: PackedMatrix
    bias: Tensor


class Network:
    """A packed LSTM with the state of some rows, which compiled code reads and updates.

    state: hidden state and cell of each layer, (rows, units). before: the last tokens, (rows,
    longest - 1), where there are n-gram embeddings. logits: (rows, vocabulary), after the last
    token read.
    """

    def __init__(
        self,
        library: Library,
        layers: Sequence[PackedLayer],
        last: PackedMatrix,
        last_bias: Tensor,
        embedding: Tensor | None,
        ngrams: NgramEmbeddings | None,
        rows: int,
    ) -> None:
        matrices = (last, *(each.matrix for each in layers))
        size = sum(matrix.outputs * matrix.weights.shape[1] for matrix in matrices)
        threads = max(1, min(rows * size // _WEIGHTS_PER_THREAD, torch.get_num_threads()))
        structs, kept, self.state = (_Layer * len(layers))(), [], []
        for struct, layer in zip(structs, layers, strict=True):
            blocks, width = layer.matrix.weights.shape[:2]
            columns = layer.bias.shape[-1]
            inputs = last_bias.new_zeros(rows, width)
            cell, output = last_bias.new_zeros(2, rows, blocks * columns // 4)
            struct.units, struct.matrix = layer.units, layer.matrix.struct()
            struct.bias = address(layer.bias)
            struct.bias_stride = layer.bias.stride(0) if layer.bias.ndim == 3 else 0
            struct.inputs, struct.cell, struct.output = map(address, (inputs, cell, output))
            kept += [layer, inputs, cell, output]
            self.state.append((inputs[:, -layer.units :], cell[:, : layer.units]))
        self.before: Tensor | None = None
        ngram_struct = _NgramEmbeddings()
        if ngrams is not None:
            _check(embedding is not None and ngrams.weight.shape[1] == embedding.shape[1])
            _check(len(ngrams.weight) == (ngrams.longest - 1) * ngrams.rows)
            self.before = torch.full((rows, ngrams.longest - 1), NOTHING)
            ngram_struct = _NgramEmbeddings(
                ngrams.longest,
                ngrams.rows,
                HASH_FACTOR,
                HASH_MODULUS,
                address(ngrams.weight),
                address(self.before, torch.int64),
            )
        logits = last_bias.new_empty(rows, last.outputs)
        products = logits.new_empty(threads, rows, len(last_bias[0]))
        probabilities = logits.new_empty(last.outputs, dtype=torch.float64)
        self._struct = _Network(
            rows,
            len(structs),
            structs,
            last.struct(),
            address(last_bias),
            address(embedding),
            0 if embedding is None else embedding.shape[1],
            None if ngrams is None else ctypes.addressof(ngram_struct),
            address(logits),
            address(products),
            address(probabilities, torch.float64),
            None,
        )
        # The structs have addresses only; this keeps the memory alive.
        self._kept = (*kept, structs, last, last_bias, embedding, products, probabilities)
        self._kept_ngrams = ngrams, ngram_struct
        self._library, self.logits, self._threads = library, logits, threads
        self._pointer = ctypes.addressof(self._struct)

    def remember(self, ids: Tensor) -> None:
        """Replace the last tokens: ids (rows, longest - 1), ``NOTHING`` before a text."""
        _check(all(NOTHING <= id < self.logits.shape[1] for id in ids.flatten().tolist()))
        if self.before is not None:
            _check(ids.shape == self.before.shape)
            self.before.copy_(ids)

    def mix(self, tables: NgramTables, gate: Gate, ngram_ids: Tensor) -> None:
        """From now on, logits are ln p of the mixture of the network and these n-grams.

        ngram_ids: (rows, order - 1) int64, the contexts, which each step updates.
        """
        orders, weight = tables.orders[1:], gate.weight.contiguous()
        _check(ngram_ids.shape == (len(self.logits), len(orders)))
        _check(tables.vocabulary_size == self.logits.shape[1])
        _check(len(weight) == 2 + 2 * len(orders) + self.state[-1][0].shape[1])
        for order, column in zip(orders, ngram_ids.T, strict=True):
            _check(all(-1 <= id < len(order.backoff) for id in column.tolist()))
        structs = (_NgramOrder * len(orders))()
        for struct, order in zip(structs, orders, strict=True):
            struct.offsets = address(order.offsets, torch.int64)
            struct.tokens = address(order.tokens, torch.int64)
            struct.probability = address(order.probability, torch.float64)
            struct.backoff = address(order.backoff, torch.float64)
            struct.log_total = address(order.log_total, torch.float64)
        scratch = tables.unigrams.new_empty(self._threads, 2, tables.vocabulary_size)
        ngrams = _Ngrams(
            tables.order,
            tables.vocabulary_size,
            structs,
            address(tables.unigrams, torch.float64),
            address(weight),
            float(gate.bias),
            address(ngram_ids, torch.int64),
            address(scratch, torch.float64),
        )
        self._struct.ngrams = ctypes.addressof(ngrams)
        self._kept_to_mix = (ngrams, orders, tables.unigrams, weight, ngram_ids, scratch)

    def read(self, ids: Tensor) -> None:
        """Read tokens, one step after another: ids (steps, rows)."""
        _check(ids.ndim == 2 and ids.shape[1] == len(self.logits))
        size, values = self.logits.shape[1], ids.flatten().tolist()
        _check(not values or (min(values) >= 0 and max(values) < size))
        ids = ids.contiguous()
        self._library.textgen_read(self._pointer, address(ids, torch.long), len(ids), self._threads)

    def sample(
        self, logit_mask: Tensor, temperatures: Numbers, uniforms: Numbers
    ) -> tuple[list[int], list[float]]:
        """Draw tokens for a single row, one after another, and read all but the last.

        Returns ids and log-probabilities as ``draw`` does; the last id is -1 where a draw failed.
        logit_mask: (vocabulary,), the same for all tokens. temperatures, uniforms: (tokens,).
        """
        _check(len(self.logits) == 1 and logit_mask.shape == self.logits.shape[1:])
        _check(temperatures.shape == uniforms.shape == (len(uniforms),))
        ids = torch.full((len(uniforms),), -1)
        log_probs = torch.zeros(len(uniforms), dtype=torch.float64)
        self._library.textgen_sample(
            self._pointer,
            address(logit_mask, torch.float64),
            address(torch.from_numpy(temperatures), torch.float64),
            address(torch.from_numpy(uniforms), torch.float64),
            len(uniforms),
            address(ids, torch.long),
            address(log_probs, torch.float64),
            self._threads,
        )
        return ids.tolist(), log_probs.tolist()
