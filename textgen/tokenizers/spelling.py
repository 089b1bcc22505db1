"""How words are spelled: characters by those before them, after Kneser and Ney (1995).

Interpolated, with one absolute discount an order, in closed form: each order takes a little from
what it counted and gives it to the order below, and the lowest to every character there is. So
every string has a probability, and all of them add up to one.

What is unknown, spelled out: a probability for each symbol that ``<UNK>`` may stand for.

A model gives ``<UNK>`` the probability that *some* unknown symbol comes. Times p(spelling |
unknown) it is that of the one that came, so figures compare across vocabularies (Mielke and
Eisner 2019).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

SCALAR_VALUES = 0x110000 - 0x800  # every character of Unicode: all code points but surrogates
_START, _END, _FIRST = 0, 1, 2  # symbols; the characters that were seen are numbered from the last
_UNSEEN = -1
_ORDER = 7
_USUAL_DISCOUNT = 0.5  # where the counts are too few to say
_WORDS_AT_A_TIME = 2**13  # so that memory stays bounded

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Grams:
    """The n-grams of one length that the words have.

    Each is written as a key, context * alphabet + last symbol, and its id is the place of its key.
    keys: (n-grams,), ascending. seen: how often. contexts, rests: the ids, among the n-grams that
    are one shorter, of each without its last symbol and of each without its first.
    """

    keys: Whole
    seen: Whole
    contexts: Whole
    rests: Whole


@dataclass(frozen=True)
class _Level:
    """What n-grams of one length have to say: p = own + below * (what the shorter one says).

    keys, own: (n-grams,). below: (contexts,).
    """

    keys: Whole
    own: Floats
    below: Floats


class CharacterNgram:
    """The probability of a string, learned from distinct words.

    >>> model = CharacterNgram(["aab", "ab"])
    >>> bool(model.log_probs(["aaab"])[0] > model.log_probs(["bbba"])[0])
    True
    """

    def __init__(self, words: Sequence[str], order: int = _ORDER) -> None:
        self._alphabet = np.unique(_codes(words))
        grams = self._grams(self._symbols(words), order)
        self._levels = [_level(each, counts) for each, counts in _counted(grams)]

    def log_probs(self, words: Sequence[str]) -> Floats:
        """ln of the probability of each word (words,)."""
        return np.concatenate([[], *self._log_probs(words)])

    def _log_probs(self, words: Sequence[str]) -> Iterator[Floats]:
        for at in range(0, len(words), _WORDS_AT_A_TIME):
            some = words[at : at + _WORDS_AT_A_TIME]
            ends = np.cumsum(_lengths(some) + 1)
            yield np.add.reduceat(np.log(self._probabilities(some)), [0, *ends[:-1]])

    def _probabilities(self, words: Sequence[str]) -> Floats:
        """Of each character and end after what is before it, word after word."""
        symbols = self._symbols(words)
        probabilities = np.full(len(symbols), 1 / (SCALAR_VALUES + 1))
        ids = np.zeros(len(symbols), dtype=np.int64)  # of no symbols at all: there is one
        for length, level in enumerate(self._levels, start=1):
            contexts = ids if length == 1 else _one_before(ids)
            places = np.flatnonzero((contexts >= 0) & (symbols != _START))
            probabilities[places] *= level.below[contexts[places]]
            places = places[symbols[places] != _UNSEEN]
            keys = self._keys(contexts[places], symbols[places])
            found = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            is_there = level.keys[found] == keys
            places, found = places[is_there], found[is_there]
            probabilities[places] += level.own[found]
            ids = np.full(len(symbols), _UNSEEN) if length > 1 else symbols.copy()
            ids[places] = found
        wanted: Floats = probabilities[symbols != _START]
        return wanted

    def _grams(self, symbols: Whole, order: int) -> list[_Grams]:
        """Those of every length up to the order, shortest first."""
        alphabet = np.arange(len(self._alphabet) + _FIRST)
        nothing = np.zeros_like(alphabet)
        grams = [_Grams(alphabet, nothing, nothing, nothing)]
        ids = symbols
        for _ in range(1, order):
            contexts = _one_before(ids)
            places = np.flatnonzero((contexts >= 0) & (symbols != _START))
            if not len(places):
                break
            keys = self._keys(contexts[places], symbols[places])
            ascending = np.argsort(keys)
            keys = keys[ascending]
            firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
            seen = np.diff(firsts, append=len(keys))
            examples = places[ascending[firsts]]
            grams.append(_Grams(keys[firsts], seen, contexts[examples], ids[examples]))
            ids = np.full(len(symbols), _UNSEEN)
            ids[places[ascending]] = np.repeat(np.arange(len(firsts)), seen)
        return grams

    def _keys(self, contexts: Whole, symbols: Whole) -> Whole:
        return contexts * (len(self._alphabet) + _FIRST) + symbols

    def _symbols(self, words: Sequence[str]) -> Whole:
        """The words, one after the other, each between a start and an end."""
        codes, lengths = _codes(words), _lengths(words)
        alphabet = self._alphabet if len(self._alphabet) else np.array([_UNSEEN])
        places = np.minimum(np.searchsorted(alphabet, codes), len(alphabet) - 1)
        symbols = np.zeros(len(codes) + 2 * len(words), dtype=np.int64)
        ends = np.cumsum(lengths + 2) - 1
        inside = np.ones(len(symbols), dtype=np.bool_)
        inside[ends] = inside[ends - lengths - 1] = False
        symbols[inside] = np.where(alphabet[places] == codes, places + _FIRST, _UNSEEN)
        symbols[ends] = _END
        return symbols


def _counted(grams: Sequence[_Grams]) -> Iterator[tuple[_Grams, Whole]]:
    """The n-grams of each length with their counts: of the longest, and of those that start a
    word, how often they are seen; of the others, after how many different symbols."""
    for each, longer in zip(grams, [*grams[1:], None], strict=True):
        if longer is None:
            yield each, each.seen
        else:
            after = np.bincount(longer.rests, minlength=len(each.keys))
            yield each, np.where(after > 0, after, each.seen)


def _level(grams: _Grams, counts: Whole) -> _Level:
    taken = np.minimum(counts, _discount(counts))
    total = np.maximum(np.bincount(grams.contexts, weights=counts), 1)
    below = np.bincount(grams.contexts, weights=taken) / total
    below[np.bincount(grams.contexts, weights=counts) == 0] = 1
    return _Level(grams.keys, (counts - taken) / total[grams.contexts], below)


def _discount(counts: Whole) -> float:
    """What is taken from every count, by how many n-grams were counted once and twice."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return once / (once + 2 * twice) if once and twice else _USUAL_DISCOUNT


def _one_before(ids: Whole) -> Whole:
    return np.concatenate(([_UNSEEN], ids[:-1]))


def _codes(words: Sequence[str]) -> Whole:
    text = "".join(words).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(text, dtype="<u4").astype(np.int64)


def _lengths(words: Sequence[str]) -> Whole:
    return np.fromiter(map(len, words), dtype=np.int64, count=len(words))


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
