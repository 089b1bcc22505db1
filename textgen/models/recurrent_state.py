"""What a recurrent network remembers."""

from collections.abc import Iterable
from typing import ClassVar, Self

from torch import Tensor

from textgen.models.tensor_state import TensorState

LayerState = tuple[Tensor, ...]


class HiddenState(TensorState):
    """For each layer its ``parts``, each (batch, units)."""

    parts: ClassVar[tuple[str, ...]] = ("hidden",)

    @classmethod
    def of(cls, layers: Iterable[LayerState]) -> Self:
        return cls(
            {
                f"{part}.{index}": rows
                for index, layer in enumerate(layers)
                for part, rows in zip(cls.parts, layer, strict=True)
            }
        )

    @property
    def layers(self) -> tuple[LayerState, ...]:
        return tuple(
            tuple(self.named[f"{part}.{index}"] for part in self.parts)
            for index in range(len(self.named) // len(self.parts))
        )


class RecurrentState(HiddenState):
    """(hidden, cell) of each layer of an LSTM."""

    parts = ("hidden", "cell")
