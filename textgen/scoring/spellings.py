"""How ids are spelt in a text: which of them start a word, which begin alike.

A token may be spelt in more than one way: after an opening bracket a word has no space before it.
Which way it is depends on the id before.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.models.gauges import Prefixes
from textgen.tokenizers.base import EOS, UNK, Tokenizer

_AFTER = b"\xff"  # in no UTF-8, and so after all that begins alike


class Spellings:
    """The spellings of a vocabulary. way: (vocabulary,) which of them holds after each id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ways: list[Sequence[bytes]] = []
        decoder = tokenizer.decoder()
        ways = []
        for id in range(tokenizer.vocabulary_size):
            after = decoder.copy()
            after.feed(id)
            ways.append(self._index_of(after.spellings()))
        self.way: Tensor = torch.tensor(ways)

    def _index_of(self, spellings: Sequence[bytes]) -> int:
        for index, known in enumerate(self._ways):
            if known is spellings:
                return index
        self._ways.append(spellings)
        return len(self._ways) - 1

    def starts_word(self) -> npt.NDArray[np.bool_]:
        """(ways, vocabulary): what starts with white space, and ``<EOS>``."""
        rows = [[_text(written)[:1].isspace() for written in way] for way in self._ways]
        starts = np.array(rows)
        starts[:, EOS] = True
        return starts

    def prefixes(self) -> tuple[Prefixes, ...]:
        """For each way, which ids begin alike."""
        return tuple(map(_prefixes, self._ways))


def _prefixes(way: Sequence[bytes]) -> Prefixes:
    # What has no spelling of its own is after all that has.
    order = sorted(range(len(way)), key=lambda id: (id in (UNK, EOS), way[id]))
    spelt = [way[id] for id in order[:-2]]
    widest = max(len(_text(written)) for written in way)
    begin = np.zeros((len(way), max(1, widest)), np.int64)
    end = np.zeros_like(begin)

    @cache
    def stretch(prefix: bytes) -> tuple[int, int]:
        return bisect_left(spelt, prefix), bisect_left(spelt, prefix + _AFTER)

    for id, written in zip(order, spelt, strict=False):
        for column, stop in enumerate(_character_ends(written)):
            begin[id, column], end[id, column] = stretch(written[:stop])
    return Prefixes(*map(torch.as_tensor, (order, begin, end)))


def _character_ends(written: bytes) -> Iterator[int]:
    """Where the characters of a token end, in bytes, if it is whole characters."""
    return accumulate(len(character.encode()) for character in _text(written))


def _text(written: bytes) -> str:
    """The text of whole characters; nothing of what is not."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return ""
