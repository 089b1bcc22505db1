"""The chance in a sample: what it is keyed by, so that nothing else decides it."""

import numpy as np

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
        self._block, self._used = np.empty(0), 0

    def next(self) -> float:
        if self._used == len(self._block):
            self._block, self._used = self._random.random(_DRAWS_AHEAD), 0
        self._used += 1
        return float(self._block[self._used - 1])
