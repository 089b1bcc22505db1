"""The files of a run: ``metrics.jsonl``, ``best`` and ``last``; written and read back."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from torch import Tensor

from textgen import checkpoint, storage
from textgen.checkpoint import BEST, LAST, METRICS, Header, read_validation
from textgen.errors import CheckpointError, ResourceError
from textgen.models import count_parameters
from textgen.results import TrainingStep, Validation
from textgen.tokenizers.base import Tokenizer
from textgen.training.state import Snapshot, TrainerState

_SMALL_FILES = 2**20
"""Bytes of a checkpoint besides weights: headers, tokenizer, recurrent state."""


@dataclass(frozen=True)
class RunState:
    """What ``last`` stores besides model and tokenizer, to continue the run.

    Attributes:
        metrics_bytes: Length of ``metrics.jsonl`` at the save.
        best: Validation of ``best``.
        validation: The newest.
        losses_since_best: Of the validations since the best, in nats per token.
    """

    snapshot: Snapshot
    metrics_bytes: int
    best: Validation | None
    validation: Validation | None
    losses_since_best: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The values that are not tensors."""
        return self.snapshot.to_json() | {
            "metrics_bytes": self.metrics_bytes,
            "best": None if self.best is None else asdict(self.best),
            "validation": None if self.validation is None else asdict(self.validation),
            "losses_since_best": list(self.losses_since_best),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: It is anything else.
        """
        best, validation = (
            None if value[name] is None else read_validation(value[name])
            for name in ("best", "validation")
        )
        metrics_bytes = int(value["metrics_bytes"])
        if metrics_bytes < 0:
            raise ValueError(f"metrics of {metrics_bytes} bytes")
        losses = tuple(map(float, value["losses_since_best"]))
        return cls(Snapshot.from_json(value, tensors), metrics_bytes, best, validation, losses)


@dataclass
class RunDirectory:
    """The folder of one run, open while it trains.

    Attributes:
        template: The header of its checkpoints, except for progress.
        best: Validation of ``best``.
    """

    out: Path
    template: Header
    tokenizer: Tokenizer
    best: Validation | None = None

    def open(self, metrics_bytes: int | None) -> None:
        """Open the metrics, truncated to ``metrics_bytes`` (None: not truncated)."""
        try:
            self._metrics: BinaryIO = (self.out / METRICS).open("ab")
            if metrics_bytes is not None:
                self._truncate(min(metrics_bytes, self._metrics.tell()))
        except OSError as error:
            raise storage.write_error(self.out / METRICS, error) from error

    def close(self) -> None:
        """Every save flushed the metrics, so this fails only after an error that is reported."""
        with contextlib.suppress(OSError):
            self._metrics.close()

    def start_new(self) -> None:
        """Remove the results of an earlier run, after the first save of the new run."""
        self.best = None
        storage.discard(self.out / BEST)
        self.truncate_metrics(0)

    def length(self) -> int:
        """Length of the metrics in bytes."""
        return self._metrics.tell()

    def truncate_metrics(self, length: int) -> None:
        """Drop the metrics after ``length`` bytes: the run rolled back to where they ended."""
        self._writing(self.out / METRICS, lambda: self._truncate(length))

    def _truncate(self, length: int) -> None:
        self._metrics.truncate(length)
        # Truncating does not move the position, and ``tell`` is what the next checkpoint records.
        self._metrics.seek(0, os.SEEK_END)

    def log_step(self, step: TrainingStep) -> None:
        line = asdict(step)
        for name in ("progress", "remaining_seconds", "memory_bytes"):
            del line[name]
        if not math.isfinite(step.gradient_norm):  # an overflow detected by fp16's gradient scaler
            line["gradient_norm"] = None
        self._log({"event": "step"} | line)

    def log_validation(self, validation: Validation) -> None:
        figures = checkpoint.validation_json(validation)
        line = {"event": "validation", "step": validation.step} | figures
        self._log(line | {"seconds": validation.seconds})

    def _log(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        self._writing(self.out / METRICS, lambda: self._metrics.write(data))

    def save_best(self, state: TrainerState, validation: Validation) -> Path:
        self.best = validation
        header = self._header(state, validation)
        checkpoint.save(self.out / BEST, header, state.model, self.tokenizer)
        return self.out / BEST

    def save_last(
        self,
        state: TrainerState,
        snapshot: Snapshot,
        validation: Validation | None,
        losses_since_best: tuple[float, ...] = (),
    ) -> Path:
        """Save ``last``; ``validation`` is the newest."""
        self._writing(self.out / METRICS, self._flush)
        metrics_bytes = self._metrics.tell() if state.step else 0
        run_state = RunState(snapshot, metrics_bytes, self.best, validation, losses_since_best)
        checkpoint.save(
            self.out / LAST,
            self._header(state, validation),
            state.model,
            self.tokenizer,
            (dict(snapshot.tensors), run_state.to_json()),
        )
        return self.out / LAST

    def _flush(self) -> None:
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def _writing(self, path: Path, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            raise storage.write_error(path, error) from error

    def _header(self, state: TrainerState, validation: Validation | None) -> Header:
        config = state.model.config  # known only after counting n-grams
        return replace(
            self.template,
            model=config,
            parameters=count_parameters(config),
            step=state.step,
            tokens_seen=state.tokens_seen,
            seconds=state.seconds,
            tokens_per_second=state.tokens_seen / max(state.step_seconds, 1e-9),
            validation=validation,
        )


def load_run_state(folder: Path) -> RunState:
    """The state of the run whose ``last`` is ``folder``, which has been loaded as a checkpoint.

    Raises:
        CheckpointError: It is damaged, or not the state of a run.
    """
    tensors, values = checkpoint.load_resumable(folder)
    try:
        state = RunState.from_json(values, tensors)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise state_error(folder, error) from error
    if state.snapshot.progress.step:  # before the first step, ``best`` is an earlier run's
        return replace(state, best=_better_on_disk(folder.parent, state.best))
    return state


def state_error(folder: Path, error: Exception) -> CheckpointError:
    """The error of a checkpoint whose training state does not fit its model."""
    why = f"its training state does not fit ({error})"
    return CheckpointError("damaged", where=folder, why=why)


def _better_on_disk(out: Path, known: Validation | None) -> Validation | None:
    """``best`` may have been saved after the ``last`` that a killed run left; keep the better."""
    folder = storage.find_complete(out / BEST)
    if folder is None:
        return None
    found = checkpoint.read_header(folder / checkpoint.CONFIG).validation
    return min((v for v in (found, known) if v is not None), key=lambda v: v.loss, default=None)


def check_space(out: Path, parameters: int, *, resumed: bool = False) -> None:
    """Refuse to start a run whose checkpoints would not fit on the disk.

    ``last`` holds weights and two moments, ``best`` the weights, and a new one of each is written
    beside the old; a resumed run already has the old ones.
    """
    copies = 4 if resumed else 8
    needed = copies * 4 * parameters + _SMALL_FILES
    existing = out
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            "not enough space for a checkpoint",
            where=out,
            why=f"{needed:,} bytes needed, {free:,} free",
            fix="free space, or choose another --out or a smaller --hidden-size",
        )
