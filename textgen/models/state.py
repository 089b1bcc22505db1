"""States of models: named tensors, one row per stream."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorState:
    """Tensors by name, batch first.

    beginnings: what the numbers of a tensor are at the start, where that is not 0.
    """

    named: Mapping[str, Tensor]
    beginnings: ClassVar[Mapping[str, float]] = {}

    def _with(self, named: Mapping[str, Tensor]) -> Self:
        return type(self)(named)

    def detach(self) -> Self:
        return self._with({name: rows.detach() for name, rows in self.named.items()})

    def select(self, rows: Tensor) -> Self:
        return self._with({name: all_rows[rows] for name, all_rows in self.named.items()})

    def keep(self, mask: Tensor) -> Self:
        # Filled, not multiplied: a product with zero would keep what is not a number.
        return self._with(
            {
                name: rows.masked_fill(
                    ~mask.view(-1, *[1] * (rows.ndim - 1)), self.beginnings.get(name, 0)
                )
                for name, rows in self.named.items()
            }
        )

    def replace(self, rows: Tensor, other: Self) -> Self:
        return self._with(
            {name: own.index_copy(0, rows, other.named[name]) for name, own in self.named.items()}
        )

    def close_to(self, other: Self, tolerance: float) -> Tensor:
        close = [_close(mine, other.named[name], tolerance) for name, mine in self.named.items()]
        return torch.stack(close).all(0)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.named)


def _close(mine: Tensor, other: Tensor, tolerance: float) -> Tensor:
    """For each row (batch,); whole numbers do not round."""
    if not mine.is_floating_point():
        return (mine == other).flatten(1).all(1)
    # A cell counts up to dozens, and rounds in proportion.
    return ((mine - other).abs() <= tolerance * (1 + other.abs())).flatten(1).all(1)


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
