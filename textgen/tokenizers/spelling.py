"""Spelling models: p(symbol | ``<UNK>``), so that figures compare across vocabularies.

A model gives ``<UNK>`` the probability that any unknown symbol is next. Times p(symbol | ``<UNK>``)
it is the probability of the symbol itself (Mielke and Eisner 2019).

Unknown words have an interpolated Kneser-Ney n-gram model of characters (1995), with one absolute
discount per order in closed form. The lowest order interpolates with the uniform distribution over
all characters of Unicode, so every string has a probability and all of them sum to one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

SCALAR_VALUES = 0x110000 - 0x800  # the characters of Unicode: all code points but surrogates
_START, _END, _FIRST = 0, 1, 2  # symbols; the characters of the alphabet follow from the last on
_UNSEEN = -1
_ORDER = 7
_DEFAULT_DISCOUNT = 0.5  # where the counts of counts are too few for an estimate
_BATCH_WORDS = 2**13  # scored at a time, to bound the memory
_MOST_WORDS = 2**17  # learned from: this takes a second

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Spelling(ABC):
    """A distribution over the unknown symbols; the probability of known ones is 0."""

    @abstractmethod
    def log_probs(self, words: Sequence[str]) -> Floats:
        """ln p(word | ``<UNK>``) of each (words,), -inf for known ones.

        Args:
            words: as ``Tokenizer.unknown_names`` returns them.
        """


class NothingUnknown(Spelling):
    """The spelling model of a tokenizer that never gives ``<UNK>``."""

    def log_probs(self, words: Sequence[str]) -> Floats:
        return np.full(len(words), -np.inf)


class CharacterSpelling(Spelling):
    """Uniform over the unknown characters."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = frozenset(known)

    def log_probs(self, words: Sequence[str]) -> Floats:
        is_unknown = [len(word) == 1 and word not in self._known for word in words]
        log_prob = -float(np.log(SCALAR_VALUES - len(self._known)))
        return np.where(np.array(is_unknown, dtype=np.bool_), log_prob, -np.inf)


class WordSpelling(Spelling):
    """An n-gram model of characters, learned from the distinct words of the training data.

    Known words are training data, too: they are spelled like unknown ones, and there are more.

    Args:
        known: the vocabulary, by descending count. rare: the other words that were seen.

    >>> spelling = WordSpelling(known=["walk", "walks", "talk"], rare=["talks", "stalk"])
    >>> talking, qzx, walk = spelling.log_probs(["talking", "qzxj", "walk"])
    >>> bool(talking > qzx), float(walk)
    (True, -inf)
    """

    def __init__(self, known: Iterable[str], rare: Sequence[str]) -> None:
        self._known = list(known)
        self._rare = rare

    @cached_property
    def _model(self) -> "CharacterNgram":
        room = max(_MOST_WORDS - len(self._rare), 1)
        step = max(-(-len(self._known) // room), 1)
        return CharacterNgram([*self._rare, *self._known[::step]])

    @cached_property
    def _not_unknown(self) -> frozenset[str]:
        return frozenset(["", *self._known])  # no word is empty

    @cached_property
    def _log_unknown_mass(self) -> float:
        """ln of the total probability of all unknown words under the n-gram model."""
        known = np.exp(self._model.log_probs(sorted(self._not_unknown)))
        return float(np.log1p(-known.sum()))

    def log_probs(self, words: Sequence[str]) -> Floats:
        is_known = np.array([word in self._not_unknown for word in words], dtype=np.bool_)
        return np.where(is_known, -np.inf, self._model.log_probs(words) - self._log_unknown_mass)


@dataclass(frozen=True)
class _Grams:
    """The n-grams of one length.

    keys: (n-grams,) ascending: context * alphabet size + last symbol; the id of an n-gram is the
    index of its key. counts: occurrences of each. contexts, suffixes: the ids, among the n-grams
    that are one shorter, of each without its last and without its first symbol.
    """

    keys: Ints
    counts: Ints
    contexts: Ints
    suffixes: Ints


@dataclass(frozen=True)
class _Level:
    """The distributions of one order: p = discounted + back-off weight * p of the order below.

    keys, discounted: (n-grams,). backoffs: (contexts,).
    """

    keys: Ints
    discounted: Floats
    backoffs: Floats


class CharacterNgram:
    """An interpolated Kneser-Ney model of strings, learned from distinct words.

    >>> model = CharacterNgram(["aab", "ab"])
    >>> bool(model.log_probs(["aaab"])[0] > model.log_probs(["bbba"])[0])
    True
    """

    def __init__(self, words: Sequence[str], order: int = _ORDER) -> None:
        self._alphabet = np.unique(_code_points(words))
        grams = self._count(self._symbols(words), order)
        self._levels = [
            _level(each, longer) for each, longer in zip(grams, [*grams[1:], None], strict=True)
        ]

    def log_probs(self, words: Sequence[str]) -> Floats:
        """ln of the probability of each word (words,)."""
        batches = [np.zeros(0)]
        for at in range(0, len(words), _BATCH_WORDS):
            some = words[at : at + _BATCH_WORDS]
            ends = np.cumsum(_lengths(some) + 1)
            batches.append(np.add.reduceat(np.log(self._probabilities(some)), [0, *ends[:-1]]))
        return np.concatenate(batches)

    def _probabilities(self, words: Sequence[str]) -> Floats:
        """The probability of each character and end of word, word after word."""
        symbols = self._symbols(words)
        probabilities = np.full(len(symbols), 1 / (SCALAR_VALUES + 1))
        ids = np.zeros(len(symbols), dtype=np.int64)  # of the empty context: there is one
        for length, level in enumerate(self._levels, start=1):
            contexts = ids if length == 1 else _shifted(ids)
            places = np.flatnonzero((contexts >= 0) & (symbols != _START))
            probabilities[places] *= level.backoffs[contexts[places]]
            places = places[symbols[places] != _UNSEEN]
            keys = self._keys(contexts[places], symbols[places])
            found = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            exists = level.keys[found] == keys
            places, found = places[exists], found[exists]
            probabilities[places] += level.discounted[found]
            ids = np.full(len(symbols), _UNSEEN) if length > 1 else symbols.copy()
            ids[places] = found
        of_words: Floats = probabilities[symbols != _START]
        return of_words

    def _count(self, symbols: Ints, order: int) -> list[_Grams]:
        """The n-grams of all lengths up to the order, shortest first."""
        alphabet = np.arange(len(self._alphabet) + _FIRST)
        zeros = np.zeros_like(alphabet)
        grams = [_Grams(alphabet, zeros, zeros, zeros)]
        ids = symbols
        for _ in range(1, order):
            contexts = _shifted(ids)
            places = np.flatnonzero((contexts >= 0) & (symbols != _START))
            if not len(places):
                break
            keys, firsts, inverse, counts = np.unique(
                self._keys(contexts[places], symbols[places]),
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            examples = places[firsts]
            grams.append(_Grams(keys, counts, contexts[examples], ids[examples]))
            ids = np.full(len(symbols), _UNSEEN)
            ids[places] = inverse
        return grams

    def _keys(self, contexts: Ints, symbols: Ints) -> Ints:
        return contexts * (len(self._alphabet) + _FIRST) + symbols

    def _symbols(self, words: Sequence[str]) -> Ints:
        """The words concatenated, each with a start and an end."""
        codes, lengths = _code_points(words), _lengths(words)
        alphabet = self._alphabet if len(self._alphabet) else np.array([_UNSEEN])
        places = np.minimum(np.searchsorted(alphabet, codes), len(alphabet) - 1)
        symbols = np.zeros(len(codes) + 2 * len(words), dtype=np.int64)
        ends = np.cumsum(lengths + 2) - 1
        inside = np.ones(len(symbols), dtype=np.bool_)
        inside[ends] = inside[ends - lengths - 1] = False
        symbols[inside] = np.where(alphabet[places] == codes, places + _FIRST, _UNSEEN)
        symbols[ends] = _END
        return symbols


def _level(grams: _Grams, longer: _Grams | None) -> _Level:
    """Kneser-Ney: below the highest order, an n-gram counts once per symbol seen before it.

    Those at the start of a word have no symbol before them and keep their counts.
    """
    counts = grams.counts
    if longer is not None:
        continuations = np.bincount(longer.suffixes, minlength=len(grams.keys))
        counts = np.where(continuations > 0, continuations, counts)
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    discount = once / (once + 2 * twice) if once and twice else _DEFAULT_DISCOUNT
    discounts = np.minimum(counts, discount)
    totals = np.bincount(grams.contexts, weights=counts)
    backoffs = np.bincount(grams.contexts, weights=discounts) / np.maximum(totals, 1)
    backoffs[totals == 0] = 1
    discounted = (counts - discounts) / np.maximum(totals, 1)[grams.contexts]
    return _Level(grams.keys, discounted, backoffs)


def _shifted(ids: Ints) -> Ints:
    return np.concatenate(([_UNSEEN], ids[:-1]))


def _code_points(words: Sequence[str]) -> Ints:
    text = "".join(words).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(text, dtype="<u4").astype(np.int64)


def _lengths(words: Sequence[str]) -> Ints:
    return np.fromiter(map(len, words), dtype=np.int64, count=len(words))
