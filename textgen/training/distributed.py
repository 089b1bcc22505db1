"""Collectives of ``torch.distributed`` for a run of several processes under ``torchrun``."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from textgen.config import Device
from textgen.data.batching import IdArray
from textgen.errors import OtherProcessError, ResourceError, TextgenError, UsageError
from textgen.training.ranks import ProcessRank, Ranks, restart_count

T = TypeVar("T")

# Gloo notices a process that dies at once, because its connections close; its limits are for
# machines that vanish. The other ranks wait while rank 0 reads the text, validates and saves. Nccl
# notices nothing, but carries only what all ranks send in the same update.
_STARTING = timedelta(minutes=5)
_WAITING = timedelta(hours=2)
_UPDATING = timedelta(minutes=5)
_BLOCK_BYTES = 2**24
_ONE_BUCKET_MB = 2**20
_SOURCE_LINE = re.compile(r"\[[^]]*\.cc:\d+\]")


class ProcessGroup(Ranks, contextlib.AbstractContextManager["ProcessGroup"]):
    """The processes of one ``torchrun``. CPU tensors travel by gloo, those on GPUs by nccl."""

    def __init__(self, process_rank: ProcessRank, device: Device) -> None:
        """device: as it was requested."""
        self.rank, self.size = process_rank.rank, process_rank.world_size
        self._local_rank = process_rank.local_rank
        if not dist.is_available():
            raise ResourceError(
                "this build of torch has no torch.distributed", fix="start without torchrun"
            )
        on_gpus = device in ("auto", "cuda") and torch.cuda.is_available()
        self._has_nccl = on_gpus and dist.is_nccl_available()
        try:
            with _connected():
                store, _, _ = next(rendezvous("env://", timeout=_STARTING))
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if self._has_nccl else "gloo",
                    # torchrun keeps its store over a restart, with the dead processes' addresses.
                    store=PrefixStore(f"start {restart_count()}", store),
                    rank=self.rank,
                    world_size=self.size,
                    timeout=_STARTING,
                )
                self._group = self._device_group = dist.new_group(timeout=_WAITING)
                if self._has_nccl:
                    self._device_group = dist.new_group(timeout=_UPDATING)
        except ValueError as error:  # invalid variables in the environment
            raise UsageError("cannot start several processes", why=str(error)) from error

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        with contextlib.suppress(RuntimeError):
            if error is not None and self._has_nccl:
                # Destroying would wait for messages that a rank which has died never sends.
                dist.distributed_c10d._abort_process_group()
            else:
                dist.destroy_process_group()

    def device(self, device: torch.device) -> torch.device:
        if device.type == "mps":
            raise UsageError("several processes cannot share one mps device", fix="--device cpu")
        if device.type != "cuda":
            return device
        if self._local_rank >= torch.cuda.device_count():
            raise ResourceError(
                "more processes than GPUs",
                why=f"this machine has {torch.cuda.device_count()}",
                fix="lower --nproc-per-node, or add --device cpu",
            )
        torch.cuda.set_device(self._local_rank)
        return torch.device("cuda", self._local_rank)

    def first(self, compute: Callable[[], T]) -> T:
        if not self.is_first:
            value, failure = self._broadcast(None)
            if failure is not None:
                message, code = failure
                raise OtherProcessError(message, code=code)
            return cast(T, value)
        try:
            value = compute()
        except BaseException as error:
            with contextlib.suppress(ResourceError):  # the others may have ended already
                self._broadcast((None, (str(error), _exit_code(error))))
            raise
        self._broadcast((value, None))
        return value

    def maximum(self, *values: float) -> tuple[float, ...]:
        # A message on the CPU, which does not wait for a GPU.
        reduced = torch.tensor(values, dtype=torch.float64)
        with _connected():
            dist.all_reduce(reduced, dist.ReduceOp.MAX, group=self._group)
        return tuple(reduced.tolist())

    def mean(self, value: Tensor) -> Tensor:
        total = value.detach().clone()
        with _connected():
            dist.all_reduce(total, group=self._device_group)
        return total / self.size

    def gather(self, rows: Tensor) -> Tensor:
        rows = rows.detach().cpu().contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)] if self.is_first else None
        with _connected():
            dist.gather(rows, parts, dst=0, group=self._group)
        return rows if parts is None else torch.cat(parts)

    def broadcast_ids(self, ids: IdArray) -> IdArray:
        """The ids of rank 0, which the other ranks keep in a temporary file that is mapped."""
        name, length = self.first(lambda: (ids.dtype.str, len(ids)))
        dtype = np.dtype(name)
        if not self.is_first:
            with tempfile.TemporaryFile() as file:
                ids = np.memmap(file, dtype=dtype, mode="w+", shape=(length,))
        block = _BLOCK_BYTES // dtype.itemsize
        for begin in range(0, length, block):
            part = np.array(ids[begin : begin + block])
            with _connected():
                dist.broadcast(torch.from_numpy(part.view(np.uint8)), src=0, group=self._group)
            if not self.is_first:
                ids[begin : begin + block] = part
        return ids

    def parallel(self, module: nn.Module) -> nn.Module:
        with _connected(), warnings.catch_warnings():
            # Its successor is newer than the oldest torch that we support.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            parallel = DistributedDataParallel(
                module,
                process_group=self._device_group,
                # Buffers are counts of the text, which every rank makes for itself.
                broadcast_buffers=False,
                # Almost all gradients of an LSTM are ready only at the end: one bucket for all.
                bucket_cap_mb=_ONE_BUCKET_MB,
            )
        places = {parameter: place for place, parameter in enumerate(module.parameters())}
        parallel.register_comm_hook((self._device_group, places), _average)
        return parallel

    def connected(self) -> contextlib.AbstractContextManager[None]:
        return _connected()

    def _broadcast(self, message: object) -> Any:
        """The message of rank 0, which pickle can hold, on every rank."""
        messages = [message]
        with _connected():
            dist.broadcast_object_list(
                messages, src=0, group=self._group, device=torch.device("cpu")
            )
        return messages[0]


def _average(
    state: tuple[dist.ProcessGroup, Mapping[Tensor, int]],
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Average gradients over all ranks, in one message in the order of the parameters.

    The order in which more than two ranks are summed depends on a number's place in the message,
    and DDP rearranges its bucket after the first update; without an order of our own the last bits
    of a resumed run would differ.
    """
    group, places = state
    pairs = zip(bucket.parameters(), bucket.gradients(), strict=True)
    gradients = [gradient for _, gradient in sorted(pairs, key=lambda pair: places[pair[0]])]
    message = torch.cat([gradient.flatten() for gradient in gradients]).div_(group.size())

    def copy_back(_: object) -> Tensor:
        parts = torch.split(message, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        buffer: Tensor = bucket.buffer()
        return buffer

    reduced = dist.all_reduce(message, group=group, async_op=True).get_future()
    averaged: torch.futures.Future[Tensor] = reduced.then(copy_back)
    return averaged


def _exit_code(error: BaseException) -> int:
    if isinstance(error, TextgenError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    """Turn a lost connection into an error of one line."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise
        raise ResourceError(
            "lost the connection to the other processes of the run",
            why=_SOURCE_LINE.sub("", str(error)).strip().partition(". ")[0].splitlines()[0],
            fix="see their error messages; --resume continues from the last save",
        ) from error
