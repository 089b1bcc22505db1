"""What a process must know to learn, whether it is the only one or one of several."""

from dataclasses import dataclass
from typing import Any

from textgen.batching import IdArray, Streams, without
from textgen.config import Device, ModelConfig, Precision, TrainingConfig
from textgen.models import Model
from textgen.training.counting import CountingLearner
from textgen.training.learner import Learner
from textgen.training.ranks import Ranks


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
    rest, kept = without(ids, model.kept_back(ids))
    streams = briefing.streams(rest, ranks)
    if briefing.model.kind.counts:
        return CountingLearner(model, streams, briefing.training)
    if ranks.size == 1:
        return Learner(model, streams, briefing.training, briefing.precision, kept=kept)
    from textgen.training.following import lead

    return lead(briefing, model, streams, kept, ranks)
