"""Several processes that learn together, by ``torch.distributed``."""

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from enum import IntEnum
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from textgen.batching import IdArray
from textgen.errors import ElsewhereError, ResourceError, TextgenError, UsageError
from textgen.results import NgramBaseline, TrainingResult, Validation
from textgen.training.ranks import Place, Ranks, restarts

# A process that dies is noticed at once, for its connections close; these are for machines
# that vanish. The others wait while the first reads the text, validates and saves.
_STARTING = timedelta(minutes=5)
_WAITING = timedelta(hours=2)
_PART_BYTES = 2**24
_SOURCE_LINE = re.compile(r"\[[^]]*\.cc:\d+\]")


class Order(IntEnum):
    """What the first process has the others do."""

    BEGIN = 1
    UPDATE = 2
    SNAPSHOT = 3
    RESTORE = 4
    END = 5


class Group(Ranks):
    """The processes of one ``torchrun``. CPU tensors travel by gloo, those on GPUs by nccl."""

    def __init__(self, place: Place) -> None:
        self.rank, self.size, self._local_rank = place.rank, place.size, place.local_rank
        # Set while an order is carried out: a process that failed in it cannot give the next,
        # as the others still wait for its part in this one.
        self._amid = False
        with _in_touch():
            _connect(place)
            self._group = dist.new_group(timeout=_WAITING)

    def leave(self) -> None:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()

    def run(
        self, work: Callable[[], TrainingResult], stop: Callable[[], int | None]
    ) -> TrainingResult:
        if self.rank:
            from textgen.training.following import follow

            return follow(self, stop)
        try:
            result = work()
        except BaseException as error:
            self._end({"message": str(error), "code": _exit_code(error)})
            raise
        self._end(asdict(result))
        return result

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

    # Not DistributedDataParallel: it would wrap the model that validation, sampling and saving
    # use, and overlap little, as almost all gradients of an LSTM are ready only at the end.
    # One sum of all of them, the loss among them, gives every process the very same numbers;
    # so what is not finite in one is not finite in all, and each leaves its weights alone.
    def average(self, gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
        flat = torch.cat([part.flatten().float() for part in (loss, *gradients)])
        with _in_touch():
            dist.all_reduce(flat, group=self._group)
        flat /= self.size
        means = torch.split(flat[1:], [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return flat[0]

    def gather(self, rows: Tensor) -> Tensor:
        rows = rows.detach().cpu().contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)] if self.rank == 0 else None
        with _in_touch():
            dist.gather(rows, parts, dst=0, group=self._group)
        return rows if parts is None else torch.cat(parts)

    @contextlib.contextmanager
    def ordering(self, order: Order, value: float = 0.0) -> Iterator[None]:
        """Have the others carry out an order, and do its part in the body of this context."""
        self._amid = True
        self._agree(order, value, None)
        yield
        self._amid = False

    def hear(self, signum: int | None) -> tuple[Order, float]:
        """Wait for the next order, telling of a signal that this process was sent."""
        return self._agree(0, 0.0, signum)

    def _agree(self, order: int, value: float, signum: int | None) -> tuple[Order, float]:
        """One small message a step, on the CPU, so that no GPU is waited for."""
        said = torch.tensor([order, value, signum or 0], dtype=torch.float64)
        with _in_touch():
            dist.all_reduce(said, dist.ReduceOp.MAX, group=self._group)
        self.signum = int(said[2]) or None
        return Order(int(said[0])), float(said[1])

    def share(self, tensor: Tensor) -> Tensor:
        """Fill ``tensor`` with what the first process has in it."""
        with _in_touch():
            dist.broadcast(tensor, src=0, group=self._group)
        return tensor

    def share_json(self, value: Any = None) -> Any:
        """The first process's value, which JSON can hold, in each."""
        text = json.dumps(value).encode() if self.rank == 0 else b""
        length = int(self.share(torch.tensor(len(text))))
        data = np.zeros(length, np.uint8)
        if self.rank == 0:
            data[:] = np.frombuffer(text, np.uint8)
        return json.loads(self.share(torch.from_numpy(data)).numpy().tobytes())

    def share_ids(self, ids: IdArray | None = None) -> IdArray:
        """The first process's ids in each; the others keep them in a file, mapped."""
        what = self.share_json(None if ids is None else [ids.dtype.str, len(ids)])
        dtype, length = np.dtype(what[0]), int(what[1])
        if ids is None:
            with tempfile.TemporaryFile() as file:
                ids = np.memmap(file, dtype=dtype, mode="w+", shape=(length,))
        step = _PART_BYTES // dtype.itemsize
        for begin in range(0, length, step):
            part = np.array(ids[begin : begin + step])
            self.share(torch.from_numpy(part.view(np.uint8)))
            if self.rank:
                ids[begin : begin + step] = part
        return ids

    def _end(self, ending: dict[str, Any]) -> None:
        """Let the others go; that one of them has gone already is no matter any more."""
        if self._amid:
            return
        with contextlib.suppress(ResourceError), self.ordering(Order.END):
            self.share_json(ending)

    def ending(self) -> TrainingResult:
        """How the first process ended; raises ElsewhereError where it failed."""
        ending = self.share_json()
        if "code" in ending:
            raise ElsewhereError(ending["message"], code=ending["code"])
        for name in ("validation", "last_validation"):
            ending[name] = None if ending[name] is None else Validation(**ending[name])
        ending["ngram"] = None if ending["ngram"] is None else NgramBaseline(**ending["ngram"])
        return TrainingResult(**ending)


def _connect(place: Place) -> None:
    if not dist.is_available():
        raise ResourceError("this build of torch knows only one process", fix="leave torchrun out")
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        store, _, _ = next(rendezvous("env://", timeout=_STARTING))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            # torchrun keeps its store over a restart, and with it the dead processes' addresses.
            store=PrefixStore(f"start {restarts()}", store),
            rank=place.rank,
            world_size=place.size,
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
def _in_touch() -> Iterator[None]:
    """Say in one line that the other processes cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise
        raise ResourceError(
            "lost touch with the other processes of the run",
            why=_SOURCE_LINE.sub("", str(error)).strip().partition(". ")[0].splitlines()[0],
            fix="see what they said before; --resume goes on from the last save",
        ) from error
