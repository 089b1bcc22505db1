"""An LSTM read one token a row at a time, in the way that is fastest where it is."""

from typing import TYPE_CHECKING

from torch import Tensor

from textgen import native
from textgen.models.base import State, Stepper
from textgen.models.compiled_stepper import CompiledStepper
from textgen.models.graphed_stepper import GraphedStepper
from textgen.models.step_weights import StepWeights
from textgen.models.torch_stepper import TorchStepper
from textgen.native import Network

if TYPE_CHECKING:
    from textgen.models.recurrent import LSTMModel


class RecurrentStepper(Stepper):
    """Holds prepared copies of the weights: a model that learns on needs a new one.

    fast: the weights are rounded to 8 bits. What it reads is the same in any way but for rounding.
    """

    def __init__(self, model: "LSTMModel", *, fast: bool = False) -> None:
        self._weights: StepWeights | None = StepWeights.of(model, fast=fast)
        self._device, self._dtype = model.device, model.dtype
        self._way: Stepper = TorchStepper(self._weights, model.start(1))
        if model.device.type == "cuda":
            self._way = GraphedStepper(self._way)
        self._compile()

    @property
    def state(self) -> State:
        return self._way.state

    @state.setter
    def state(self, state: State) -> None:
        self._way.state = state

    @property
    def network(self) -> Network | None:
        return self._way.network

    def step(self, ids: Tensor) -> Tensor:
        self._compile()
        return self._way.step(ids)

    def _compile(self) -> None:
        """Go over to compiled code once there is some, after which the weights are not needed."""
        if self._weights is None:
            return
        if (library := native.library(self._device, self._dtype)) is not None:
            self._way = CompiledStepper(library, self._weights, self._way.state)
            self._weights = None
