"""A sample's text as it is written: what may come, what has come, and what ends it."""

import copy
from collections.abc import Sequence
from io import StringIO

import numpy as np

from textgen.config import SamplingConfig
from textgen.results import FinishReason
from textgen.sampling.strings import Automaton, Ban
from textgen.tokenizers.base import UNK, Decoder, Mask


class Rules:
    """What all samples of a configuration share: what may not be written, and what ends them."""

    def __init__(self, config: SamplingConfig, vocabulary_size: int) -> None:
        self.open: Mask = np.ones(vocabulary_size, np.bool_)
        self.open[UNK] = config.allow_unk
        self.ban = Ban(config.ban) if config.ban else None
        self.stops = Automaton(config.stop) if config.stop else None
        self._both: dict[tuple[int, int], Mask] = {}

    def allowed(self, fitting: Mask | None, completing: Mask | None) -> Mask:
        """The ids that are open, fit in their place and complete nothing banned."""
        key = (id(fitting), id(completing))  # both are kept by who made them
        if key not in self._both:
            allowed = self.open
            if fitting is not None and (fitting & allowed).any():  # else nothing fits, as it stands
                allowed = allowed & fitting
            if completing is not None:
                allowed = allowed & ~completing
            self._both[key] = allowed
        return self._both[key]


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
        ban, decoder = self._rules.ban, self._decoder
        completing = ban.completing(self._ban_state, decoder.spellings()) if ban else None
        return self._rules.allowed(decoder.fitting(), completing)

    def take(self, id: int) -> FinishReason | None:
        if self._rules.ban is not None:
            spelling = self._decoder.spellings()[id]
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
        if not self._decoder.waits:
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
