"""An LSTM and n-grams read one token a row at a time, and mixed by compiled code where there is."""

from typing import TYPE_CHECKING, cast

from torch import Tensor

from textgen.models.base import State, Stepper
from textgen.models.ngram_rows import stepping
from textgen.models.recurrent_state import RecurrentState
from textgen.models.tensor_state import TensorState
from textgen.native import Network, Ngrams

if TYPE_CHECKING:
    from textgen.models.mixture import MixtureModel


class MixtureStepper(Stepper):
    """Has the network read by its own stepper."""

    def __init__(self, model: "MixtureModel", *, fast: bool = False) -> None:
        self._model, self._inner = model, model.network.stepper(fast=fast)
        self._step = stepping(model.tables)
        self.state = model.start(1)

    @property
    def state(self) -> State:
        of_network = cast(TensorState, self._inner.state).named
        return self._model.restore({**of_network, "ngrams": self._numbers.clone()})

    @state.setter
    def state(self, state: State) -> None:
        named = dict(cast(TensorState, state).named)
        self._numbers = named.pop("ngrams").clone()
        self._inner.state = RecurrentState(named)
        self._mixing: Network | None = None

    @property
    def network(self) -> Network | None:
        network = self._inner.network
        if network is not None and network is not self._mixing:
            model = self._model
            weight, bias = model.gate.weight.contiguous(), float(model.gate.bias)
            levels, first = model.tables.compiled()
            ngrams = Ngrams(levels, first, weight, bias, self._numbers, network.threads)
            network.mix(ngrams)
            self._mixing = network
        return network

    def step(self, ids: Tensor) -> Tensor:
        network = self.network
        if network is not None:
            network.read(ids.unsqueeze(0))
            return network.logits
        logits = self._inner.step(ids)
        by_ngrams, self._numbers = self._step(ids, self._numbers)
        return self._model.mixed(logits, by_ngrams, self._numbers)
