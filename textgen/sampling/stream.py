"""The state of one sample: its token history, its constraints, and when it ends."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.results import FinishReason
from textgen.tokenizers.base import EOS, Mask


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


class Guide(Protocol):
    """What knows of a sample's text: what may come next, and when it is over."""

    def allowed(self) -> Mask:
        """The ids that may come (vocabulary,); the same object wherever it is the same."""

    def take(self, id: int) -> FinishReason | None:
        """An id was written; says whether that ends the sample."""

    def copy(self) -> Self:
        """Another at the same place."""


@dataclass(slots=True)
class Stream:
    """One text being written."""

    config: SamplingConfig
    guide: Guide
    history: History | None
    tokens: int = 0
    sentences: int = 0

    @classmethod
    def begin(
        cls,
        config: SamplingConfig,
        prompt: Sequence[int],
        vocabulary_size: int,
        guide: Guide,
        kept: Sequence[int] = (),
    ) -> Self:
        """A text after a prompt. kept: what of it is written already, and the guide knows."""
        looks_back = (
            config.repetition_penalty,
            config.frequency_penalty,
            config.no_repeat_ngram,
        )
        history = None
        if any(each is not None for each in looks_back):
            history = History(prompt, vocabulary_size, config.no_repeat_ngram)
            for id in kept:
                history.write(id)
        return cls(config, guide, history, len(kept), kept.count(EOS))

    def temperatures(self, count: int) -> list[float]:
        """Those of the next tokens."""
        given = self.config.temperature
        return [given[token % len(given)] for token in range(self.tokens, self.tokens + count)]

    @property
    def repeating(self) -> list[int]:
        """The ids that would repeat an n-gram."""
        return [] if self.history is None else self.history.repeating()

    def take(self, id: int) -> FinishReason | None:
        """A token is written; says whether the text ends with it."""
        self.tokens += 1
        self.sentences += id == EOS
        if self.config.sentences is not None and self.sentences == self.config.sentences:
            return "eos"  # which is no part of the text
        if self.history is not None:
            self.history.write(id)
        ended = self.guide.take(id)
        return ended or ("length" if self.tokens == self.config.length else None)

    def copy(self) -> "Stream":
        """Another at the same place, that goes its own way."""
        other = copy.copy(self)
        other.guide = self.guide.copy()
        other.history = None if self.history is None else self.history.copy()
        return other


class Barrier:
    """What keeps streams from writing what they must not: added to their logits."""

    def __init__(self) -> None:
        self._last: tuple[Mask | None, Tensor] = (None, torch.empty(0))

    def before(self, streams: Sequence[Stream], device: torch.device) -> Tensor:
        """-inf for what must not come next and 0 for the rest, float64.

        (vocabulary,), or (batch, vocabulary) where the streams differ.
        """
        masks = [stream.guide.allowed() for stream in streams]
        if len(set(map(id, masks))) > 1:
            barrier = _barrier(np.stack(masks), device)
        else:
            if self._last[0] is not masks[0]:
                self._last = (masks[0], _barrier(masks[0], device))
            barrier = self._last[1]
        if streams[0].history is None:
            return barrier
        repeating = [stream.repeating for stream in streams]
        if any(repeating):
            barrier = barrier.expand(len(streams), -1).clone()
            for row, ids in enumerate(repeating):
                barrier[row, ids] = -torch.inf
        return barrier


def _barrier(allowed: Mask, device: torch.device) -> Tensor:
    return torch.from_numpy(np.where(allowed, 0.0, -np.inf)).to(device)
