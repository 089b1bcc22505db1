"""Device, threads and precision."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache

import torch

from textgen.config import Device, ModelConfig, Precision
from textgen.errors import ResourceError, UsageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_FOR_BF16 = 96


def choose_device(requested: Device) -> torch.device:
    """The requested device; ``auto`` is the first available of CUDA, MPS and the CPU.

    Raises ResourceError where the requested device is not available.
    """
    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    # TensorFloat-32 has a mantissa of ten bits: scores would differ from those of a CPU.
    torch.backends.cudnn.allow_tf32 = False
    if requested == "auto":
        return torch.device(next(name for name, check in available.items() if check()))
    if requested not in available:
        raise UsageError(f"--device must be one of auto, cpu, cuda, mps, got {requested!r}")
    if not available[requested]():
        raise ResourceError(
            f"no {requested} device", where="--device", fix="use --device auto or cpu"
        )
    return torch.device(requested)


def device_of_process(device: torch.device, number: int) -> torch.device:
    """The device of one of several processes, numbered from 0, which are dealt out to the GPUs."""
    torch.backends.cudnn.allow_tf32 = False
    if device.type != "cuda":
        return device
    return torch.device("cuda", number % torch.cuda.device_count())


def use_threads(threads: int | None) -> int:
    """Set the number of threads of an operation, unless None; returns the number in use."""
    if threads is not None:
        most = max(64, 4 * (os.cpu_count() or 1))
        if not 1 <= threads <= most:
            raise UsageError(f"--threads must be from 1 to {most}, got {threads}")
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def choose_precision(requested: Precision, device: torch.device, config: ModelConfig) -> Precision:
    """The precision to train in; ``auto`` is bf16 where the hardware multiplies it faster.

    The choice depends on hardware and sizes, not on a timing, so that runs are reproducible. Below
    96 units the conversions cost more than the products save.
    """
    if requested == "fp16" and device.type != "cuda":
        raise UsageError("--precision fp16 needs a CUDA device", fix="use bf16, float32 or auto")
    if requested == "bf16" and device.type == "cpu" and not cpu_learns_in_bf16():
        raise UsageError("--precision bf16 needs a processor that has it", fix="use auto")
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and max(config.layer_sizes, default=0) >= _SMALLEST_FOR_BF16:
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return "bf16"
    return "float32"


@cache
def cpu_learns_in_bf16() -> bool:
    """Whether an LSTM can be trained in bf16 on this CPU; oneDNN needs AVX-512."""
    layer = torch.nn.LSTM(2, 2)
    try:
        with autocast(torch.device("cpu"), "bf16"):
            layer(torch.zeros(1, 1, 2))
    except RuntimeError:
        return False
    return True


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which a training step's forward pass runs."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)
