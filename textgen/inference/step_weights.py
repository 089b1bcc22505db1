"""The weights of an LSTM in the form that steps read them in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from textgen.models.lstm import LSTMModel


_LARGEST_TABLE = 2**24  # numbers: 64 MB of float32


@dataclass(frozen=True)
class Matrix:
    """numbers (outputs, inputs); where there are scales (outputs,), int8 that they multiply."""

    numbers: Tensor
    scales: Tensor | None = None

    @classmethod
    def rounded(cls, exact: Tensor) -> Self:
        """The nearest in 8 bits: each row has 127 steps to its largest number."""
        scales = exact.abs().amax(1).div_(127).clamp_(min=torch.finfo(exact.dtype).tiny)
        return cls((exact / scales.unsqueeze(1)).round_().to(torch.int8), scales)

    def whole(self) -> Tensor:
        """What it stands for."""
        return self.numbers if self.scales is None else self.numbers * self.scales.unsqueeze(1)


@dataclass(frozen=True)
class LayerWeights:
    """A layer is one product, of the output below and its own last output, side by side.

    The gates' order is admit, forget, expose, candidate. matrix: (4 units, inputs). given: what
    they are given beside the product, (4 units,); or (vocabulary, 4 units) by each token, and then
    the inputs are the last output alone.
    """

    matrix: Matrix
    given: Tensor

    @property
    def units(self) -> int:
        return self.given.shape[-1] // 4


@dataclass(frozen=True)
class StepWeights:
    """embedding: (vocabulary, units), None where the first layer is given what a token gives it.

    last: (vocabulary, units). bias: (vocabulary,).
    """

    embedding: Tensor | None
    layers: tuple[LayerWeights, ...]
    last: Matrix
    bias: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: "LSTMModel", *, fast: bool) -> Self:
        """fast: with matrices of 8 bits."""
        as_asked = Matrix.rounded if fast else Matrix
        # One-hot input looks up a column of the first layer's weights.
        embedding = model.embedding.weight
        embedding = None if embedding is None else embedding.detach()
        layers: list[LayerWeights] = []
        for layer in model.layers:
            from_below, from_before, bias, second_bias = (
                _candidate_last(weights) for weights in layer.parameters()
            )
            given, matrix = bias + second_bias, torch.cat([from_below, from_before], 1)
            if not layers and embedding is None:
                given, matrix = from_below.T + given, from_before
            elif (
                not layers
                and embedding is not None
                and len(embedding) * len(bias) <= _LARGEST_TABLE
            ):
                # Of few tokens, what each gives the first layer is known beforehand.
                given, matrix = torch.addmm(given, embedding, from_below.T), from_before
            layers.append(LayerWeights(as_asked(matrix), given))
        last, bias = model.output.weight.detach(), model.output.bias.detach()
        looks_up = layers[0].given.ndim == 1
        return cls(embedding if looks_up else None, tuple(layers), as_asked(last), bias)


def _candidate_last(weights: Tensor) -> Tensor:
    """The gates of nn.LSTM (admit, forget, candidate, expose) with those that open first."""
    admit, forget, candidate, expose = weights.chunk(4)
    return torch.cat([admit, forget, expose, candidate])
