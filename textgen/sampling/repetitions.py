"""How long a repetition of earlier tokens each token would go on with, for DRY."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from textgen.sampling.automaton import Automaton

Counts = npt.NDArray[np.int64]


class Breakers:
    """Strings that a repetition does not reach across.

    Args:
        spellings: The text of each id in UTF-8, (vocabulary,).
    """

    def __init__(self, strings: Sequence[str], spellings: Sequence[bytes]) -> None:
        self._automaton = Automaton(each.encode() for each in strings)
        self._spellings = spellings

    def read(self, state: int, id: int) -> tuple[int, bool]:
        """The state after one more token, at first 0, and whether a string ends within it."""
        spelling = self._spellings[id]
        return self._automaton.read(state, spelling), self._automaton.completes(state, spelling)

    def has_one(self, id: int) -> bool:
        """Whether the token has a whole string."""
        return self._automaton.completes(0, self._spellings[id])


class Repetitions:
    """The tokens of a text, and where its end has occurred before.

    >>> text = Repetitions(4, None)
    >>> for id in [0, 1, 2, 3, 0, 1]:
    ...     text.append(id)
    >>> text.lengths(1)  # 0 1 has been followed by 2
    array([0, 0, 2, 0])
    """

    def __init__(self, vocabulary_size: int, breakers: Breakers | None) -> None:
        self._size, self._breakers = vocabulary_size, breakers
        self._breaker_state = 0
        self._since_breaker = 0  # tokens
        self._count = 0
        # At place j: the token, and how many tokens before it are the same as the last ones.
        self._ids: Counts = np.zeros(64, np.int64)
        self._lengths: Counts = np.zeros(64, np.int64)

    def append(self, id: int) -> None:
        count = self._count
        if count + 1 == len(self._ids):
            self._ids, self._lengths = (
                np.concatenate([each, np.zeros_like(each)]) for each in (self._ids, self._lengths)
            )
        longer = np.where(self._ids[:count] == id, self._lengths[:count] + 1, 0)
        self._lengths[1 : count + 1] = longer
        self._ids[count] = id
        self._count += 1
        self._since_breaker += 1
        if self._breakers is not None:
            self._breaker_state, ended = self._breakers.read(self._breaker_state, id)
            if ended:
                self._since_breaker = 0

    def lengths(self, least: int) -> Counts:
        """The length of the longest repetition that each id would go on with, (vocabulary,).

        0 where it is below ``least``, and for ids that have a whole breaker.
        """
        longest: Counts = np.zeros(self._size, np.int64)
        if self._since_breaker >= least:
            found = self._lengths[: self._count]
            places = np.flatnonzero(found >= least)
            ids = self._ids[places]
            np.maximum.at(longest, ids, found[places].clip(max=self._since_breaker))
            if self._breakers is not None:
                for id in set(ids.tolist()):
                    if self._breakers.has_one(id):
                        longest[id] = 0
        return longest
