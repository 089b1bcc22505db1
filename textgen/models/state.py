"""States of models: named tensors, one row per stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorState:
    """A ``State`` of tensors by name, batch first.

    initial: the value that fills a tensor at the start of a text, where it is not 0.
    """

    named: Mapping[str, Tensor]
    initial: ClassVar[Mapping[str, float]] = {}

    def detach(self) -> Self:
        return type(self)({name: rows.detach() for name, rows in self.named.items()})

    def select(self, rows: Tensor) -> Self:
        return type(self)({name: all_rows[rows] for name, all_rows in self.named.items()})

    def keep(self, mask: Tensor) -> Self:
        # Filled, not multiplied: zero times NaN is NaN.
        return type(self)(
            {
                name: rows.masked_fill(
                    ~mask.view(-1, *[1] * (rows.ndim - 1)), self.initial.get(name, 0)
                )
                for name, rows in self.named.items()
            }
        )

    def replace(self, rows: Tensor, other: Self) -> Self:
        return type(self)(
            {name: own.index_copy(0, rows, other.named[name]) for name, own in self.named.items()}
        )

    def close_to(self, other: Self, tolerance: float) -> Tensor:
        close = [_close(own, other.named[name], tolerance) for name, own in self.named.items()]
        return torch.stack(close).all(0)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.named)


def _close(own: Tensor, other: Tensor, tolerance: float) -> Tensor:
    """For each row (batch,); integers are compared exactly."""
    if not own.is_floating_point():
        return (own == other).flatten(1).all(1)
    # The cell of an LSTM may be dozens, with a rounding error in proportion.
    return ((own - other).abs() <= tolerance * (1 + other.abs())).flatten(1).all(1)
