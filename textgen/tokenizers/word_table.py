"""The ids of whole blocks of text at once: words are found and looked up by array operations.

Each character has a number: the space, the newline, then characters of words, then apostrophes,
then other symbols. Only those of the vocabulary have numbers of their own, so that in most
languages a number has 8 bits, and 128 bits hold those of a word of up to 16 characters (8 if
numbers have 16 bits): its key in a hash table. Longer words are looked up one by one.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from textgen.config import TokenizerConfig
from textgen.tokenizers.base import EOS, UNK, Ids
from textgen.tokenizers.pretokenization import (
    APOSTROPHES,
    EMPTY,
    JOINER,
    LONGEST_CHUNK,
    Block,
    is_word_character,
    symbol_token,
)

_SPACE, _NEWLINE, _UNKNOWN_LETTER = range(3)
_KEY = np.dtype("V16")
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
_ROW = LONGEST_CHUNK // 2
_NONE = -1  # in place of an id: no token, or an empty slot

Numbers = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.intp]
Keys = npt.NDArray[np.uint64]  # (words, 2)


class WordTable:
    """The ids of the tokens of ``chunk_splitter``, a block at a time.

    Args:
        ids: the id of each token of the vocabulary.
    """

    def __init__(self, config: TokenizerConfig, ids: Mapping[str, int]) -> None:
        self._config, self._ids = config, ids
        self._lossless = config.split == "punctuation"
        self._empty = ids.get(EMPTY, UNK)
        if config.unit == "line":
            self._newline = EOS
        else:
            self._newline = ids.get("\n", UNK) if self._lossless else _NONE
        characters = sorted(set("".join(ids)).union(APOSTROPHES, JOINER) - {" ", "\n"})
        characters.sort(key=self._rank)
        ranks = [self._rank(char) for char in characters]
        self._last_letter = _UNKNOWN_LETTER + ranks.count(0)
        self._last_apostrophe = self._last_letter + ranks.count(1)
        self._unknown_symbol = _UNKNOWN_LETTER + 1 + len(characters)
        self._unseen = self._unknown_symbol + 1  # in no block until now
        dtype = np.min_scalar_type(self._unseen)
        self._number_of: Numbers = np.full(0x110000, self._unseen, dtype=dtype)
        self._number_of[[ord(" "), ord("\n")]] = _SPACE, _NEWLINE
        known = np.arange(_UNKNOWN_LETTER + 1, self._unknown_symbol)
        self._number_of[_code_points("".join(characters))] = known
        symbols = characters[ranks.count(0) :]
        sides = list(product((False, True), repeat=2))
        known_ids = [[ids.get(symbol_token(s, *side), UNK) for side in sides] for s in symbols]
        self._symbol_ids = np.array([*known_ids, [UNK] * len(sides)])
        self._longest = _KEY.itemsize // dtype.itemsize
        has = np.arange(self._longest) < np.arange(self._longest + 1)[:, None]
        # By the length of a word: the bits of the numbers that it has.
        self._masks = (has * np.iinfo(dtype).max).astype(dtype).view(np.uint64)
        self._make_slots()

    def _rank(self, char: str) -> int:
        """0: part of words; 1: part of words between two others; 2: never part of a word."""
        if not self._lossless or is_word_character(char):
            return 0
        return 1 if char in APOSTROPHES else 2

    def ids(self, block: Block) -> Ids | None:
        """The ids of a block; None if its chunks have to be split one by one.

        This is so if one may be too long, or may have ``--unk-literal`` beside symbols.
        """
        literal, text = self._config.unk_literal, block.text
        if not text or (self._lossless and literal is not None and literal in text):
            return None
        read = self._read(text)[block.in_line :]  # a space at its start is the first delimiter
        numbers = read[: len(read) - self._longest]
        lowest = numbers[: len(numbers) // _ROW * _ROW].reshape(-1, _ROW).min(axis=1)
        if (lowest > _NEWLINE).any():  # as in one of the rows inside every chunk that is too long
            return None
        ids = np.full(len(numbers), _NONE, dtype=np.int32)  # at the place where each token starts
        in_word = (numbers > _NEWLINE) & (numbers <= self._last_letter)
        if self._lossless:
            apostrophes = np.flatnonzero(
                (numbers > self._last_letter) & (numbers <= self._last_apostrophe)
            )
            inside = in_word[apostrophes - 1] & in_word[apostrophes + 1]
            in_word[apostrophes[inside]] = True
            symbols = np.flatnonzero((numbers > self._last_letter) & ~in_word)
            rows = numbers[symbols].astype(np.intp) - (self._last_letter + 1)
            sides = 2 * (numbers[symbols - 1] > _NEWLINE) + in_word[symbols + 1]
            ids[symbols] = self._symbol_ids[rows, sides]
        edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        ids[starts] = self._word_ids(read, starts, lengths)
        long = np.flatnonzero(lengths > self._longest)
        begins = starts[long] - (not block.in_line)  # in the text
        spans = zip(begins.tolist(), (begins + lengths[long]).tolist(), strict=True)
        ids[starts[long]] = [self._ids.get(text[begin:end], UNK) for begin, end in spans]
        self._set_newlines(numbers, ids)
        return self._joined(numbers, ids)

    def _read(self, text: str) -> Numbers:
        """The numbers of the characters between two newlines, and zeros as many as a key has."""
        codes = _code_points(text)
        numbers = np.zeros_like(self._number_of, shape=len(codes) + 2 + self._longest)
        numbers[[0, len(codes) + 1]] = _NEWLINE
        read = numbers[1 : len(codes) + 1]
        np.take(self._number_of, codes, out=read, mode="clip")
        if read.max(initial=0) == self._unseen:
            for char in set(text):
                if self._number_of[ord(char)] == self._unseen:
                    in_word = self._rank(char) == 0
                    number = _UNKNOWN_LETTER if in_word else self._unknown_symbol
                    self._number_of[ord(char)] = number
            np.take(self._number_of, codes, out=read, mode="clip")
        return numbers

    def _set_newlines(self, numbers: Numbers, ids: npt.NDArray[np.int32]) -> None:
        newlines = np.flatnonzero(numbers[1:-1] == _NEWLINE) + 1
        ids[newlines] = self._newline
        if self._config.unit == "paragraph":  # leftmost pairs
            count = np.arange(len(newlines))
            starts = np.where(np.diff(newlines, prepend=-1) > 1, count, 0)
            second = newlines[(count - np.maximum.accumulate(starts)) % 2 == 1]
            ids[second], ids[second - 1] = EOS, _NONE

    def _joined(self, numbers: Numbers, ids: npt.NDArray[np.int32]) -> Ids:
        """The ids of all places, those of empty chunks included."""
        if not self._lossless:
            return ids[np.flatnonzero(ids != _NONE)].astype(np.uint32)
        left, right = numbers[:-1], numbers[1:]
        after = np.flatnonzero((left == _SPACE) & (right <= _NEWLINE))
        before = np.flatnonzero((left == _NEWLINE) & (right == _SPACE)) + 1
        ids[after] = ids[before] = self._empty
        places = np.flatnonzero(ids != _NONE)
        joined = ids[places].astype(np.uint32)
        # A space that is all of a line has an empty chunk on either side.
        alone = np.intersect1d(after, before, assume_unique=True)
        return np.insert(joined, np.searchsorted(places, alone), self._empty)

    def _word_ids(self, numbers: Numbers, starts: Places, lengths: Places) -> npt.NDArray[np.int32]:
        """Of words of at most ``_longest`` characters; of longer ones anything."""
        keys = self._keys(numbers, starts, lengths)
        slots, ids = self._home_slots(keys), np.empty(len(keys), dtype=np.int32)
        places = np.arange(len(keys))
        while len(places):
            found = self._slot_ids.take(slots)
            equal = self._slot_keys.take(slots, axis=0) == keys
            same = equal[:, 0] & equal[:, 1]
            ids[places] = np.where(same, found, UNK)
            taken = np.flatnonzero(~same & (found != _NONE))  # by another word: on to the next
            places, slots, keys = places[taken], slots[taken] + 1, keys[taken]
        return ids

    def _keys(self, numbers: Numbers, starts: Places, lengths: Places) -> Keys:
        """Of longer words than ``_longest`` the key of their beginnings."""
        size = len(numbers) - self._longest + 1
        windows: npt.NDArray[np.void] = np.ndarray((size,), _KEY, numbers, 0, numbers.strides)
        keys = windows[starts].view(np.uint64).reshape(-1, 2)
        keys &= self._masks.take(np.minimum(lengths, self._longest), axis=0)
        return keys

    def _home_slots(self, keys: Keys) -> Places:
        mixed: Keys = keys[:, 0] * _MULTIPLIERS[0] + keys[:, 1] * _MULTIPLIERS[1]
        slots: Places = (mixed >> self._shift).astype(np.intp)
        return slots

    def _make_slots(self) -> None:
        """Put each word into the first free slot from its home slot on; the last one stays free."""
        words = [
            word
            for word in self._ids
            if len(word) <= self._longest and " " not in word and word != self._config.unk_literal
        ]
        lengths = np.array([len(word) for word in words], dtype=np.intp)
        starts = 1 + np.cumsum(lengths + 1) - (lengths + 1)
        bits = (2 * len(words)).bit_length() + 1
        self._shift = np.uint64(64 - bits)
        keys = self._keys(self._read(" ".join(words)), starts, lengths)
        homes = self._home_slots(keys)
        order, count = np.argsort(homes, kind="stable"), np.arange(len(words))
        slots = count + np.maximum.accumulate(homes[order] - count)
        size = 2**bits + len(words) + 1
        self._slot_keys = np.zeros((size, 2), dtype=np.uint64)
        self._slot_ids = np.full(size, _NONE, dtype=np.int32)
        self._slot_keys[slots] = keys[order]
        self._slot_ids[slots] = np.array([self._ids[word] for word in words], np.int32)[order]


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
