"""The character tokenizer: one id per code point, by a look-up table."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from textgen.config import Level, TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Decoder, Ids
from textgen.tokenizers.spelling import CharacterSpelling
from textgen.tokenizers.vocabulary import FILE, SymbolTokenizer, load_symbols, most_frequent

_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)
# Lone surrogates, which occur in no text read: one is <UNK>, the other the end of a paragraph.
_UNKNOWN, _PARAGRAPH_END = "\udfff", "\udffe"


class CharacterTokenizer(SymbolTokenizer):
    """One id per character.

    >>> tokenizer = CharacterTokenizer.learn(TokenizerConfig(), ["abba\\n", "b\\n"])
    >>> tokenizer.encode("ab\\n?").tolist()  # <UNK> 0, <EOS> 1, then b (3 times), a (twice)
    [3, 2, 1, 0]
    """

    level: ClassVar[Level] = "char"

    def __init__(self, config: TokenizerConfig, symbols: Sequence[str]) -> None:
        super().__init__(config, symbols)
        self._texts = [SPECIAL_TOKENS[UNK], self.terminator, *symbols]
        self._table = np.zeros(_CODE_POINTS, dtype=np.uint32)  # code point -> id
        self._table[[ord(symbol) for symbol in symbols]] = np.arange(2, len(symbols) + 2)
        if config.unit != "document":
            self._table[ord("\n" if config.unit == "line" else _PARAGRAPH_END)] = EOS
        # bytes.translate is the fastest look-up where code points and ids fit into a byte.
        latin = self._table[:256]
        self._bytes = bytes(latin.tolist()) if latin.max() < 256 else None

    @classmethod
    def counts(cls, config: TokenizerConfig, texts: Iterable[str]) -> dict[str, int]:
        counts = np.zeros(0, dtype=np.int64)  # by code point
        found = dict[str, int]()
        for text in texts:
            if config.unk_literal is not None:
                text = text.replace(config.unk_literal, _UNKNOWN)
            if config.unit == "paragraph":
                text = text.replace("\n\n", "")
            of_text = np.bincount(_codes(text), minlength=len(counts))
            new = of_text > 0
            new[: len(counts)] &= counts == 0
            symbols = (chr(code) for code in np.flatnonzero(new).tolist())
            found |= dict.fromkeys(sorted(symbols, key=text.index), 0)
            of_text[: len(counts)] += counts
            counts = of_text
        if config.unit == "line":
            found.pop("\n", None)
        codes = ((symbol, ord(symbol)) for symbol in found)
        return {symbol: int(counts[code]) for symbol, code in codes if code not in _SURROGATES}

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "CharacterTokenizer":
        return cls(config, most_frequent(cls.counts(config, texts), config))

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "CharacterTokenizer":
        symbols = load_symbols(files, FILE, "symbols")
        if any(len(symbol) != 1 for symbol in symbols):
            raise CheckpointError("damaged", where=files[FILE], why="a symbol is not one character")
        return cls(config, symbols)

    def encode(self, text: str) -> Ids:
        if self.config.unk_literal is not None:
            text = text.replace(self.config.unk_literal, _UNKNOWN)
        if self.config.unit == "paragraph":
            text = text.replace(_PARAGRAPH_END, _UNKNOWN).replace("\n\n", _PARAGRAPH_END)
        codes = _codes(text)
        if codes.dtype == np.uint8 and self._bytes is not None:
            translated = codes.tobytes().translate(self._bytes)
            return np.frombuffer(translated, dtype=np.uint8).astype(np.uint32)
        return self._table[codes]

    def token_texts(self, text: str) -> list[str]:
        return self._pattern.findall(text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Matches the text of one id: the literal, a pair of newlines, or any character."""
        several = [self.config.unk_literal or "", "\n\n" if self.config.unit == "paragraph" else ""]
        return re.compile("|".join([*map(re.escape, filter(None, several)), "."]), re.DOTALL)

    def _spelling(self) -> CharacterSpelling:
        return CharacterSpelling([*self.symbols, *(["\n"] if self.terminator == "\n" else [])])

    def decode(self, ids: Sequence[int] | Ids) -> str:
        return "".join([self._texts[id] for id in np.asarray(ids, dtype=np.int64).tolist()])

    def decoder(self) -> Decoder:
        return _CharacterDecoder(self._texts, self._texts_in_utf8)

    @cached_property
    def _texts_in_utf8(self) -> list[bytes]:
        return [text.encode() for text in self._texts]


class _CharacterDecoder(Decoder):
    def __init__(self, texts: Sequence[str], in_utf8: Sequence[bytes]) -> None:
        self._texts, self._in_utf8 = texts, in_utf8

    def feed(self, id: int) -> str:
        return self._texts[id]

    def next_bytes(self) -> Sequence[bytes]:
        return self._in_utf8


def _codes(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    """The code points of a text, as bytes if they all fit."""
    try:
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    except UnicodeEncodeError:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
