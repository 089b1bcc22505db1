"""The files of a run: ``metrics.jsonl``, ``best``, ``last`` and ``at``; written and read back."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from torch import Tensor

from textgen import checkpoint, storage
from textgen.checkpoint import AT, BEST, LAST, METRICS, Header, Rounding
from textgen.config import Count, Loss
from textgen.errors import ResourceError
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
    metrics_bytes: Count
    best: Validation | None
    validation: Validation | None
    losses_since_best: tuple[Loss, ...]

    def to_json(self) -> dict[str, Any]:
        """The values that are not tensors."""
        streams = self.snapshot.streams
        return {
            "progress": asdict(self.snapshot.progress),
            "streams": None if streams is None else streams.to_json(),
            "scaler": {} if self.snapshot.scaler is None else asdict(self.snapshot.scaler),
            "metrics_bytes": self.metrics_bytes,
            "best": None if self.best is None else asdict(self.best),
            "validation": None if self.validation is None else asdict(self.validation),
            "losses_since_best": list(self.losses_since_best),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is anything else.
        """
        snapshot = {**value, "scaler": value["scaler"] or None, "tensors": {}}
        state = storage.from_json(cls, {**value, "snapshot": snapshot})
        return replace(state, snapshot=replace(state.snapshot, tensors=dict(tensors)))


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
        with self._writing():
            self._metrics: BinaryIO = (self.out / METRICS).open("ab")
        if metrics_bytes is not None:
            path = self.out / METRICS
            lines = path.read_bytes()[:metrics_bytes]  # a damaged disk may have lost some
            self.truncate_metrics(lines.rfind(b"\n") + 1)

    def close(self) -> None:
        """Every save flushed the metrics, so this fails only after an error that is reported."""
        with contextlib.suppress(OSError):
            self._metrics.close()

    def start_new(self) -> None:
        """Remove the results of an earlier run, after the first save of the new run."""
        self.best = None
        for name in (BEST, AT):
            storage.discard(self.out / name)
        self.truncate_metrics(0)

    def length(self) -> int:
        """Length of the metrics in bytes."""
        return self._metrics.tell()

    def truncate_metrics(self, length: int) -> None:
        """Drop the metrics after ``length`` bytes: the run rolled back to where they ended."""
        with self._writing():
            self._metrics.truncate(length)
            # Truncating does not move the position, which the next checkpoint records.
            self._metrics.seek(0, os.SEEK_END)

    def log_step(self, step: TrainingStep) -> None:
        line = asdict(step)
        for name in ("progress", "remaining_seconds", "memory_bytes", "next_validation"):
            del line[name]
        self._log({"event": "step"} | line)

    def log_validation(self, validation: Validation) -> None:
        figures = checkpoint.validation_json(validation)
        line = {"event": "validation", "step": validation.step} | figures
        self._log(line | {"seconds": validation.seconds})

    def _log(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if isinstance(value, float) and not math.isfinite(value):
                line[name] = None  # such as the norm of a gradient that overflowed in fp16
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._writing():
            self._metrics.write(data)

    def save_best(
        self, state: TrainerState, validation: Validation, rounding: Rounding | None
    ) -> Path:
        """Save ``best``, of weights that have been rounded as ``rounding`` says."""
        header = replace(self._header(state, validation), rounding=rounding)
        checkpoint.save(self.out / BEST, header, state.model, self.tokenizer)
        return self.out / BEST

    def save_at(self, state: TrainerState, name: str, validation: Validation | None) -> Path:
        """Save ``at/NAME``; ``validation`` is the newest, of weights that may be older."""
        folder = self.out / AT / name
        checkpoint.save(folder, self._header(state, validation), state.model, self.tokenizer)
        return folder

    def save_last(
        self,
        state: TrainerState,
        snapshot: Snapshot,
        validation: Validation | None,
        losses_since_best: tuple[float, ...] = (),
    ) -> Path:
        """Save ``last``; ``validation`` is the newest."""
        with self._writing():
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        metrics_bytes = self.length() if state.progress.step else 0
        run_state = RunState(snapshot, metrics_bytes, self.best, validation, losses_since_best)
        checkpoint.save(
            self.out / LAST,
            self._header(state, validation),
            state.model,
            self.tokenizer,
            (dict(snapshot.tensors), run_state.to_json()),
        )
        return self.out / LAST

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage.write_error(self.out / METRICS, error) from error

    def _header(self, state: TrainerState, validation: Validation | None) -> Header:
        config, progress = state.model.config, state.progress
        return replace(
            self.template,
            model=config,  # complete only when n-grams have been counted
            parameters=count_parameters(config),
            step=progress.step,
            tokens_seen=progress.tokens_seen,
            words_seen=progress.words_seen,
            seconds=progress.seconds,
            tokens_per_second=progress.tokens_per_second,
            validation=validation,
        )


def load_run_state(folder: Path) -> RunState:
    """The state of the run whose ``last`` is ``folder``, which has been loaded as a checkpoint.

    Raises:
        CheckpointError: It is damaged, or not the state of a run.
    """
    tensors, values = checkpoint.load_resumable(folder)
    with storage.reading(folder / checkpoint.STATE):
        state = RunState.from_json(values, tensors)
    if state.snapshot.progress.step == 0:  # ``best`` is an earlier run's
        return state
    best = None
    found = storage.find_complete(folder.parent / BEST)
    if found is not None:
        # It may have been saved after the ``last`` that a killed run left; keep the better.
        on_disk = checkpoint.read_header(found / checkpoint.CONFIG).validation
        known = [each for each in (on_disk, state.best) if each is not None]
        best = min(known, key=lambda each: each.loss, default=None)
    return replace(state, best=best)


def check_space(out: Path, parameters: int, *, resumed: bool = False, more: int = 0) -> None:
    """Refuse to start a run whose checkpoints would not fit on the disk.

    ``last`` holds weights and two moments, ``best`` the weights, and a new one of each is written
    beside the old; a resumed run already has the old ones.

    Args:
        more: How many with weights alone are kept on the way.
    """
    copies = (4 if resumed else 8) + more
    needed = copies * 4 * parameters + _SMALL_FILES
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            "not enough space for a checkpoint",
            where=out,
            why=f"{needed:,} bytes needed, {free:,} free",
            fix="free space, or choose another --out or a smaller --hidden-size",
        )
