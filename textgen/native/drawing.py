"""Many draws at once from tempered softmaxes, by the compiled code."""

import ctypes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.native.loading import Library

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
    assert logits.dtype == torch.float32
    logits = logits.contiguous()
    ids, log_probs = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=torch.float64)
    threads = max(1, min(rows, rows * size // _NUMBERS_A_THREAD, torch.get_num_threads()))
    shares = torch.empty(threads, size, dtype=torch.float64)
    barred, stride = doubles(barrier), size if barrier.ndim == 2 else 0
    library.textgen_draw(
        ctypes.c_void_p(logits.data_ptr()),
        barred,
        ctypes.c_int64(stride),
        doubles(temperatures),
        doubles(uniforms),
        ctypes.c_int64(rows),
        ctypes.c_int64(size),
        ctypes.c_void_p(ids.data_ptr()),
        doubles(log_probs),
        doubles(shares),
        ctypes.c_int(threads),
    )
    return ids, log_probs


def doubles(numbers: Numbers | Tensor) -> ctypes.c_void_p:
    """Where they are."""
    if isinstance(numbers, Tensor):
        assert numbers.dtype == torch.float64
        assert numbers.is_contiguous()
        return ctypes.c_void_p(numbers.data_ptr())
    assert numbers.dtype == np.float64
    assert numbers.flags.c_contiguous
    return ctypes.c_void_p(numbers.ctypes.data)
