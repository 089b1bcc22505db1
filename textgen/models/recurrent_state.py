"""What a recurrent network remembers."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

LayerState = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RecurrentState:
    """(hidden, cell) of each layer, each (batch, units)."""

    layers: tuple[LayerState, ...]

    def detach(self) -> Self:
        return type(self)(tuple((h.detach(), c.detach()) for h, c in self.layers))

    def select(self, rows: Tensor) -> Self:
        return type(self)(tuple((h[rows], c[rows]) for h, c in self.layers))

    def keep(self, mask: Tensor) -> Self:
        new = ~mask.unsqueeze(1)  # (batch, 1)
        # Filled, not multiplied: a product with zero would keep what is not a number.
        return type(self)(
            tuple((h.masked_fill(new, 0), c.masked_fill(new, 0)) for h, c in self.layers)
        )

    def replace(self, rows: Tensor, other: Self) -> Self:
        return type(self)(
            tuple(
                (h.index_copy(0, rows, new_h), c.index_copy(0, rows, new_c))
                for (h, c), (new_h, new_c) in zip(self.layers, other.layers, strict=True)
            )
        )

    def close_to(self, other: Self, tolerance: float) -> Tensor:
        # A cell counts up to dozens, and rounds in proportion.
        gaps = [
            ((mine - theirs).abs() / (1 + theirs.abs())).amax(1)  # (batch,)
            for pair, other_pair in zip(self.layers, other.layers, strict=True)
            for mine, theirs in zip(pair, other_pair, strict=True)
        ]
        return torch.stack(gaps).amax(0) <= tolerance

    def tensors(self) -> dict[str, Tensor]:
        named = {}
        for index, (hidden, cell) in enumerate(self.layers):
            named[f"hidden.{index}"], named[f"cell.{index}"] = hidden, cell
        return named
