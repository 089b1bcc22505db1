"""What a sample has read and written, as far as the decoding looks back at it."""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from textgen.tokenizers.base import Mask


class History:
    """The tokens of one sample.

    seen: (vocabulary,) bool, what the prompt or the text holds. counts: (vocabulary,) int64, how
    often the text holds each.
    """

    def __init__(self, prompt: Sequence[int], vocabulary_size: int, no_repeat: int | None) -> None:
        self.seen: Mask = np.zeros(vocabulary_size, np.bool_)
        self.counts: npt.NDArray[np.int64] = np.zeros(vocabulary_size, np.int64)
        self._no_repeat = no_repeat
        self._ids: list[int] = []
        self._following: dict[tuple[int, ...], list[int]] = {}
        for id in prompt:
            self._read(id)

    def write(self, id: int) -> None:
        self.counts[id] += 1
        self._read(id)

    def repeating(self) -> list[int]:
        """The ids that would make an n-gram a second time (Paulus, Xiong and Socher 2018)."""
        return self._following.get(self._last(), []) if self._no_repeat is not None else []

    def copy(self) -> "History":
        other = copy.copy(self)
        other.seen, other.counts = self.seen.copy(), self.counts.copy()
        other._ids = self._ids.copy()
        other._following = {ngram: ids.copy() for ngram, ids in self._following.items()}
        return other

    def _read(self, id: int) -> None:
        self.seen[id] = True
        if self._no_repeat is not None:
            if len(self._ids) >= self._no_repeat - 1:
                self._following.setdefault(self._last(), []).append(id)
            self._ids.append(id)

    def _last(self) -> tuple[int, ...]:
        """The tokens that begin the next n-gram."""
        assert self._no_repeat is not None
        return tuple(self._ids[len(self._ids) - self._no_repeat + 1 :])
