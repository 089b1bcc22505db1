"""What counting reaches: an n-gram model of the same tokens, to hold a trained model against.

Interpolated Kneser-Ney smoothing with three discounts an order: Chen and Goodman 1999, "An
empirical study of smoothing techniques for language modeling".
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer[Any]]
_Keys = npt.NDArray[np.int64]
_Reals = npt.NDArray[np.float64]

TRAIN_TOKENS, VALID_TOKENS = 2_000_000, 200_000
"""Of the training part the last, of the validation part the first so many tokens are read."""

_ORDERS = {"char": 6}
_OTHER_ORDER = 3
_LARGEST_KEY = 2**62
# Where there are too few counts to estimate them from: KenLM's --discount_fallback.
_USUAL_DISCOUNTS = (0.5, 1.0, 1.5)


def order_for(level: str, vocabulary_size: int) -> int:
    """Six characters or three words; less where so many tokens make no 62-bit number.

    >>> order_for("char", 66), order_for("char", 5000), order_for("word", 50_000)
    (6, 5, 3)
    """
    order = _ORDERS.get(level, _OTHER_ORDER)
    while order > 1 and (vocabulary_size + 1) ** order > _LARGEST_KEY:
        order -= 1
    return order


def kneser_ney_loss(train_ids: Ids, valid_ids: Ids, order: int, vocabulary_size: int) -> float:
    """Nats a token on the beginning of ``valid_ids``, learned from the end of ``train_ids``."""
    probabilities = kneser_ney_probabilities(
        train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS], order, vocabulary_size
    )
    return float(-np.log(probabilities).mean())


def kneser_ney_probabilities(
    train_ids: Ids, valid_ids: Ids, order: int, vocabulary_size: int
) -> _Reals:
    """p(token | the ``order`` - 1 before it) of each validation token, across sentences, (tokens,).

    An n-gram is a number in base vocabulary + 1, its oldest token the highest digit. So the
    n-grams that follow one context are neighbours once sorted, a context is a quotient, and the
    same without its oldest token is a remainder: no n-gram is ever an object. Of the counts those
    of one order at a time are in memory.
    """
    base = vocabulary_size + 1
    wanted = _windows(valid_ids, order, vocabulary_size)
    ngrams, counts = np.unique(_windows(train_ids, order, vocabulary_size), return_counts=True)
    shares = [_shares(ngrams, counts, wanted, base)]
    for lower in range(order - 1, 0, -1):
        # Below the highest order, what counts is how many different tokens came before.
        ngrams, counts = np.unique(ngrams % base**lower, return_counts=True)
        shares.append(_shares(ngrams, counts, wanted % base**lower, base))
    probabilities = np.full(len(wanted), 1 / vocabulary_size)
    for own, left in reversed(shares):
        probabilities = own + left * probabilities
    return probabilities


def _windows(ids: Ids, order: int, mark: int) -> _Keys:
    """The n-gram that ends at each token, (tokens,); before a text stands a mark of its own."""
    padded = np.concatenate([np.full(order - 1, mark), ids]).astype(np.int64)
    windows = np.zeros(len(ids), np.int64)
    for start in range(order):
        windows *= mark + 1
        windows += padded[start : start + len(ids)]
    return windows


def _shares(
    ngrams: _Keys, counts: npt.NDArray[np.intp], wanted: _Keys, base: int
) -> tuple[_Reals, _Reals]:
    """For each n-gram wanted: what its own count gives it, and the weight of the lower order."""
    discounts = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    place, seen = _find(ngrams, wanted)
    own = np.where(seen, (counts - discounts)[place], 0.0)
    contexts, starts = np.unique(ngrams // base, return_index=True)
    place, seen = _find(contexts, wanted // base)
    totals = np.add.reduceat(counts, starts)[place]
    freed = np.add.reduceat(discounts, starts)[place]
    # In a context never seen there is only the lower order to ask.
    return np.where(seen, own / totals, 0.0), np.where(seen, freed / totals, 1.0)


def _discounts(counts: npt.NDArray[np.intp]) -> tuple[float, ...]:
    """What is taken from a count of one, of two, and of three or more (equation 26)."""
    seen = [int(np.count_nonzero(counts == count)) for count in range(1, 5)]
    if not all(seen):
        return _USUAL_DISCOUNTS
    part = seen[0] / (seen[0] + 2 * seen[1])
    discounts = tuple(
        count - (count + 1) * part * seen[count] / seen[count - 1] for count in (1, 2, 3)
    )
    possible = all(0 <= each <= count for count, each in enumerate(discounts, start=1))
    return discounts if possible else _USUAL_DISCOUNTS


def _find(keys: _Keys, wanted: _Keys) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Where each number would stand among the sorted ones, and whether it does."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
