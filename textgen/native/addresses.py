"""Where a tensor's numbers are, for the compiled code."""

import torch
from torch import Tensor


def address(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
    """Of a contiguous tensor on the CPU; None of None."""
    if tensor is None:
        return None
    assert tensor.dtype == dtype
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous()
    return tensor.data_ptr()
