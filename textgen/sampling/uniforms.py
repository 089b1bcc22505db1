"""The chance in a sample: what it is keyed by, so that nothing else decides it."""

import numpy as np

from textgen.native import Numbers

_DRAWS_AHEAD = 256


class Uniforms:
    """Uniform draws in [0, 1), keyed by (seed, index, attempt, part), whatever else is drawn.

    attempt: which drawing of a sample, where it is drawn again. part: which part of it, where it
    is written in several. placing: for where a required string is put, and not for tokens.
    """

    def __init__(
        self, seed: int, index: int, attempt: int = 0, part: int = 0, *, placing: bool = False
    ) -> None:
        philox = np.random.Philox(key=[seed, index], counter=[0, int(placing), attempt, part])
        self._random = np.random.Generator(philox)
        self._hold(np.empty(0))

    def ahead(self, count: int) -> Numbers:
        """The next draws (count,), which stay the next until they are used."""
        if self._used + count > len(self._block):
            more = self._random.random(max(count, _DRAWS_AHEAD))
            self._hold(np.concatenate([self._block[self._used :], more]))
        return self._block[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Be done with so many of the next."""
        self._used += count

    def next(self) -> float:
        if self._used == len(self._block):
            self.ahead(1)
        draw = self._numbers[self._used]
        self._used += 1
        return draw

    def _hold(self, block: Numbers) -> None:
        self._block, self._used = block, 0
        self._numbers: list[float] = block.tolist()  # which are taken faster one by one
