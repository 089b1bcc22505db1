"""One sequence of tokens while it is sampled: its history, its constraint, and when it ends."""

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.results import FinishReason
from textgen.sampling.repetitions import Breakers, Repetitions
from textgen.tokenizers.base import EOS, Mask

NOTHING = -1
"""The id of a token that could not be drawn, because every id was excluded."""


@dataclass(frozen=True, slots=True)
class AllowedIds:
    """The ids that may come next; equal keys mean equal masks (vocabulary,)."""

    key: Hashable
    mask: Mask


class Constraint(Protocol):
    """What a sample must satisfy beyond the distribution of one token."""

    def allowed(self) -> AllowedIds: ...

    def append(
        self, id: int, log_prob: float, ending: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        """Append a token.

        Args:
            id: ``NOTHING`` where the sample ends because every id was excluded.
            ending: Why the sample ends with this token as far as its tokens alone decide.

        Returns:
            The text that is complete with this token, and why the sample ends.
        """

    def copy(self) -> Self:
        """An independent constraint in the same state."""


class TokenHistory:
    """The tokens of a sequence, for penalties and ``--no-repeat-ngram``.

    Attributes:
        seen: (vocabulary,), whether the prompt or the sample has the id.
        counts: (vocabulary,), how often the sample has it.
        repetitions: None without DRY.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        vocabulary_size: int,
        config: SamplingConfig,
        breakers: Breakers | None = None,
    ) -> None:
        self.repetitions: Repetitions | None = None
        if config.dry_multiplier is not None:
            self.repetitions = Repetitions(vocabulary_size, breakers)
        self.seen: Mask = np.zeros(vocabulary_size, np.bool_)
        self.counts: npt.NDArray[np.int64] = np.zeros(vocabulary_size, np.int64)
        self._no_repeat = config.no_repeat_ngram
        self._last: tuple[int, ...] = ()  # the tokens that begin the next n-gram
        self._following: dict[tuple[int, ...], list[int]] = {}
        for id in prompt:
            self.append(id)
        self.counts.fill(0)

    def append(self, id: int) -> None:
        self.seen[id] = True
        self.counts[id] += 1
        if self.repetitions is not None:
            self.repetitions.append(id)
        if self._no_repeat is not None:
            before = self._no_repeat - 1
            if len(self._last) == before:
                self._following.setdefault(self._last, []).append(id)
            self._last = (*self._last, id)[-before:] if before else ()

    def repeating(self) -> list[int]:
        """The ids that would repeat an n-gram (Paulus, Xiong and Socher 2018)."""
        return self._following.get(self._last, [])

    def copy(self) -> "TokenHistory":
        other = copy.copy(self)
        other.seen, other.counts = self.seen.copy(), self.counts.copy()
        other._following = {ngram: ids.copy() for ngram, ids in self._following.items()}
        return other


class TokenSequence:
    """A sample as a sequence of tokens.

    Args:
        kept: The tokens that it has already; the constraint must have them, too.
        breakers: What a repetition does not reach across, for DRY.

    Attributes:
        history: None where no rule needs it.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        config: SamplingConfig,
        constraint: Constraint,
        vocabulary_size: int,
        kept: Sequence[int] = (),
        breakers: Breakers | None = None,
    ) -> None:
        self.config, self.constraint = config, constraint
        self.tokens, self._sentences = len(kept), kept.count(EOS)
        self.history: TokenHistory | None = None
        rules = (
            *(config.repetition_penalty, config.frequency_penalty, config.presence_penalty),
            *(config.dry_multiplier, config.no_repeat_ngram),
        )
        if any(value is not None for value in rules):
            self.history = TokenHistory(prompt, vocabulary_size, config, breakers)
            for id in kept:
                self.history.append(id)

    def append(self, id: int, log_prob: float) -> tuple[str, FinishReason | None]:
        """Append a token, or ``NOTHING``; returns as ``Constraint.append``."""
        if id == NOTHING:
            return self.constraint.append(id, log_prob, "blocked")
        self.tokens += 1
        self._sentences += id == EOS
        ending: FinishReason | None = "length" if self.tokens == self.config.length else None
        if self.config.sentences is not None and self._sentences == self.config.sentences:
            ending = "eos"
        elif self.history is not None:
            self.history.append(id)
        return self.constraint.append(id, log_prob, ending)

    def copy(self) -> "TokenSequence":
        """An independent sequence in the same state."""
        other = copy.copy(self)
        other.constraint = self.constraint.copy()
        other.history = None if self.history is None else self.history.copy()
        return other


class LogitMasks:
    """Makes the logit masks of sequences; the last one is kept while its key stays the same."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[Hashable, Tensor] | None = None

    def mask(self, sequences: Sequence[TokenSequence]) -> Tensor:
        """0 for the ids that may come next and -inf for the others, to be added to logits.

        Returns:
            float64, (vocabulary,), or (batch, vocabulary) where the sequences differ.
        """
        allowed = [sequence.constraint.allowed() for sequence in sequences]
        keys = {each.key for each in allowed}
        if len(keys) > 1:
            mask = self._logit_mask(np.stack([each.mask for each in allowed]))
        elif self._last is not None and self._last[0] in keys:
            mask = self._last[1]
        else:
            mask = self._logit_mask(allowed[0].mask)
            self._last = allowed[0].key, mask
        repeating = [each.history.repeating() for each in sequences if each.history is not None]
        if any(repeating):
            mask = mask.expand(len(sequences), -1).clone()
            for row, ids in enumerate(repeating):
                mask[row, ids] = -torch.inf
        return mask

    def _logit_mask(self, allowed: Mask) -> Tensor:
        return torch.from_numpy(np.where(allowed, 0.0, -np.inf)).to(self._device)
