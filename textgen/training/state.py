"""The state of training: model, optimizer and position in the text; and its updates.

``GradientState`` learns by truncated back-propagation through time, ``CountingState`` by one pass
of counting.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from textgen import storage
from textgen.config import Precision, TrainingConfig
from textgen.data.batching import IdArray, Streams, StreamsState, Window
from textgen.inference.likelihood import mean_cross_entropy
from textgen.models import Dropout, Model, State
from textgen.models.base import CountsNgrams, FitsMixture
from textgen.models.device import autocast
from textgen.training.ranks import SINGLE_PROCESS, Ranks

_SEED_STRIDE, _RANK_STRIDE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_STATE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64)
_STATE, _OPTIMIZER = "state.", "optimizer."


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        seconds: Wall time of the whole run, over all its resumptions.
        step_seconds: Wall time of updates alone.
        learning_rate_scale: Factor on the learning rate, lowered at each rollback.
        rollbacks: How often the run returned to an earlier state.
        loss_sum: Sum of the losses of ``loss_count`` updates since the last log line, in nats per
            token.
    """

    step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    learning_rate_scale: float = 1.0
    rollbacks: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0

    def check(self) -> None:
        """Raises ValueError for impossible values."""
        counts = (self.step, self.tokens_seen, self.loss_count, self.rollbacks)
        if any(not 0 <= count < 2**63 for count in counts):
            raise ValueError("a count is out of range")
        reals = (self.seconds, self.step_seconds, self.learning_rate_scale)
        if any(not 0 <= real < math.inf for real in reals) or self.learning_rate_scale > 1:
            raise ValueError("seconds or a learning rate are out of range")
        if not math.isfinite(self.loss_sum):
            raise ValueError("the loss is not finite")


@dataclass(frozen=True)
class Snapshot:
    """The state of training without the weights, from which ``restore`` continues bit for bit.

    Randomness is no part of it: the draws of a step are keyed by (seed, step, rank), the order of
    the corpus by (seed, epoch).

    Attributes:
        tensors: ``state.<name>``, the recurrent state of each stream, and
            ``optimizer.<index>.<name>``, the moments of each parameter.
        scaler: The state of fp16's gradient scaler; empty without one.
    """

    progress: Progress
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    streams: StreamsState | None = None
    scaler: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The values that are not tensors."""
        streams = None if self.streams is None else self.streams.to_json()
        return {"progress": asdict(self.progress), "streams": streams, "scaler": dict(self.scaler)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is anything else.
        """
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} is not finite")
        progress, streams = storage.from_json(Progress, value["progress"]), value["streams"]
        progress.check()
        return cls(
            progress,
            dict(tensors),
            None if streams is None else StreamsState.from_json(streams),
            dict(value["scaler"]),
        )


def _remarks(model: Model) -> tuple[str, ...]:
    return model.remarks() if isinstance(model, CountsNgrams) else ()


class TrainerState(ABC):
    """What an update changes: the model, and the progress of the run (see ``Progress``).

    Attributes:
        warnings: Remarks on the text, to be shown once after the first update.
        learning_rate: Of the last update.
        held_out_tokens: Tokens that the mixture's weights are fitted on, the same on every rank.
    """

    def __init__(self, model: Model, held_out: Sequence[IdArray] = ()) -> None:
        """held_out: chunks of the training part that only the mixture's weights are fitted on."""
        self.model = model
        self.step, self.tokens_seen, self.seconds, self.step_seconds = 0, 0, 0.0, 0.0
        self.learning_rate_scale, self.rollbacks, self.learning_rate = 1.0, 0, 0.0
        self.warnings: tuple[str, ...] = ()
        self._held_out = held_out
        self.held_out_tokens = sum(map(len, held_out))

    @abstractmethod
    def update(self, learning_rate: float) -> None:
        """Learn from the next window of every stream."""

    @abstractmethod
    def initialize_from_text(self) -> None:
        """Initialize what depends on the text; again if a resumed run continues on another."""

    @property
    @abstractmethod
    def tokens_per_step(self) -> int:
        """Training tokens per update, of all processes together."""

    @property
    def is_finite(self) -> bool:
        """Whether the loss and the gradient of the last step are finite; waits for the device."""
        return True

    @property
    def gradient_norm(self) -> float:
        """Norm of the last gradient, before clipping."""
        return 0.0

    def take_mean_loss(self) -> float:
        """Mean training loss since the last call, in nats per token."""
        return math.nan

    def prepare_validation(self) -> None:
        """Fit what depends on held-out chunks of the training part."""
        if self._held_out and isinstance(self.model, FitsMixture):
            self.model.fit_mixture(self._held_out)

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of the state, on rank 0 with the streams of all ranks; every rank calls this."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot; the caller restores the weights.

        The number of ranks may differ from that of the snapshot.

        Raises:
            ValueError, KeyError, IndexError: The snapshot does not fit the model.
        """

    @abstractmethod
    def remember(self) -> None:
        """Keep a copy of weights and state to roll back to."""

    @abstractmethod
    def roll_back(self) -> None:
        """Restore what ``remember`` copied; the times continue."""

    def _progress(self, loss_sum: float = 0.0, loss_count: int = 0) -> Progress:
        return Progress(
            self.step,
            self.tokens_seen,
            self.seconds,
            self.step_seconds,
            self.learning_rate_scale,
            self.rollbacks,
            loss_sum,
            loss_count,
        )

    def _restore_progress(self, progress: Progress) -> None:
        self.step, self.tokens_seen = progress.step, progress.tokens_seen
        self.seconds, self.step_seconds = progress.seconds, progress.step_seconds
        self.learning_rate_scale = progress.learning_rate_scale
        self.rollbacks = progress.rollbacks


class WindowLoss(nn.Module):
    """The loss of a window as one module, so that it can be wrapped for data parallelism."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: Tensor, targets: Tensor, state: State, dropout: Dropout
    ) -> tuple[Tensor, State]:
        """inputs, targets (time, batch) -> mean loss in nats per token (), the next state."""
        hidden, state = self.model.hidden_states_in_context(inputs, targets, state, dropout)
        return mean_cross_entropy(self.model, hidden, targets), state


class GradientState(TrainerState):
    """A model that learns by AdamW (Loshchilov and Hutter 2019) from windows of streams.

    Each of several ranks has its own batch; their gradients are averaged.
    """

    def __init__(
        self,
        model: Model,
        streams: Streams,
        config: TrainingConfig,
        precision: Precision,
        ranks: Ranks = SINGLE_PROCESS,
        held_out: Sequence[IdArray] = (),
    ) -> None:
        super().__init__(model, held_out)
        self.streams, self.config = streams, config
        self._device = model.device
        self._precision, self._ranks = precision, ranks
        self.held_out_tokens = int(ranks.maximum(self.held_out_tokens)[0])
        self._window_loss = ranks.parallel(WindowLoss(model))
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._state: State = model.start(config.batch_size)
        self._generator = torch.Generator(device=self._device)
        self._optimizer = torch.optim.AdamW(
            _decay_groups(self._parameters, config.weight_decay),
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "fp16")
        self._loss_sum = self._scalar(0.0)
        self._loss_count = 0
        self._norm = torch.zeros(())

    def update(self, learning_rate: float) -> None:
        """One step of truncated back-propagation through time (Werbos 1990).

        A gradient that is not finite leaves weights and optimizer as they were.
        """
        if self.step == 0:
            self.initialize_from_text()
            self.warnings = _remarks(self.model)
        loss = self._loss(self.streams.next())
        with self._ranks.connected():
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        loss = self._ranks.mean(loss.detach())
        self._scaler.unscale_(self._optimizer)
        self._norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.clip)
        self.learning_rate = learning_rate * self.learning_rate_scale
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        if not self._scaler.is_enabled():
            # The fused optimizer skips its step where this is 1, without a synchronisation.
            cast(Any, self._optimizer).found_inf = (~self._norm.isfinite()).float()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._loss_sum = self._loss_sum + loss.to(self._loss_sum)
        self._loss_count += 1
        self.step += 1
        self.tokens_seen += self.tokens_per_step

    def initialize_from_text(self) -> None:
        self.model.initialize_from_text(self.streams.ids)

    def _loss(self, window: Window) -> Tensor:
        inputs, targets, carried = (
            self._on_device(part) for part in (window.inputs, window.targets, window.carried)
        )
        key = self.config.seed * _SEED_STRIDE + self._ranks.rank * _RANK_STRIDE + self.step
        self._generator.manual_seed(key % 2**63)
        dropout = Dropout(self.config.dropout, self._generator)
        state = self._state.detach().keep(carried)
        with autocast(self._device, self._precision):
            loss, self._state = self._window_loss(inputs, targets, state, dropout)
        return cast(Tensor, loss)

    def _scalar(self, value: float) -> Tensor:
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self._device)

    def _on_device(self, array: Any) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    @property
    def tokens_per_step(self) -> int:
        return self._ranks.size * self.config.batch_size * self.config.sequence_length

    @property
    def is_finite(self) -> bool:
        finite = math.isfinite(float(self._loss_sum))
        return finite and (self._scaler.is_enabled() or math.isfinite(float(self._norm)))

    @property
    def gradient_norm(self) -> float:
        return float(self._norm)

    def take_mean_loss(self) -> float:
        mean = float(self._loss_sum) / max(1, self._loss_count)
        self._loss_sum, self._loss_count = torch.zeros_like(self._loss_sum), 0
        return mean

    def snapshot(self) -> Snapshot:
        named = self._state.detach().tensors()
        return self._snapshot({name: self._ranks.gather(rows) for name, rows in named.items()})

    def _snapshot(self, rows: Mapping[str, Tensor]) -> Snapshot:
        tensors = {_STATE + name: each for name, each in rows.items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{index}.{name}": each for name, each in slots.items()}
        return Snapshot(
            self._progress(float(self._loss_sum), self._loss_count),
            {name: tensor.detach().clone() for name, tensor in tensors.items()},
            self.streams.state(),
            self._scaler.state_dict(),
        )

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot.streams is None:
            raise ValueError("the streams are missing")
        self._check_shapes(snapshot, len(snapshot.streams.rows))
        self._check_complete(snapshot)
        self._load(snapshot, snapshot.streams, self._own_rows)

    def remember(self) -> None:
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        streams = self.streams.state()
        self._remembered = weights, self._snapshot(self._state.detach().tensors()), streams

    @torch.no_grad()
    def roll_back(self) -> None:
        weights, snapshot, streams = self._remembered
        clocks = self.seconds, self.step_seconds
        for parameter, weight in zip(self.model.parameters(), weights, strict=True):
            parameter.copy_(weight)
        self._load(snapshot, streams, lambda name, rows: rows)
        self.seconds, self.step_seconds = clocks

    def _load(
        self,
        snapshot: Snapshot,
        streams: StreamsState,
        own_rows: Callable[[str, Tensor], Tensor],
    ) -> None:
        rows = _rows(snapshot)
        self._state = self.model.restore(
            {name: own_rows(name, each.to(self._device)) for name, each in rows.items()}
        )
        state = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**state, "state": _moments(snapshot)})
        self._restore_progress(snapshot.progress)
        self._loss_sum = self._scalar(snapshot.progress.loss_sum)
        self._loss_count = snapshot.progress.loss_count
        self.streams.restore(streams)
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(snapshot.scaler))

    def _own_rows(self, name: str, rows: Tensor) -> Tensor:
        """The rows of this process; a stream that the saved run did not have starts fresh."""
        own = self._ranks.rows(self.config.batch_size)
        found = rows[own]
        start = self.model.start(self.config.batch_size).tensors()[name]
        return torch.cat([found, start[len(found) :].to(found)])

    def _check_shapes(self, snapshot: Snapshot, batch: int) -> None:
        """Refuse a state, or an optimizer's moments, that are not of this model and batch."""
        rows, start = _rows(snapshot), self.model.start(batch).tensors()
        pairs = [(name, rows[name], start[name].shape) for name in start]
        ordered = [p for group in self._optimizer.param_groups for p in group["params"]]
        for index, slot in _moments(snapshot).items():
            shapes = {"step": torch.Size(), "exp_avg": ordered[index].shape}
            shapes["exp_avg_sq"] = shapes["exp_avg"]
            pairs += [(f"{_OPTIMIZER}{index}.{n}", slot[n], shape) for n, shape in shapes.items()]
        for name, tensor, shape in pairs:
            if tensor.shape != shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(shape)}")

    def _check_complete(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot that lacks a tensor, has one too many, or one of another type."""
        learned = range(len(self._parameters) if snapshot.progress.step else 0)
        slot_names = ("step", "exp_avg", "exp_avg_sq")
        expected = {_STATE + name for name in self.model.start(1).tensors()}
        expected |= {f"{_OPTIMIZER}{index}.{name}" for index in learned for name in slot_names}
        if snapshot.tensors.keys() != expected:
            raise ValueError(f"{min(snapshot.tensors.keys() ^ expected)} is missing or unexpected")
        for name, tensor in snapshot.tensors.items():
            allowed = _STATE_DTYPES if name.startswith(_STATE) else (torch.float32,)
            if tensor.dtype not in allowed:
                raise ValueError(f"{name} is {tensor.dtype}")


def _rows(snapshot: Snapshot) -> dict[str, Tensor]:
    """The recurrent state of each stream (streams, ...), by its name in the model."""
    tensors = snapshot.tensors.items()
    return {n.removeprefix(_STATE): each for n, each in tensors if n.startswith(_STATE)}


def _moments(snapshot: Snapshot) -> dict[int, dict[str, Tensor]]:
    """A copy of the optimizer's state of each parameter: the optimizer writes into it."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in snapshot.tensors.items():
        if name.startswith(_OPTIMIZER):
            _, index, slot = name.split(".", 2)
            moments.setdefault(int(index), {})[slot] = tensor.clone()
    return moments


def _decay_groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices; none for biases, which do not overfit."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class CountingState(TrainerState):
    """A model that is estimated from all of its text in one step."""

    def __init__(self, model: Model, ids: IdArray) -> None:
        super().__init__(model)
        self._ids = ids

    def update(self, learning_rate: float) -> None:
        self.initialize_from_text()
        self.warnings = _remarks(self.model)
        self.step += 1
        self.tokens_seen += self.tokens_per_step

    def initialize_from_text(self) -> None:
        self.model.initialize_from_text(self._ids)

    @property
    def tokens_per_step(self) -> int:
        return len(self._ids)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._progress())

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot.tensors:
            raise ValueError(f"{min(snapshot.tensors)} is unexpected")
        if snapshot.progress.step > 1:
            raise ValueError("impossible counts")
        self._restore_progress(snapshot.progress)

    def remember(self) -> None:
        """Does nothing: counts are always finite, so there is no rolling back."""

    def roll_back(self) -> None:
        """Does nothing, as ``remember``."""
