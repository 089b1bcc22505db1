"""Collectives of ``torch.distributed`` for a run of several processes under ``torchrun``."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from textgen.data.batching import IdArray
from textgen.errors import ElsewhereError, ResourceError, TextgenError, UsageError
from textgen.training.ranks import Placement, Ranks, restart_count

T = TypeVar("T")

# A process that dies is noticed at once, because its connections close; these limits are for
# machines that vanish. The other ranks wait while rank 0 reads the text, validates and saves.
_STARTING = timedelta(minutes=5)
_WAITING = timedelta(hours=2)
_BLOCK_BYTES = 2**24
_SOURCE_LINE = re.compile(r"\[[^]]*\.cc:\d+\]")


class ProcessGroup(Ranks):
    """The processes of one ``torchrun``. CPU tensors travel by gloo, those on GPUs by nccl."""

    def __init__(self, placement: Placement) -> None:
        self.rank, self.size = placement.rank, placement.world_size
        self._local_rank = placement.local_rank
        with _connected():
            _connect(placement)
            self._group = dist.new_group(timeout=_WAITING)

    def leave(self) -> None:
        with contextlib.suppress(RuntimeError):
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
                raise ElsewhereError(message, code=code)
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
        # A message on the CPU, so that no GPU is waited for.
        reduced = torch.tensor(values, dtype=torch.float64)
        with _connected():
            dist.all_reduce(reduced, dist.ReduceOp.MAX, group=self._group)
        return tuple(reduced.tolist())

    def mean(self, value: Tensor) -> Tensor:
        total = value.detach().clone()
        with _connected():
            dist.all_reduce(total, group=self._group)
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
            # Buffers are counts of the text, which every rank makes for itself.
            parallel = DistributedDataParallel(
                module, process_group=self._group, broadcast_buffers=False
            )
        parallel.register_comm_hook(self._group, _average_each)
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


def _average_each(
    group: dist.ProcessGroup,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Average gradients over all ranks, each weight by itself.

    The order in which more than two ranks are summed depends on a number's place in the tensor
    that is reduced, and DDP rearranges its buckets after the first update; reduced as a whole, the
    last bits of a resumed run would differ.
    """
    bucket.buffer().div_(group.size())
    works = [
        dist.all_reduce(gradient, group=group, async_op=True) for gradient in bucket.gradients()
    ]
    for work in works[:-1]:
        work.wait()
    return works[-1].get_future().then(lambda _: bucket.buffer())  # type: ignore[no-any-return]


def _connect(placement: Placement) -> None:
    if not dist.is_available():
        raise ResourceError(
            "this build of torch has no torch.distributed", fix="leave torchrun out"
        )
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        store, _, _ = next(rendezvous("env://", timeout=_STARTING))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            # torchrun keeps its store over a restart, and with it the dead processes' addresses.
            store=PrefixStore(f"start {restart_count()}", store),
            rank=placement.rank,
            world_size=placement.world_size,
            timeout=_STARTING,
        )
    except ValueError as error:  # the environment makes no sense
        raise UsageError("cannot start several processes", why=str(error)) from error


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
            "lost touch with the other processes of the run",
            why=_SOURCE_LINE.sub("", str(error)).strip().partition(". ")[0].splitlines()[0],
            fix="see their error messages; --resume goes on from the last save",
        ) from error
