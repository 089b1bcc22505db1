"""Updates on a GPU as one CUDA graph: recorded once, and launched at once.

An update is a hundred small operations, whose launches take longer than the device needs for them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from textgen.config import Precision, TrainingConfig
from textgen.data.batching import IdArray, Streams, Window
from textgen.models import Model
from textgen.training.ranks import SINGLE_PROCESS, Ranks
from textgen.training.state import GradientState, Snapshot

_UPDATES_BEFORE = 3
"""Updates that are not recorded: libraries set aside memory, and the state gets its dtype."""


def gradient_state(
    model: Model,
    streams: Streams,
    config: TrainingConfig,
    precision: Precision,
    ranks: Ranks = SINGLE_PROCESS,
    held_out: Sequence[IdArray] = (),
) -> GradientState:
    """The state of training, with updates as the model and its device allow."""
    # Messages to other processes are not recorded, nor is what depends on the ids of a window.
    fixed = model.has_fixed_shapes and not config.candidates
    graphed = model.device.type == "cuda" and ranks.size == 1 and fixed
    kind = GraphedState if graphed else GradientState
    return kind(model, streams, config, precision, ranks, held_out)


class GraphedState(GradientState):
    """A ``GradientState`` whose updates replay a CUDA graph; its numbers are the same.

    The graph reads and writes the memory that it was recorded with. So ids, carried rows, the
    learning rate, the recurrent state, the norm and the sum of losses have memory of their own.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        time, batch = self.config.sequence_length, self.config.batch_size
        self._window = (
            torch.zeros(1 + time, batch, dtype=torch.int64, device=self._device),
            torch.zeros(batch, dtype=torch.bool, device=self._device),
        )
        self._rate = torch.zeros((), device=self._device)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = True
        self._graph: torch.cuda.CUDAGraph | None = None
        self._updates = 0

    def _set_learning_rate(self) -> None:
        self._rate.fill_(self.learning_rate)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate

    def _learn(self, window: Window) -> None:
        for memory, part in zip(self._window, (window.ids, window.carried), strict=True):
            memory.copy_(torch.from_numpy(part).pin_memory(), non_blocking=True)
        self._updates += 1
        if self._updates <= _UPDATES_BEFORE:
            self._learn_on_device(*self._window)
            return
        if self._graph is None:
            self._graph = self._recorded()
        self._graph.replay()

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """The graph of an update, which has not run."""
        # Copies, without the graph of gradients of the update before.
        named = {name: each.clone() for name, each in self._state.detach().tensors().items()}
        self._state, self._norm = type(self._state)(named), self._norm.clone()
        memory = (*named.values(), self._norm, self._loss_sum)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph):
            state, norm, loss_sum = self._state, self._norm, self._loss_sum
            self._learn_on_device(*self._window)
            results = self._state.detach().tensors()
            new = (*(results[name] for name in named), self._norm, self._loss_sum)
            for place, value in zip(memory, new, strict=True):
                place.copy_(value)
        self._state, self._norm, self._loss_sum = state, norm, loss_sum
        return graph

    def _load(self, snapshot: Snapshot, rows: Mapping[str, Tensor]) -> None:
        super()._load(snapshot, dict(rows))
        self._graph, self._updates = None, 0  # tensors were replaced
