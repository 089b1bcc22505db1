"""The text of a sample while it is generated: banned strings, stop strings, decoding."""

import copy
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from io import StringIO
from typing import Any

import numpy as np

from textgen.config import SamplingConfig
from textgen.results import FinishReason
from textgen.tokenizers.base import UNK, Decoder, Mask


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
        self._completing: dict[tuple[int, bool], Mask] = {}

    def state(self, text: str) -> int:
        """Where a text before the first token leads."""
        return self._automaton.read(0, text.encode("utf-8", "replace"))

    def after(self, state: int, spelling: bytes) -> int:
        return self._automaton.read(state, spelling)

    def completing(self, state: int, joined: bool, next_bytes: Sequence[bytes]) -> Mask:
        """A mask (vocabulary,) of the ids that would complete a banned string.

        Args:
            joined, next_bytes: those of the decoder.
        """
        key = (state, joined)
        if key not in self._completing:
            completes = (self._automaton.completes(state, each) for each in next_bytes)
            self._completing[key] = np.fromiter(completes, np.bool_, len(next_bytes))
        return self._completing[key]


class Rules:
    """What all samples of a configuration share: what may not be written, and what ends them."""

    def __init__(self, config: SamplingConfig, vocabulary_size: int) -> None:
        self.open: Mask = np.ones(vocabulary_size, np.bool_)
        self.open[UNK] = config.allow_unk
        self.ban = Ban(config.ban) if config.ban else None
        self.stops = Automaton(config.stop) if config.stop else None
        self._allowed: dict[tuple[int, Hashable], Mask] = {}

    def allowed(self, ban_state: int, decoder: Decoder) -> Mask:
        """The ids that are open, can come next and complete nothing banned (vocabulary,)."""
        key = (ban_state, decoder.context)
        if key not in self._allowed:
            allowed, valid = self.open, decoder.next_mask()
            if valid is not None and (valid & allowed).any():  # otherwise nothing could come
                allowed = allowed & valid
            if self.ban is not None:
                next_bytes = decoder.next_bytes()
                allowed = allowed & ~self.ban.completing(ban_state, decoder.joined, next_bytes)
            self._allowed[key] = allowed
        return self._allowed[key]


class Writing:
    """The text of one sample; a guide of the generator.

    A piece of it is settled when it can no longer turn out to begin a stop string, and when no
    character is half written: what is settled is never taken back.

    tokens, log_prob: of all of it, the stop string or the last ``<EOS>`` too; natural.
    """

    def __init__(self, rules: Rules, decoder: Decoder, prompt: str) -> None:
        self._rules, self._decoder = rules, decoder.copy()
        self._ban_state = rules.ban.state(prompt) if rules.ban else 0
        self._stop_state = 0
        self._text = StringIO()
        self._held = ""  # not yet settled
        # As it was when last no character was half written; the characters are those held.
        self._whole_tokens, self._whole_log_prob, self._whole_characters = 0, 0.0, 0
        self.tokens = 0
        self.log_prob = 0.0
        self.stop: str | None = None

    def copy(self) -> "Writing":
        other = copy.copy(self)
        other._decoder = self._decoder.copy()
        other._text = StringIO()
        other._text.write(self.text)
        return other

    @property
    def text(self) -> str:
        """All that is settled."""
        return self._text.getvalue()

    def allowed(self) -> Mask:
        return self._rules.allowed(self._ban_state, self._decoder)

    def take(self, id: int) -> FinishReason | None:
        if self._rules.ban is not None:
            spelling = self._decoder.next_bytes()[id]
            self._ban_state = self._rules.ban.after(self._ban_state, spelling)
        piece = self._decoder.feed(id)
        if self._rules.stops is not None and self._stops_in(piece):
            return "stop"
        self._held += piece
        return None

    def settle(self, log_prob: float, finished: FinishReason | None) -> str:
        """The piece of text that a token has settled; to be called after each, with its ln p."""
        if finished != "blocked":
            self.tokens += 1
            self.log_prob += log_prob
        if not self._decoder.mid_character:
            self._whole_tokens, self._whole_log_prob = self.tokens, self.log_prob
            self._whole_characters = len(self._held)
        elif finished == "length":  # the tokens of half a character are as if never written
            self.tokens, self.log_prob = self._whole_tokens, self._whole_log_prob
            self._held = self._held[: self._whole_characters]
        settled = self._whole_characters
        if finished is not None:
            settled = len(self._held)
        elif self._rules.stops is not None:
            settled = min(settled, len(self._held) - self._rules.stops.depth[self._stop_state])
        piece, self._held = self._held[:settled], self._held[settled:]
        self._whole_characters -= len(piece)
        self._text.write(piece)
        return piece

    def replay(self, ids: Sequence[int], log_probs: Sequence[float]) -> bool:
        """Write tokens that were drawn already; whether they may stand so, and end nothing."""
        for id, log_prob in zip(ids, log_probs, strict=True):
            if not self.allowed()[id] or self.take(id) is not None:
                return False
            self.settle(log_prob, None)
        return True

    def _stops_in(self, piece: str) -> bool:
        """Whether a stop string ends in this piece; the text is then cut off before it."""
        stops = self._rules.stops
        assert stops is not None
        for end, character in enumerate(piece, start=1):
            self._stop_state = stops.step(self._stop_state, character)
            if (length := stops.found[self._stop_state]) > 0:
                text = self._held + piece[:end]
                self.stop = text[-length:]
                self._held = text[:-length]
                return True
        return False
