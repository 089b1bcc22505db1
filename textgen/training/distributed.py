"""Training in several processes by ``torch.distributed``.

Rank 0 leads: it decides each step and sends the order; the other ranks carry it out.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from textgen.config import Device, ModelConfig, Precision, TrainingConfig
from textgen.data.batching import IdArray, Streams, without
from textgen.errors import ElsewhereError, ResourceError, TextgenError, UsageError
from textgen.models import Model, build
from textgen.models.device import choose_device, use_threads
from textgen.results import NgramBaseline, TrainingResult, Validation
from textgen.training.ranks import Place, Ranks, restarts
from textgen.training.trainer import CountingLearner, Learner

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


@dataclass(frozen=True)
class Briefing:
    """What a process must know to learn, but for the text and the weights."""

    model: ModelConfig
    training: TrainingConfig
    unknown_rate: float
    device: Device
    precision: Precision
    threads: int

    def to_json(self) -> dict[str, Any]:
        configs = {"model": self.model.to_json(), "training": self.training.to_json()}
        return vars(self) | configs

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Briefing":
        model = ModelConfig.from_options(raw["model"])
        training = TrainingConfig.from_options(raw["training"])
        return cls(**raw | {"model": model, "training": training})

    def streams(self, ids: IdArray, ranks: Ranks) -> Streams:
        """This process's rows of those that one process with as large a batch would read."""
        training = self.training
        return Streams(
            ids,
            batch_size=ranks.size * training.batch_size,
            own=ranks.own(training.batch_size),
            sequence_length=training.sequence_length,
            run_windows=training.run_windows,
            unknown_rate=self.unknown_rate,
            seed=training.seed,
        )


def make_learner(briefing: Briefing, model: Model, ids: IdArray, ranks: Ranks) -> Learner:
    """The learner of the one process; or of the first, and by it those of the others."""
    rest, kept = without(ids, model.held_out_chunks(ids))
    streams = briefing.streams(rest, ranks)
    if briefing.model.kind.counts:
        return CountingLearner(model, streams, briefing.training)
    if ranks.size == 1:
        return Learner(model, streams, briefing.training, briefing.precision, kept=kept)

    return lead(briefing, model, streams, kept, ranks)


class LeadingLearner(Learner):
    """The first process's learner: what it does, the others do at the same time."""

    def __init__(
        self,
        model: Model,
        streams: Streams,
        config: TrainingConfig,
        precision: Precision,
        group: Group,
        kept: Sequence[IdArray],
    ) -> None:
        super().__init__(model, streams, config, precision, group, kept)
        self._group = group

    def update(self, learning_rate: float) -> None:
        with self._group.ordering(Order.UPDATE, learning_rate):
            super().update(learning_rate)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        with self._group.ordering(Order.SNAPSHOT):
            return super().snapshot()

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        with self._group.ordering(Order.RESTORE):
            _share_weights(self._group, self.model)
            names = [[name, list(t.shape), str(t.dtype)] for name, t in tensors.items()]
            self._group.share_json({"tensors": names, "values": values})
            for tensor in tensors.values():
                self._group.share(tensor.detach().cpu().contiguous())


def lead(
    briefing: Briefing, model: Model, streams: Streams, kept: Sequence[IdArray], ranks: Ranks
) -> LeadingLearner:
    """The first process's learner, when the others have all that they need to follow it.

    streams: its own, of the text; kept: what of the text is not learned from, and stays here.
    """
    assert isinstance(ranks, Group)
    with ranks.ordering(Order.BEGIN):
        ranks.share_json(briefing.to_json())
        ranks.share_ids(streams.ids)
    learner = LeadingLearner(model, streams, briefing.training, briefing.precision, ranks, kept)
    learner.restore(*learner.snapshot())  # which gives the others the same weights
    return learner


def follow(group: Group, stop: Callable[[], int | None]) -> TrainingResult:
    """Do as the first process says, to the end of the run."""
    learner: Learner | None = None
    while True:
        order, value = group.hear(stop())
        if order is Order.END:
            return group.ending()
        if order is Order.BEGIN:
            learner = _begin(group)
            continue
        assert learner is not None
        if order is Order.UPDATE:
            learner.update(value)
        elif order is Order.SNAPSHOT:
            learner.carried()
        elif order is Order.RESTORE:
            _restore(group, learner)


def _begin(group: Group) -> Learner:
    briefing = Briefing.from_json(group.share_json())
    ids = group.share_ids()
    use_threads(briefing.threads)
    device = group.device(choose_device(briefing.device))
    model = build(briefing.model).to(device).train()
    return Learner(
        model, briefing.streams(ids, group), briefing.training, briefing.precision, group
    )


def _restore(group: Group, learner: Learner) -> None:
    _share_weights(group, learner.model)
    saved = group.share_json()
    tensors = {
        name: group.share(torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch."))))
        for name, shape, dtype in saved["tensors"]
    }
    learner.restore(tensors, saved["values"])


@torch.no_grad()
def _share_weights(group: Group, model: Model) -> None:
    for parameter in model.parameters():
        group.share(parameter.detach())
