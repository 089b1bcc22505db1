"""What is unknown, spelled out: a probability for each symbol that ``<UNK>`` may stand for.

A model gives ``<UNK>`` the probability that *some* unknown symbol comes. Times p(spelling |
unknown) it is that of the one that came, so figures compare across vocabularies (Mielke and
Eisner 2019).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from textgen.tokenizers.character_ngram import SCALAR_VALUES, CharacterNgram, Floats

_MOST_WORDS = 2**17  # to learn from, so that this takes a second


class Spelling(ABC):
    """p(spelling | unknown): adds up to one over all that is unknown, and is 0 for what is not."""

    @abstractmethod
    def log_probs(self, words: Sequence[str]) -> Floats:
        """ln p(spelling | unknown) of each (words,), -inf for what is known.

        words: what ``Tokenizer.unknown_names`` gives.
        """


class WordSpelling(Spelling):
    """Of words, by the characters of the words that were seen, each of them once.

    Of the words known, too: they spell like the unknown ones, and there are more of them.

    >>> spelling = WordSpelling(known=["walk", "walks", "talk"], rare=["talks", "stalk"])
    >>> talking, qzx, walk = spelling.log_probs(["talking", "qzxj", "walk"])
    >>> bool(talking > qzx), float(walk)
    (True, -inf)
    """

    def __init__(self, known: Iterable[str], rare: Sequence[str]) -> None:
        """known: the most frequent first. rare: those seen that are not known."""
        self._known = list(known)
        self._rare = rare

    @cached_property
    def _model(self) -> CharacterNgram:
        room = max(_MOST_WORDS - len(self._rare), 1)
        every = max(-(-len(self._known) // room), 1)  # the n-th, where all would be too many
        return CharacterNgram([*self._rare, *self._known[::every]])

    @cached_property
    def _not_unknown(self) -> frozenset[str]:
        return frozenset(["", *self._known])  # no word is empty

    @cached_property
    def _log_unknown(self) -> float:
        """ln of what the model gives to all the words that are unknown."""
        known = np.exp(self._model.log_probs(sorted(self._not_unknown)))
        return float(np.log1p(-known.sum()))

    def log_probs(self, words: Sequence[str]) -> Floats:
        is_known = np.array([word in self._not_unknown for word in words], dtype=np.bool_)
        return np.where(is_known, -np.inf, self._model.log_probs(words) - self._log_unknown)


class CharacterSpelling(Spelling):
    """Of characters: any that is not known is as probable as another."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = frozenset(known)
        self._log_prob = -float(np.log(SCALAR_VALUES - len(self._known)))

    def log_probs(self, words: Sequence[str]) -> Floats:
        return np.array(
            [self._log_prob if self._is_unknown(word) else -np.inf for word in words],
            dtype=np.float64,
        )

    def _is_unknown(self, word: str) -> bool:
        return len(word) == 1 and word not in self._known


class NothingUnknown(Spelling):
    """Where every text is known there is nothing to spell: 0 for any string."""

    def log_probs(self, words: Sequence[str]) -> Floats:
        return np.full(len(words), -np.inf)
