"""The model, its optimizer and its place in the text; one update, or one pass of counting."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from textgen.config import Precision, TrainingConfig
from textgen.data.batching import IdArray, Streams, Window
from textgen.inference.likelihood import mean_cross_entropy
from textgen.models import Dropout, Model, State
from textgen.models.device import autocast
from textgen.training.ranks import ALONE, Ranks

_SEED_STRIDE, _RANK_STRIDE = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_STATE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64)


class Learner:
    """A model, its optimizer, the streams it reads and where it is in them.

    ``snapshot`` and ``restore`` carry all of it bit for bit. Randomness needs no carrying:
    the draws of a step are keyed by (seed, step, rank), the order of the corpus by
    (seed, epoch). ranks: the processes that learn together, each with a batch of its own.
    kept: pieces of the text, which the model asked to be kept back. remarks: what a person
    should hear, once, of the first update.
    """

    def __init__(
        self,
        model: Model,
        streams: Streams,
        config: TrainingConfig,
        precision: Precision,
        ranks: Ranks = ALONE,
        kept: Sequence[IdArray] = (),
    ) -> None:
        self.model, self.streams, self.config = model, streams, config
        self.step, self.tokens_seen, self.seconds, self.step_seconds = 0, 0, 0.0, 0.0
        self.rate_scale, self.rollbacks, self.learning_rate = 1.0, 0, 0.0
        self.remarks: tuple[str, ...] = ()
        self._device = model.device
        self._precision, self._ranks = precision, ranks
        self._kept = kept
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
        self._loss_sum = self._sum_of(0.0)
        self._loss_count = 0
        self._norm = torch.zeros(())

    def update(self, learning_rate: float) -> None:
        """One step of truncated back-propagation through time (Werbos 1990).

        A gradient that is not finite leaves weights and optimizer as they were.
        """
        if self.step == 0:
            self.model.read(self.streams.ids)
            self.remarks = self.model.remarks()
        window = self.streams.next()
        loss = self._loss(window)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        loss = self._ranks.average(gradients, loss.detach())
        self._scaler.unscale_(self._optimizer)
        self._norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.clip)
        self.learning_rate = learning_rate * self.rate_scale
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
        self.tokens_seen += self.tokens_a_step

    def _loss(self, window: Window) -> Tensor:
        inputs, targets, carried = (
            self._on_device(part) for part in (window.inputs, window.targets, window.carried)
        )
        key = self.config.seed * _SEED_STRIDE + self._ranks.rank * _RANK_STRIDE + self.step
        self._generator.manual_seed(key % 2**63)
        dropout = Dropout(self.config.dropout, self._generator)
        state = self._state.detach().keep(carried)
        with autocast(self._device, self._precision):
            hidden, self._state = self.model.hidden_states_in_context(
                inputs, targets, state, dropout
            )
            return mean_cross_entropy(self.model, hidden, targets)

    @property
    def kept_tokens(self) -> int:
        """How many tokens were kept back, to be settled on."""
        return sum(map(len, self._kept))

    def settle(self) -> None:
        """Settle what a validation needs settled, on the text that was kept back."""
        if self._kept:
            self.model.settle(self._kept)

    def _sum_of(self, value: float) -> Tensor:
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.tensor(value, dtype=dtype, device=self._device)

    def _on_device(self, array: Any) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    @property
    def tokens_a_step(self) -> int:
        """Tokens that all processes together learn from in an update."""
        return self._ranks.size * self.config.batch_size * self.config.sequence_length

    @property
    def is_finite(self) -> bool:
        """Whether the loss and the gradient of the last step were; waits for the device."""
        finite = math.isfinite(float(self._loss_sum))
        return finite and (self._scaler.is_enabled() or math.isfinite(float(self._norm)))

    @property
    def gradient_norm(self) -> float:
        return float(self._norm)

    def take_mean_loss(self) -> float:
        """Mean training loss since this was last asked, in nats a token."""
        mean = float(self._loss_sum) / max(1, self._loss_count)
        self._loss_sum, self._loss_count = torch.zeros_like(self._loss_sum), 0
        return mean

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON values) from which ``restore`` goes on as if nothing had been."""
        tensors = {f"state.{name}": rows for name, rows in self.carried().items()}
        slots = self._optimizer.state_dict()["state"]
        for index, slot in slots.items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in slot.items()}
        values = {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "seconds": self.seconds,
            "step_seconds": self.step_seconds,
            "rate_scale": self.rate_scale,
            "rollbacks": self.rollbacks,
            "loss_sum": float(self._loss_sum),
            "loss_count": self._loss_count,
            "streams": self.streams.state(),
            "scaler": self._scaler.state_dict(),
        }
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}, values

    def carried(self) -> dict[str, Tensor]:
        """The state after the last window, of all processes' rows in the first of them."""
        named = self._state.detach().tensors()
        return {name: self._ranks.gather(rows) for name, rows in named.items()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take up where ``snapshot`` was made. The model's weights are the caller's to restore.

        Raises ValueError, KeyError or IndexError where the snapshot is not of such a model.
        """
        on_device = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        prefix = "state."
        rows = {n.removeprefix(prefix): t for n, t in on_device.items() if n.startswith(prefix)}
        own = self._ranks.own(self.config.batch_size)
        self._state = self.model.restore({name: tensor[own] for name, tensor in rows.items()})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                # A copy, for the optimizer writes into what it is given.
                slots.setdefault(int(index), {})[slot] = tensor.clone()
        self._check_shapes(rows, slots)
        self._check_all_there(tensors, slots, values)
        state = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**state, "state": slots})
        _check_values(values)
        self.step, self.tokens_seen = int(values["step"]), int(values["tokens_seen"])
        self.seconds, self.step_seconds = float(values["seconds"]), float(values["step_seconds"])
        self.rate_scale = float(values["rate_scale"])
        self.rollbacks = int(values.get("rollbacks", 0))
        self._loss_sum = self._sum_of(float(values["loss_sum"]))
        self._loss_count = int(values["loss_count"])
        self.streams.restore(values["streams"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(values["scaler"])

    def _check_shapes(self, rows: dict[str, Tensor], slots: dict[int, dict[str, Tensor]]) -> None:
        """Refuse a state, or an optimizer's moments, that are not of this model and batch."""
        start = self.model.start(self._ranks.size * self.config.batch_size).tensors()
        pairs = [(name, rows[name], start[name].shape) for name in start]
        ordered = [p for group in self._optimizer.param_groups for p in group["params"]]
        for index, slot in slots.items():
            shapes = {"step": torch.Size(), "exp_avg": ordered[index].shape}
            shapes["exp_avg_sq"] = shapes["exp_avg"]
            pairs += [(f"optimizer.{index}.{n}", slot[n], shape) for n, shape in shapes.items()]
        for name, tensor, shape in pairs:
            if tensor.shape != shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(shape)}")

    def _check_all_there(
        self, tensors: dict[str, Tensor], slots: dict[int, Any], values: dict[str, Any]
    ) -> None:
        """Refuse a snapshot that lacks a tensor, has one too many, or one of another type."""
        learned = set(range(len(self._parameters))) if values["step"] else set()
        slot_names = ("step", "exp_avg", "exp_avg_sq")
        expected = {f"state.{name}" for name in self.model.start(1).tensors()}
        expected |= {f"optimizer.{index}.{name}" for index in learned for name in slot_names}
        if tensors.keys() != expected:
            raise ValueError(f"{min(tensors.keys() ^ expected)} is missing or too many")
        for name, tensor in tensors.items():
            allowed = _STATE_DTYPES if name.startswith("state.") else (torch.float32,)
            if tensor.dtype not in allowed:
                raise ValueError(f"{name} is {tensor.dtype}")


def _check_values(values: dict[str, Any]) -> None:
    """Refuse numbers that no run of training leaves."""
    counts = [values[name] for name in ("step", "tokens_seen", "loss_count")]
    counts.append(values.get("rollbacks", 0))
    if any(type(count) is not int or not 0 <= count < 2**63 for count in counts):
        raise ValueError("a count is not a whole number")
    reals = [values[name] for name in ("seconds", "step_seconds", "rate_scale")]
    if any(not 0 <= float(real) < math.inf for real in reals) or values["rate_scale"] > 1:
        raise ValueError("seconds or a rate are out of range")
    if not math.isfinite(values["loss_sum"]):
        raise ValueError("the loss is not finite")


def _decay_groups(parameters: list[torch.nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices; none for biases, which do not overfit."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class CountingLearner(Learner):
    """Learns all in one step."""

    def __init__(self, model: Model, streams: Streams, config: TrainingConfig) -> None:
        self.model, self.streams, self.config = model, streams, config
        self.step, self.tokens_seen, self.seconds, self.step_seconds = 0, 0, 0.0, 0.0
        self.rate_scale, self.rollbacks, self.learning_rate = 1.0, 0, 0.0
        self.remarks = ()
        self._kept = ()

    def update(self, learning_rate: float) -> None:
        self.model.read(self.streams.ids)
        self.remarks = self.model.remarks()
        self.step += 1
        self.tokens_seen += self.tokens_a_step

    @property
    def tokens_a_step(self) -> int:
        return len(self.streams.ids)

    @property
    def is_finite(self) -> bool:
        return True

    @property
    def gradient_norm(self) -> float:
        return 0.0

    def take_mean_loss(self) -> float:
        return float("nan")

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        values = ("step", "tokens_seen", "seconds", "step_seconds")
        return {}, {name: getattr(self, name) for name in values}

    def carried(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        if tensors:
            raise ValueError(f"{min(tensors)} is too many")
        self.step, self.tokens_seen = int(values["step"]), int(values["tokens_seen"])
        self.seconds, self.step_seconds = float(values["seconds"]), float(values["step_seconds"])
        if not (0 <= self.step <= 1 and self.tokens_seen >= 0 and self.seconds >= 0):
            raise ValueError("counts that no run leaves")
