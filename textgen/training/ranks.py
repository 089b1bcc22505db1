"""The processes of a run under ``torchrun``, and which of them this one is; imports no torch.

Rank 0 reads, decides, validates, saves and writes to the terminal. The other ranks receive orders
from it and compute their rows of the batch.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textgen.errors import UsageError
from textgen.results import TrainingResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR")


@dataclass(frozen=True)
class Place:
    """A process's number among ``size``, and its number on its own machine."""

    rank: int
    size: int
    local_rank: int


def placed() -> Place | None:
    """Where this process stands, or None: it learns alone, and no socket is opened."""
    if not all(os.environ.get(name) for name in _NAMES):
        return None
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise UsageError(
            "RANK, WORLD_SIZE and LOCAL_RANK in the environment must be whole numbers",
            why=str(error),
            fix="unset them, or start with torchrun",
        ) from error
    return Place(rank, size, local_rank) if size > 1 else None


def speaks() -> bool:
    """Whether this process is the one that people hear."""
    return os.environ.get("RANK", "0") == "0" or placed() is None


def launch() -> str | None:
    """What tells this start of ``torchrun`` from any other; None without it.

    It is the same for the processes that ``--max-restarts`` starts in place of failed ones.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # Where nobody named the run, torchrun calls it "none"; then its process tells.
    return f"process {os.getppid()}" if name == "none" else name


def restarts() -> int:
    """How often ``torchrun`` has started the processes again, as one of them had failed."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(count) if count.isdecimal() else 0


class Ranks:
    """One process, which is all there is: nothing to average, gather or agree on.

    rank: which process this is. size: how many there are. signum: the signal that another
    process was sent, where there was one.
    """

    rank, size = 0, 1
    signum: int | None = None

    def run(
        self, work: Callable[[], TrainingResult], stop: Callable[[], int | None]
    ) -> TrainingResult:
        """Do ``work`` in the first process while the others follow it; its result in each."""
        return work()

    def device(self, device: "torch.device") -> "torch.device":
        """The device that this process takes where all were told to take ``device``."""
        return device

    def average(self, gradients: "Sequence[Tensor]", loss: "Tensor") -> "Tensor":
        """Put the mean over all processes into ``gradients``; the mean loss."""
        return loss

    def gather(self, rows: "Tensor") -> "Tensor":
        """The rows (batch, ...) of all processes one below another, in the first of them."""
        return rows

    def own(self, batch: int) -> slice:
        """Which of all rows are this process's, with ``batch`` in each."""
        return slice(self.rank * batch, (self.rank + 1) * batch)


ALONE = Ranks()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """All processes of the run, if there are several: this one waits until all are there."""
    place = placed()
    if place is None:
        yield ALONE
        return
    from textgen.training.distributed import Group

    group = Group(place)
    try:
        yield group
    finally:
        group.leave()
