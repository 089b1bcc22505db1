"""A GRU or a plain recurrent network read one token a row at a time.

``nn.GRU`` and ``nn.RNN`` prepare their weights at every call: for one token, much of the time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from textgen.models.base import State, Stepper
from textgen.models.recurrent_state import HiddenState

if TYPE_CHECKING:
    from textgen.models.stacked import StackedModel

_LARGEST_TABLE = 2**24  # numbers: 64 MB of float32


@dataclass(frozen=True)
class CellWeights:
    """A layer's, of which each unit has ``gates`` columns.

    given: what it gets beside its products, (columns,); or (vocabulary, columns) by each token,
    and then from_below is None. from_below: (units below, columns). from_before: (units,
    columns), with its bias (columns,).
    """

    given: Tensor
    from_below: Tensor | None
    from_before: Tensor
    bias: Tensor


Step = Callable[[CellWeights, Tensor, Tensor], Tensor]
"""(weights, given (batch, columns), state before (batch, units)) -> state after."""


class CellStepper(Stepper):
    """Reads with prepared weights, a view of the model's where that will do."""

    @torch.no_grad()
    def __init__(self, model: "StackedModel", step: Step) -> None:
        self._step, self._logits = step, model.logits
        self._embedding, self._state_type = model.embedding, model.state_type
        self._layers = [_prepared(layer) for layer in model.layers]
        first, vocabulary = self._layers[0], model.config.vocabulary_size
        embedding = model.embedding.weight
        if embedding is None or vocabulary * len(first.given) <= _LARGEST_TABLE:
            # Of few tokens, what each gives the first layer is known beforehand.
            assert first.from_below is not None
            by_token = first.from_below if embedding is None else embedding @ first.from_below
            table = by_token + first.given
            self._layers[0] = CellWeights(table, None, first.from_before, first.bias)
        self.state = model.start(1)

    @property
    def state(self) -> HiddenState:
        return self._state_type.of((hidden,) for hidden in self._hidden)

    @state.setter
    def state(self, state: State) -> None:
        self._hidden = [hidden for (hidden,) in cast(HiddenState, state).layers]

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        below = ids
        for place, weights in enumerate(self._layers):
            if weights.from_below is None:
                given = weights.given[ids]
            else:
                inputs = below if place else self._embedding(ids)
                given = torch.addmm(weights.given, inputs, weights.from_below)
            below = self._hidden[place] = self._step(weights, given, self._hidden[place])
        return self._logits(below)


def _prepared(layer: nn.Module) -> CellWeights:
    from_below, from_before, bias, second_bias = (each.detach() for each in layer.parameters())
    return CellWeights(bias, from_below.T, from_before.T, second_bias)
