"""How the first of several processes leads, and how the others follow."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from textgen.batching import IdArray, Streams
from textgen.config import Precision, TrainingConfig
from textgen.models import Model, build
from textgen.models.placement import choose_device, use_threads
from textgen.results import TrainingResult
from textgen.training.briefing import Briefing
from textgen.training.group import Group, Order
from textgen.training.learner import Learner
from textgen.training.ranks import Ranks


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
