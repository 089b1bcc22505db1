"""Draws from tempered softmaxes in compiled code: what most samples need, and nothing else.

An id is the one that ``decoding`` draws from the same numbers, or -1 where nothing may be drawn;
its natural log-probability is that in the softmax of the logits themselves.
"""

import ctypes

import numpy as np
import torch
from torch import Tensor

from textgen import native
from textgen.native import Library, Network
from textgen.sampling.uniforms import Numbers

_NUMBERS_A_THREAD = 2**15


def compiled(logits: Tensor) -> Library | None:
    """What draws from these, if anything does here."""
    fits = logits.device.type == "cpu" and logits.dtype == torch.float32
    return native.library() if fits else None


def draw(
    library: Library, logits: Tensor, barrier: Tensor, temperatures: Numbers, uniforms: Numbers
) -> tuple[Tensor, Tensor]:
    """Ids and log-probabilities (batch,), of logits (batch, vocabulary).

    barrier: 0 or -inf, (vocabulary,) or (batch, vocabulary). temperatures, uniforms: (batch,).
    """
    assert temperatures.dtype == uniforms.dtype == np.float64
    rows, size = logits.shape
    logits, barrier = logits.contiguous(), barrier.contiguous()
    ids, log_probs = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float64)
    worth = min(rows, rows * size // _NUMBERS_A_THREAD, torch.get_num_threads())
    library.textgen_draw(
        _address(logits),
        _address(barrier),
        ctypes.c_int64(size if barrier.ndim == 2 else 0),
        ctypes.c_void_p(temperatures.ctypes.data),
        ctypes.c_void_p(uniforms.ctypes.data),
        ctypes.c_int64(rows),
        ctypes.c_int64(size),
        _address(ids),
        _address(log_probs),
        ctypes.c_int(max(1, worth)),
    )
    return ids, log_probs


def write(
    network: Network, barrier: Tensor, temperatures: Numbers, uniforms: Numbers
) -> tuple[list[int], list[float]]:
    """Tokens one after another, all but the last of which are read; their log-probabilities.

    barrier: (vocabulary,), the same for all. temperatures, uniforms: (tokens,). Ends early with
    an id of -1.
    """
    assert temperatures.dtype == uniforms.dtype == np.float64
    count = len(uniforms)
    ids, log_probs = np.full(count, -1), np.zeros(count)
    network.library.textgen_write(
        network.pointer,
        _address(barrier),
        ctypes.c_void_p(temperatures.ctypes.data),
        ctypes.c_void_p(uniforms.ctypes.data),
        ctypes.c_int64(count),
        ctypes.c_void_p(ids.ctypes.data),
        ctypes.c_void_p(log_probs.ctypes.data),
        network.threads,
    )
    return ids.tolist(), log_probs.tolist()


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
