"""Device, threads, precision, and the sizes that depend on the device."""

import os
import warnings
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
    available: dict[Device, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if requested == "auto":
        requested = next(name for name, check in available.items() if check())
    if requested not in available:
        raise UsageError(f"--device must be one of auto, cpu, cuda, mps, got {requested!r}")
    if not available[requested]():
        raise ResourceError(
            f"no {requested} device", where="--device", fix="use --device auto or cpu"
        )
    if requested == "cuda":
        _set_up_cuda()
    return torch.device(requested)


def device_of_process(device: torch.device, number: int) -> torch.device:
    """The device of one of several processes, numbered from 0, which are dealt out to the GPUs."""
    if device.type != "cuda":
        return device
    _set_up_cuda()
    return torch.device("cuda", number % torch.cuda.device_count())


def _set_up_cuda() -> None:
    """Settings of the process for exact and reproducible results; before CUDA is first used."""
    # TensorFloat-32 has a mantissa of ten bits: scores would differ from those of a CPU.
    torch.backends.cudnn.allow_tf32 = False
    # Without it, cuDNN's recurrent layers need not give the same numbers twice (PyTorch's notes
    # on nn.LSTM). It is read when cuBLAS is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
    # Weights of half precision, and those of the columns of a one-hot input, are not in one piece;
    # cuDNN then copies them at each call, which is right and cheap.
    warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")


_TIMES_ON_CUDA = 8


def size_on(device: torch.device, on_cpu: int) -> int:
    """How much is computed at once, given that on a CPU; small operations leave a GPU idle."""
    return _TIMES_ON_CUDA * on_cpu if device.type == "cuda" else on_cpu


def use_threads(threads: int | None) -> int:
    """Set the number of threads of an operation, unless None; returns the number in use."""
    if threads is not None:
        most = max(64, 4 * (os.cpu_count() or 1))
        if not 1 <= threads <= most:
            raise UsageError(f"--threads must be from 1 to {most}, got {threads}")
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def choose_precision(requested: Precision, device: torch.device, config: ModelConfig) -> Precision:
    """The precision to train in; ``auto`` is that of the fastest products.

    On CUDA this is fp16: cuDNN's recurrent layers compute in fp16 under any autocast, and fp16 has
    three more bits of mantissa than bf16. On a CPU it is bf16 where the hardware multiplies it
    faster. The choice depends on hardware and sizes, not on a timing, so that runs are
    reproducible. Below 96 units the conversions cost more than the products save.
    """
    if requested == "fp16" and device.type != "cuda":
        raise UsageError("--precision fp16 needs a CUDA device", fix="use bf16, float32 or auto")
    if requested == "bf16" and device.type == "cpu" and not cpu_learns_in_bf16():
        raise UsageError("--precision bf16 needs a processor that has it", fix="use auto")
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "fp16"
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
