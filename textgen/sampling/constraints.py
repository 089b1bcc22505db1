"""Constraints on the text of a sample: banned strings, strings that end it, whole characters."""

import copy
from collections.abc import Hashable, Sequence

import numpy as np

from textgen.config import SamplingConfig
from textgen.results import FinishReason
from textgen.sampling.automaton import Automaton
from textgen.sampling.sequence import AllowedIds
from textgen.tokenizers.base import UNK, Decoder, Mask


class TextRules:
    """The text rules of a configuration, shared by all its samples."""

    def __init__(self, config: SamplingConfig, vocabulary_size: int) -> None:
        self.banned = Automaton(each.encode() for each in config.ban) if config.ban else None
        stops = (*config.stop, *config.end_on)
        self.stops = Automaton(stops) if stops else None
        self.cut: frozenset[str] = frozenset(config.stop) - frozenset(config.end_on)
        self._known: Mask = np.ones(vocabulary_size, np.bool_)
        self._known[UNK] = config.allow_unk
        self._completing: dict[tuple[int, bool], Mask] = {}  # by the state of ``banned``, joined
        self._allowed: dict[tuple[int, Hashable], AllowedIds] = {}
        self._by_mask: dict[bytes, AllowedIds] = {}

    def allowed(self, banned_state: int, decoder: Decoder) -> AllowedIds:
        """The ids that can come next in the text and complete no banned string."""
        context = (banned_state, decoder.context)
        if context not in self._allowed:
            mask, valid = self._known, decoder.next_mask()
            if valid is not None and (valid & mask).any():  # otherwise no id would be allowed
                mask = mask & valid
            if self.banned is not None:
                key = (banned_state, decoder.joined)
                if key not in self._completing:
                    next_bytes = decoder.next_bytes()
                    completes = [self.banned.completes(banned_state, each) for each in next_bytes]
                    self._completing[key] = np.array(completes, np.bool_)
                mask = mask & ~self._completing[key]
            # The mask itself is its key: tokens are drawn ahead while it is equal, and samples of
            # other rules may be beside these.
            values = mask.tobytes()
            self._allowed[context] = self._by_mask.setdefault(values, AllowedIds(values, mask))
        return self._allowed[context]


class ConstrainedText:
    """The text of one sample while it is generated; a ``Constraint``.

    A piece of text is complete when no character is incomplete and no stop string can start in it.

    Attributes:
        tokens: The number of tokens, those of a stop string and of the last ``<EOS>`` included.
        stop: The stop string that ended the text.
    """

    def __init__(self, rules: TextRules, decoder: Decoder, prompt: str) -> None:
        self._rules, self._decoder = rules, decoder.copy()
        before = prompt.encode("utf-8", "replace")
        self._banned_state = rules.banned.read(0, before) if rules.banned else 0
        self._stop_state = 0
        self._pending = ""  # not yet complete
        # Tokens, their ln p, and pending characters when the last character was complete.
        self._whole_tokens, self._whole_log_prob, self._whole_characters = 0, 0.0, 0
        self.tokens = 0
        self.log_prob = 0.0
        self.stop: str | None = None

    def copy(self) -> "ConstrainedText":
        other = copy.copy(self)
        other._decoder = self._decoder.copy()
        return other

    @property
    def decoder(self) -> Decoder:
        """A decoder in the state after the text so far."""
        return self._decoder.copy()

    def allowed(self) -> AllowedIds:
        return self._rules.allowed(self._banned_state, self._decoder)

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        if ending not in ("eos", "blocked") and self._decode(id):
            ending = "stop"
        if ending != "blocked":
            self.tokens += 1
            self.log_prob += log_prob
        if not self._decoder.mid_character:
            self._whole_tokens, self._whole_log_prob = self.tokens, self.log_prob
            self._whole_characters = len(self._pending)
        elif ending == "length":  # the tokens of an incomplete character are dropped
            self.tokens, self.log_prob = self._whole_tokens, self._whole_log_prob
            self._pending = self._pending[: self._whole_characters]
        complete = self._whole_characters
        if ending is not None:
            complete = len(self._pending)
        elif self._rules.stops is not None:
            may_stop = self._rules.stops.depth[self._stop_state]
            complete = min(complete, len(self._pending) - may_stop)
        text, self._pending = self._pending[:complete], self._pending[complete:]
        self._whole_characters -= len(text)
        return text, ending

    def replay(self, ids: Sequence[int], log_probs: Sequence[float]) -> str | None:
        """Append tokens; their text, or None if one is not allowed here or ends the text."""
        pieces = []
        for id, log_prob in zip(ids, log_probs, strict=True):
            if not self.allowed().mask[id]:
                return None
            piece, ending = self.append(id, log_prob, None)
            if ending is not None:
                return None
            pieces.append(piece)
        return "".join(pieces)

    def _decode(self, id: int) -> bool:
        """Decode a token; whether a string that ends the text ends in it.

        The text is then cut before a stop string, and after a string of ``--end-on``.
        """
        if self._rules.banned is not None:
            spelling = self._decoder.next_bytes()[id]
            self._banned_state = self._rules.banned.read(self._banned_state, spelling)
        piece, stops = self._decoder.feed(id), self._rules.stops
        if stops is not None:
            for end, character in enumerate(piece, start=1):
                self._stop_state = stops.step(self._stop_state, character)
                if (length := stops.found[self._stop_state]) > 0:
                    self._pending += piece[:end]
                    if (found := self._pending[-length:]) in self._rules.cut:
                        self._pending, self.stop = self._pending[:-length], found
                    return True
        self._pending += piece
        return False
