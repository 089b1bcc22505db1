"""How words are spelled: characters by those before them, after Kneser and Ney (1995).

Interpolated, with one absolute discount an order, in closed form: each order takes a little from
what it counted and gives it to the order below, and the lowest to every character there is. So
every string has a probability, and all of them add up to one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
