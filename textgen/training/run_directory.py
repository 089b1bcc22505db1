"""What a run leaves on disk: ``metrics.jsonl``, ``best`` and ``last``."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from textgen import checkpoint, storage
from textgen.checkpoint import BEST, LAST, METRICS, Header, read_validation
from textgen.errors import CheckpointError, ResourceError
from textgen.results import TrainingStep, Validation
from textgen.tokenizers.base import Tokenizer
from textgen.training.schedule import Patience

if TYPE_CHECKING:
    from textgen.training.trainer import Learner


_LEFTOVERS = frozenset(
    {storage.LOCK, METRICS} | {name + suffix for name in (BEST, LAST) for suffix in (".new",)}
)


_SMALL_FILES = 2**20
"""Bytes for what a checkpoint holds beside weights: headers, tokenizer, carried state."""


def is_empty(out: Path) -> bool:
    """Whether a new run may start here: nothing in the folder but what a killed one left."""
    return not out.exists() or all(path.name in _LEFTOVERS for path in out.iterdir())


def is_run(out: Path) -> bool:
    """Whether the folder holds a run's files and nothing of anybody else's."""
    own = {BEST, LAST} | {name + suffix for name in (BEST, LAST) for suffix in (".new", ".old")}
    return all(path.name in _LEFTOVERS | own for path in out.iterdir())


@dataclass
class Record:
    """The folder of one run, held open while it trains.

    template: the header of its checkpoints, but for how far the run is.
    """

    out: Path
    template: Header
    tokenizer: Tokenizer
    best: Validation | None = None
    patience: Patience = field(default_factory=Patience)

    def open(self, kept_bytes: int | None) -> None:
        """Open the metrics, cut back to what the checkpoint knew of them (None: as they are)."""
        try:
            self._metrics: BinaryIO = (self.out / METRICS).open("ab")
            if kept_bytes is not None:
                self._truncate(min(kept_bytes, self._metrics.tell()))
        except OSError as error:
            raise storage.unwritable(self.out / METRICS, error) from error

    def close(self) -> None:
        """Every save flushed the metrics: only after an error, which is told, can this fail."""
        with contextlib.suppress(OSError):
            self._metrics.close()

    def start_afresh(self) -> None:
        """Clear what an earlier run left, now that the new run's first checkpoint is in place."""
        self.best = None
        storage.discard(self.out / BEST)
        self.cut_back(0)

    def length(self) -> int:
        """How many bytes of metrics there are."""
        return self._metrics.tell()

    def cut_back(self, length: int) -> None:
        """Forget the metrics after ``length``: the run went back to where they were so many."""
        self._writing(self.out / METRICS, lambda: self._truncate(length))

    def _truncate(self, length: int) -> None:
        self._metrics.truncate(length)
        # Truncating moves no position, and ``tell`` is what the next checkpoint will know.
        self._metrics.seek(0, os.SEEK_END)

    def log_step(self, step: TrainingStep) -> None:
        line = asdict(step)
        for name in ("progress", "remaining_seconds", "memory_bytes"):
            del line[name]
        if not math.isfinite(step.gradient_norm):  # an overflow that fp16's scaler met
            line["gradient_norm"] = None
        self._log({"event": "step"} | line)

    def log_validation(self, validation: Validation) -> None:
        line = checkpoint.validation_json(validation)
        self._log(
            {"event": "validation", "step": validation.step}
            | line
            | {"seconds": validation.seconds}
        )

    def _log(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        self._writing(self.out / METRICS, lambda: self._metrics.write(data))

    def save_best(self, learner: "Learner", validation: Validation) -> Path:
        self.best = validation
        header = self._header(learner, validation)
        checkpoint.save(self.out / BEST, header, learner.model, self.tokenizer)
        return self.out / BEST

    def save_last(self, learner: "Learner", validation: Validation | None) -> Path:
        """validation: the newest, which ``config.json`` tells of."""
        self._writing(self.out / METRICS, self._flush)
        tensors, values = learner.snapshot()
        values["metrics_bytes"] = self._metrics.tell() if learner.step else 0
        values["since_best"] = self.patience.losses
        values["best"] = None if self.best is None else asdict(self.best)
        values["validation"] = None if validation is None else asdict(validation)
        header = self._header(learner, validation)
        checkpoint.save(self.out / LAST, header, learner.model, self.tokenizer, (tensors, values))
        return self.out / LAST

    def _flush(self) -> None:
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def _writing(self, path: Path, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            raise storage.unwritable(path, error) from error

    def _header(self, learner: "Learner", validation: Validation | None) -> Header:
        from textgen.models import count_parameters

        shape = learner.model.config  # which is known of a model that counts when it has
        return replace(
            self.template,
            model=shape,
            parameters=count_parameters(shape),
            step=learner.step,
            tokens_seen=learner.tokens_seen,
            seconds=learner.seconds,
            tokens_per_second=learner.tokens_seen / max(learner.step_seconds, 1e-9),
            validation=validation,
        )


def resume(
    record: Record, learner: "Learner", folder: Path, *, changed: bool = False
) -> tuple[int, Validation | None]:
    """Take up a run where its ``last`` left it; the model's weights have been loaded.

    changed: whether it goes on in another text, which is then read from its beginning.
    Returns how many bytes of the metrics it knew of, and the newest validation.
    """
    tensors, values = checkpoint.load_resumable(folder)
    try:
        if changed:
            values["streams"] = learner.streams.state()
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} is not finite")
        learner.restore(tensors, values)
        best, validation = values["best"], values["validation"]
        record.best = None if best is None else read_validation(best)
        newest = None if validation is None else read_validation(validation)
        record.patience.losses = [float(loss) for loss in values.get("since_best", ())]
        metrics_bytes = int(values["metrics_bytes"])
        if metrics_bytes < 0:
            raise ValueError(f"metrics of {metrics_bytes} bytes")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            "damaged", where=folder, why=f"its state of training does not fit ({error})"
        ) from error
    except RuntimeError as error:  # torch's, of tensors that do not fit
        raise CheckpointError(
            "damaged", where=folder, why=f"its state of training does not fit ({error})"
        ) from error
    if learner.step:  # before the first step, what is there is an earlier run's
        record.best = _better_on_disk(record.out, record.best)
    return metrics_bytes, newest


def _better_on_disk(out: Path, known: Validation | None) -> Validation | None:
    """``best`` may have been saved after the ``last`` that a killed run left; keep the better."""
    folder = storage.whole(out / BEST)
    if folder is None:
        return None
    found = checkpoint.describe(folder).validation
    return min((v for v in (found, known) if v is not None), key=lambda v: v.loss, default=None)


def check_space(out: Path, parameters: int, *, resumed: bool = False) -> None:
    """Refuse to begin a run whose checkpoints would not fit on the disk.

    ``last`` is weights and two moments, ``best`` the weights, and a new one of each is written
    beside the old; of a resumed run the old ones are there already.
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
