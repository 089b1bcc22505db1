"""The processes of a run under ``torchrun``, and which of them this one is; imports no torch.

Every rank runs the same loop on its own rows of the batch (SPMD). What depends on the clock, the
disk or the terminal is computed on rank 0 and broadcast, so that all ranks take the same branches.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from textgen.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from textgen.data.batching import IdArray

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessRank:
    """The number of this process among ``world_size``, and its number on its own machine."""

    rank: int
    world_size: int
    local_rank: int


def process_rank() -> ProcessRank | None:
    """What ``torchrun`` set in the environment; None for a single process.

    Raises:
        UsageError: The variables are set, but not to whole numbers.
    """
    if not all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")):
        return None
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise UsageError(
            "RANK, WORLD_SIZE and LOCAL_RANK in the environment must be whole numbers",
            why=str(error),
            fix="unset them, or start with torchrun",
        ) from error
    return ProcessRank(rank, world_size, local_rank) if world_size > 1 else None


def is_first_process() -> bool:
    """Whether this process writes to the terminal: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0" or process_rank() is None


def launch_id() -> str | None:
    """Identifies one start of ``torchrun``; None without it.

    It is the same for the processes that ``--max-restarts`` starts in place of failed ones.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # torchrun calls a run without a name "none"; its process id then identifies the start.
    return f"process {os.getppid()}" if name == "none" else name


def restart_count() -> int:
    """How often ``torchrun`` has restarted the processes after a failure."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(count) if count.isdecimal() else 0


class Ranks:
    """The processes of a run. This class is the case of one process: all collectives are no-ops.

    Attributes:
        rank: The number of this process.
        size: The number of processes.
    """

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of this process among all rows, with ``batch_size`` in each process."""
        return slice(self.rank * batch_size, (self.rank + 1) * batch_size)

    def device(self, device: "torch.device") -> "torch.device":
        """The device of this process, where the run was started for ``device``."""
        return device

    def first(self, compute: Callable[[], T]) -> T:
        """Compute a value on rank 0 and return it on every rank; an error ends every rank."""
        return compute()

    def maximum(self, *values: float) -> tuple[float, ...]:
        """The largest of each value over all ranks."""
        return values

    def mean(self, value: "Tensor") -> "Tensor":
        """The mean of a scalar over all ranks."""
        return value

    def gather(self, rows: "Tensor") -> "Tensor":
        """The rows (batch, ...) of all ranks in order, on rank 0; elsewhere ``rows``."""
        return rows

    def broadcast_ids(self, ids: "IdArray") -> "IdArray":
        """The ids of rank 0, on every rank."""
        return ids

    def parallel(self, module: "nn.Module") -> "nn.Module":
        """The module with its gradients averaged over all ranks, and rank 0's weights."""
        return module

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """Around collectives of ``parallel``: a lost connection is a ResourceError."""
        return contextlib.nullcontext()


SINGLE_PROCESS = Ranks()
