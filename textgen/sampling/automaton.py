"""An automaton that finds several strings at once."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any


class Automaton:
    """Finds strings in a sequence of symbols, characters or bytes (Aho and Corasick 1975).

    A state is the longest suffix of the sequence that begins one of the strings; 0 is empty.

    Attributes:
        depth: The length of that suffix, by state.
        found: The length of the longest string that ends in a state; 0 if none does.
    """

    def __init__(self, strings: Iterable[Sequence[Any]]) -> None:
        self._next: list[dict[Any, int]] = [{}]
        self.depth = [0]
        self.found = [0]
        for string in strings:
            state = 0
            for symbol in string:
                if symbol not in self._next[state]:
                    self._next[state][symbol] = len(self._next)
                    self._next.append({})
                    self.depth.append(self.depth[state] + 1)
                    self.found.append(0)
                state = self._next[state][symbol]
            self.found[state] = len(string)
        self._shorter = [0] * len(self._next)  # the state of the next longest suffix
        states = deque(self._next[0].values())
        while states:
            state = states.popleft()
            for symbol, deeper in self._next[state].items():
                self._shorter[deeper] = self.step(self._shorter[state], symbol)
                self.found[deeper] = self.found[deeper] or self.found[self._shorter[deeper]]
                states.append(deeper)

    def step(self, state: int, symbol: Any) -> int:
        """The state after one more symbol."""
        while state and symbol not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(symbol, 0)

    def read(self, state: int, symbols: Iterable[Any]) -> int:
        """The state after some more symbols."""
        for symbol in symbols:
            state = self.step(state, symbol)
        return state

    def completes(self, state: int, symbols: Iterable[Any]) -> bool:
        """Whether one of the strings ends within these symbols, read from a state."""
        for symbol in symbols:
            state = self.step(state, symbol)
            if self.found[state]:
                return True
        return False
