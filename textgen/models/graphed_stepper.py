"""Steps replayed as one CUDA graph: on a GPU a small step is mostly the launching of its parts."""

from collections.abc import Callable

import torch
from torch import Tensor

from textgen.models.base import State, Stepper

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]

_STEPS_BEFORE = 32
"""Capturing takes about as long as so many steps: it pays where the rows stay as many."""


def capture(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record what a function launches, which has run before; what is returned runs it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


class GraphedStepper(Stepper):
    """Reads as another stepper does, whose state must stay in the same memory for as many rows."""

    def __init__(self, stepper: Stepper, capture: Capture = capture) -> None:
        self._stepper, self._capture = stepper, capture
        self._begin(_rows(stepper.state))

    def _begin(self, rows: int) -> None:
        self._rows, self._steps = rows, 0
        self._replay: Callable[[], Tensor] | None = None

    @property
    def state(self) -> State:
        return self._stepper.state

    @state.setter
    def state(self, state: State) -> None:
        self._stepper.state = state
        if _rows(state) != self._rows:
            self._begin(_rows(state))

    def step(self, ids: Tensor) -> Tensor:
        self._steps += 1
        if self._steps <= _STEPS_BEFORE:
            return self._stepper.step(ids)
        if self._replay is None:
            self._ids = ids.clone()
            self._replay = self._capture(lambda: self._stepper.step(self._ids))
        self._ids.copy_(ids)
        return self._replay()


def _rows(state: State) -> int:
    return len(next(iter(state.tensors().values())))
