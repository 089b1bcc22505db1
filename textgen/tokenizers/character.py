"""Characters: one id a code point, by a look-up table."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers import vocabulary
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Decoder, Ids, pairs_to_eos
from textgen.tokenizers.spelling import CharacterSpelling
from textgen.tokenizers.symbols import SymbolTokenizer

_CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
_NEWLINE = 0x0A
# A lone surrogate is never in a text that was read and never learned, so it encodes to <UNK>.
_UNKNOWN_CHARACTER = "\udfff"


class CharacterTokenizer(SymbolTokenizer):
    """One id a character.

    >>> tokenizer = CharacterTokenizer.learn(TokenizerConfig(), ["abba\\n", "b\\n"])
    >>> tokenizer.encode("ab\\n?").tolist()  # <UNK> 0, <EOS> 1, then b (3 times), a (twice)
    [3, 2, 1, 0]
    """

    level = "char"

    def __init__(self, config: TokenizerConfig, symbols: Sequence[str]) -> None:
        super().__init__(config, symbols)
        self._texts = [SPECIAL_TOKENS[UNK], self.terminator, *symbols]
        self._table = np.zeros(_CODE_POINTS, dtype=np.uint32)  # code point -> id
        self._table[[ord(symbol) for symbol in symbols]] = np.arange(2, len(symbols) + 2)
        if self.terminator == "\n":
            self._table[_NEWLINE] = EOS
        # bytes.translate is the fastest look-up there is, where the ids in question fit a byte.
        latin = self._table[:256]
        self._bytes = bytes(latin.tolist()) if latin.max() < 256 else None

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "CharacterTokenizer":
        counts = np.zeros(_CODE_POINTS, dtype=np.int64)
        for text in texts:
            _count(_prepared(text, config), counts)
        counts[_SURROGATES] = 0
        if config.unit == "line":
            counts[_NEWLINE] = 0
        seen = np.flatnonzero(counts >= config.least_count)
        found = {chr(code): int(counts[code]) for code in seen.tolist()}
        return cls(config, vocabulary.ranked(found, config))

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "CharacterTokenizer":
        symbols, where = vocabulary.load(files)
        if any(len(symbol) != 1 for symbol in symbols):
            raise CheckpointError("damaged", where=where, why="a symbol is not one character")
        return cls(config, symbols)

    def encode(self, text: str) -> Ids:
        if self.config.unk_literal is not None:
            text = text.replace(self.config.unk_literal, _UNKNOWN_CHARACTER)
        codes = _codes(text)
        if codes.dtype == np.uint8 and self._bytes is not None:
            translated = codes.tobytes().translate(self._bytes)
            ids = np.frombuffer(translated, dtype=np.uint8).astype(np.uint32)
        else:
            ids = self._table[codes]
        if self.config.unit == "paragraph":
            return self._paragraphs(ids, codes)
        return ids

    def token_texts(self, text: str) -> list[str]:
        return self._cut.findall(text)

    @cached_property
    def _cut(self) -> re.Pattern[str]:
        """What is one id although it is several characters, or any character."""
        several = [self.config.unk_literal or "", "\n\n" if self.config.unit == "paragraph" else ""]
        return re.compile("|".join([*map(re.escape, filter(None, several)), "."]), re.DOTALL)

    def _spelling(self) -> CharacterSpelling:
        end = ["\n"] if self.terminator == "\n" else []
        return CharacterSpelling([*self.symbols, *end])

    def _paragraphs(self, ids: Ids, codes: npt.NDArray[np.generic]) -> Ids:
        # The newline itself may be unknown, so the pairs are found under an id of their own.
        marked = np.where(codes == _NEWLINE, np.uint32(_CODE_POINTS), ids)
        paired = pairs_to_eos(marked, newline=_CODE_POINTS)
        return np.where(paired == _CODE_POINTS, self._table[_NEWLINE], paired)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        return "".join(map(self._texts.__getitem__, np.asarray(ids, dtype=np.int64).tolist()))

    def decoder(self) -> Decoder:
        return _CharacterDecoder(self._texts, self._spellings)

    @cached_property
    def _spellings(self) -> list[bytes]:
        return [text.encode() for text in self._texts]


class _CharacterDecoder(Decoder):
    def __init__(self, texts: Sequence[str], spellings: Sequence[bytes]) -> None:
        self._texts, self._spelt = texts, spellings

    def feed(self, id: int) -> str:
        return self._texts[id]

    def spellings(self) -> Sequence[bytes]:
        return self._spelt


def _prepared(text: str, config: TokenizerConfig) -> str:
    """The text without what no symbol is learned from."""
    if config.unk_literal is not None:
        text = text.replace(config.unk_literal, _UNKNOWN_CHARACTER)
    return text.replace("\n\n", "") if config.unit == "paragraph" else text


def _codes(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    """The code points of a text, as bytes where they all fit one."""
    try:
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _count(text: str, counts: npt.NDArray[np.int64]) -> None:
    seen = np.bincount(_codes(text))
    counts[: len(seen)] += seen
