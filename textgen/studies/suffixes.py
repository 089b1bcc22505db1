"""A text's suffixes in order, on disk: where the longest stretch of another text is found in it.

A suffix array (Manber and Myers 1993), built by libdivsufsort (Mori) and read through memory
maps, so that a search touches a few pages of it, however long the text.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]

_TEXT, _ORDER = "text.bin", "suffixes.bin"
_WORD = 8  # bytes compared at a time
_LONGEST = 2**31 - 1 - _WORD  # what 32-bit places reach


class TooLong(ValueError):
    """A text of more bytes than an index can hold."""


def build(folder: Path, pieces: Iterable[str]) -> int:
    """Write the index of a text that comes in pieces; returns its length in bytes.

    Needs memory for five bytes a byte of text. Raises TooLong.
    """
    from pydivsufsort import divsufsort

    length = 0
    with (folder / _TEXT).open("wb") as stream:
        for piece in pieces:
            length += stream.write(piece.encode("utf-8", "surrogatepass"))
            if length > _LONGEST:
                raise TooLong
        stream.write(bytes(_WORD))  # so that words can be read up to the end
    text = np.fromfile(folder / _TEXT, np.uint8, count=length)
    order: Any = divsufsort(text) if length else np.empty(0)
    order.astype("<i4", copy=False).tofile(folder / _ORDER)
    return length


class Suffixes:
    """A text's index, opened."""

    def __init__(self, folder: Path, length: int) -> None:
        """length: of the text, in bytes. Raises ValueError where the files are not of it."""
        sizes = [(folder / name).stat().st_size for name in (_TEXT, _ORDER)]
        if sizes != [length + _WORD, 4 * length]:
            raise ValueError(f"its files have {sizes} bytes, not those of a text of {length}")
        self._length = length
        text = np.memmap(folder / _TEXT, np.uint8, "r")
        self._words = _words(text)  # (length + 1,) the eight bytes from each place on
        self._order = np.memmap(folder / _ORDER, "<i4", "r") if length else np.empty(0, "<i4")

    def longest(self, text: bytes, starts: npt.NDArray[np.int64]) -> Lengths:
        """How many bytes of ``text``, from each of these places on, are somewhere in the index.

        All places are searched at once: a binary search between two suffixes whose common
        beginnings with what is looked for are known, so that no byte of them is compared again.
        """
        words = _words(np.frombuffer(text + bytes(_WORD), np.uint8))
        left = len(text) - starts  # what is to be matched, at most
        low, high = np.zeros_like(starts), np.full_like(starts, self._length)
        low_common, high_common = np.zeros_like(starts), np.zeros_like(starts)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            suffixes = np.clip(self._order[middle].astype(np.int64), 0, self._length - 1)
            known = np.minimum(low_common[open_], high_common[open_])
            common, before = self._compare(words, starts[open_], suffixes, known, left[open_])
            under, over = open_[before], open_[~before]
            low[under], low_common[under] = middle[before] + 1, common[before]
            high[over], high_common[over] = middle[~before], common[~before]
        return np.maximum(low_common, high_common)

    def _compare(
        self,
        words: npt.NDArray[Any],
        starts: npt.NDArray[np.int64],
        suffixes: npt.NDArray[np.int64],
        common: npt.NDArray[np.int64],
        left: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """How many bytes each pair has in common, and whether the suffix comes first.

        common: how many are known to be. left: how many there are to be compared, at most.
        """
        common = common.copy()
        before = np.zeros(len(starts), np.bool_)
        most = np.minimum(left, self._length - suffixes)
        open_ = np.arange(len(starts))
        while len(open_):
            places = common[open_]
            ours = words[starts[open_] + places].astype(np.uint64)
            theirs = self._words[suffixes[open_] + places].astype(np.uint64)
            differ = ours ^ theirs
            same = np.zeros(len(open_), np.int64)
            for bits in range(8, 65, 8):  # leading bytes that are equal
                same += differ < np.uint64(1) << np.uint64(64 - bits) if bits < 64 else differ == 0
            common[open_] = np.minimum(places + same, most[open_])
            before[open_] = theirs < ours
            open_ = open_[(same == _WORD) & (common[open_] < most[open_])]
        # Of two that are equal as far as both go, the shorter comes first.
        ended = common == most
        before[ended] = (self._length - suffixes < left)[ended]
        return common, before


def _words(text: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The eight bytes from each place of a text on, as numbers that compare as the bytes do."""
    return np.ndarray(len(text) - _WORD + 1, ">u8", text.data, strides=(1,))
