"""The interface of steppers, and one that works for every model."""

from abc import ABC, abstractmethod

from torch import Tensor

from textgen.inference.native.kernels import Network
from textgen.models.base import Model, State


class Stepper(ABC):
    """Computes logits one token per row at a time. Later training of the model does not change it.

    state: after the tokens read so far. Assigning one sets the number of rows.
    """

    state: State

    @abstractmethod
    def step(self, ids: Tensor) -> Tensor:
        """ids (batch,) -> logits (batch, vocabulary), which the next step may overwrite."""

    @property
    def network(self) -> Network | None:
        """The compiled network that shares this state, if there is one."""
        return None


class PlainStepper(Stepper):
    """Calls the model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.state = model.start(1)

    def step(self, ids: Tensor) -> Tensor:
        hidden, self.state = self._model.hidden_states(ids.unsqueeze(0), self.state)
        return self._model.logits(hidden[0])
