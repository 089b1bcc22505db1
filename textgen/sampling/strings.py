"""Strings that a text may not hold, or that end it, found as it is written."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from textgen.tokenizers.base import Mask


class Automaton:
    """Finds any of some strings in a sequence that comes symbol by symbol.

    The automaton of Aho and Corasick (1975). A state is the longest end of what was read that
    begins one of the strings; state 0 is the empty one. The symbols are characters or bytes.
    """

    def __init__(self, strings: Iterable[Sequence[Any]]) -> None:
        self._next: list[dict[Any, int]] = [{}]
        self._shorter = [0]  # the state of the next longest end that begins a string
        self.depth = [0]  # how many symbols a state stands for
        self.found = [0]  # the length of the longest string that ends in a state; 0: none does
        for string in strings:
            self._add(string)
        self._link()

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

    def _add(self, string: Sequence[Any]) -> None:
        state = 0
        for symbol in string:
            if symbol not in self._next[state]:
                self._next[state][symbol] = len(self._next)
                self._next.append({})
                self._shorter.append(0)
                self.depth.append(self.depth[state] + 1)
                self.found.append(0)
            state = self._next[state][symbol]
        self.found[state] = len(string)

    def _link(self) -> None:
        states = deque(self._next[0].values())
        while states:
            state = states.popleft()
            for symbol, deeper in self._next[state].items():
                self._shorter[deeper] = self.step(self._shorter[state], symbol)
                self.found[deeper] = self.found[deeper] or self.found[self._shorter[deeper]]
                states.append(deeper)


class Ban:
    """Which ids would complete a banned string; shared by all samples, as it remembers."""

    def __init__(self, strings: Iterable[str]) -> None:
        self._automaton = Automaton([string.encode() for string in strings])
        self._completing: dict[tuple[int, int], Mask] = {}

    def state(self, text: str) -> int:
        """Where a text before the first token leads."""
        return self._automaton.read(0, text.encode("utf-8", "replace"))

    def after(self, state: int, spelling: bytes) -> int:
        return self._automaton.read(state, spelling)

    def completing(self, state: int, spellings: Sequence[bytes]) -> Mask:
        """A mask (vocabulary,) of the ids that would complete a banned string."""
        key = (state, id(spellings))  # the tokenizer keeps its spellings alive
        if key not in self._completing:
            completes = (self._automaton.completes(state, each) for each in spellings)
            self._completing[key] = np.fromiter(completes, np.bool_, len(spellings))
        return self._completing[key]
