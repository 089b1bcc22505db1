"""Learning that is counting: one reading of the whole text, and no gradient."""

from typing import Any

from torch import Tensor

from textgen.batching import Streams
from textgen.config import TrainingConfig
from textgen.models import Model
from textgen.training.learner import Learner


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
