"""N-grams read one token a row at a time, without compiled code.

Of a row alone, what follows it is a slice of what was counted: NumPy takes it in a few
microseconds, where operations on whole batches take a millisecond, however few rows there are.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.models.ngram_tables import UNSEEN, NgramTables
from textgen.tokenizers.base import EOS

_Whole = npt.NDArray[np.int64]
_Real = npt.NDArray[np.float64]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class NgramRows:
    """Tables on the CPU, as arrays."""

    def __init__(self, tables: NgramTables) -> None:
        levels, first = tables.compiled()
        self._first: _Real = first.numpy()
        self._levels: list[tuple[_Whole, _Whole, _Real, _Real]] = [
            (each.begins.numpy(), each.words.numpy(), each.own.numpy(), each.left.numpy())
            for each in levels
        ]

    def step(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """As ``NgramTables.step``."""
        after = numbers.clone()
        rows = zip(after.numpy(), ids.tolist(), strict=True)
        return torch.from_numpy(np.stack([self._step(row, id) for row, id in rows])), after

    def _step(self, numbers: _Whole, id: int) -> _Real:
        """What may follow, and in ``numbers`` the new ones in place of the old."""
        begins = id == EOS and len(numbers) > 0 and numbers[0] == UNSEEN
        for place in range(len(numbers) - 1, 0, -1):
            numbers[place] = self._longer(place - 1, numbers[place - 1], id)
        numbers[:1] = len(self._first) if begins else id
        shares = self._first.copy()
        for (begins, words, own, left), context in zip(self._levels, numbers.tolist(), strict=True):
            if context == UNSEEN:
                break  # and so is what is longer
            shares *= left[context]
            following = slice(begins[context], begins[context + 1])
            shares[words[following]] += own[following]
        return shares

    def _longer(self, place: int, context: int, id: int) -> int:
        if context == UNSEEN:
            return UNSEEN
        begins, words, _, _ = self._levels[place]
        following = words[begins[context] : begins[context + 1]]
        at = int(np.searchsorted(following, id))
        found = at < len(following) and following[at] == id
        return int(begins[context]) + at if found else UNSEEN


def stepping(tables: NgramTables) -> Step:
    """The faster way to take a step."""
    return NgramRows(tables).step if tables.census.device.type == "cpu" else tables.step
