"""The plain recurrent language model (Elman 1990; Mikolov et al. 2010)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.inference.steppers import CellStepper, CellWeights
from textgen.models.recurrent import LayerWeights, StackedModel
from textgen.models.scan import ACTIVATE, RNNScan, pays
from textgen.models.state import LayerState


class RNNModel(StackedModel):
    """Stacked layers of tanh or rectified linear units."""

    gates = 1

    def layer(self, below: int, units: int) -> nn.RNN:
        assert self.config.activation is not None
        return nn.RNN(below, units, nonlinearity=self.config.activation)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Orthogonal recurrence (Saxe et al. 2014), or the identity (Le, Jaitly and Hinton 2015).

        With the identity a unit keeps what it is, and adds what it is given.
        """
        super().initialize(generator)
        if self.config.recurrence == "identity":
            for layer in self.layers:
                _, from_before, _, _ = layer.parameters()
                nn.init.eye_(from_before)

    def through(
        self, weights: LayerWeights, outputs: Tensor, before: LayerState
    ) -> tuple[Tensor, LayerState]:
        (hidden,) = before
        if pays(outputs):
            from_below, from_before, bias, second_bias = weights
            given = functional.linear(outputs, from_below, bias + second_bias)
            activation = self.config.activation
            scanned: Tensor = RNNScan.apply(given, hidden, from_before, activation)  # type: ignore[no-untyped-call]
            return scanned, (scanned[-1],)
        read = torch.rnn_tanh if self.config.activation == "tanh" else torch.rnn_relu
        outputs, last = read(
            outputs, hidden.unsqueeze(0), weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, (last[0],)

    def stepper(self, *, fast: bool = False) -> CellStepper:
        assert self.config.activation is not None
        activate = ACTIVATE[self.config.activation]

        def step(weights: CellWeights, given: Tensor, before: Tensor) -> Tensor:
            return activate(torch.addmm(given + weights.bias, before, weights.from_before))

        return CellStepper(self, step)
