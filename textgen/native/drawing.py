"""Many draws at once from tempered softmaxes, by the compiled code."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.native.addresses import address
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
