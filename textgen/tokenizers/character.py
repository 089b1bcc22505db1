"""The character tokenizer: one id per code point, by a look-up table."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, UNK, Decoder, Ids, pairs_to_eos
from textgen.tokenizers.spelling import CharacterSpelling
from textgen.tokenizers.vocabulary import FILE, SymbolTokenizer, load_symbols, most_frequent

_CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
_NEWLINE = 0x0A
# A lone surrogate is never learned and occurs in no text read, so it encodes to <UNK>.
_UNKNOWN_CHARACTER = "\udfff"


class CharacterTokenizer(SymbolTokenizer):
    """One id per character.

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
        # bytes.translate is the fastest look-up where code points and ids fit into a byte.
        latin = self._table[:256]
        self._bytes = bytes(latin.tolist()) if latin.max() < 256 else None

    @classmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "CharacterTokenizer":
        counts = np.zeros(_CODE_POINTS, dtype=np.int64)
        for text in texts:
            if config.unk_literal is not None:
                text = text.replace(config.unk_literal, _UNKNOWN_CHARACTER)
            if config.unit == "paragraph":
                text = text.replace("\n\n", "")
            of_text = np.bincount(_codes(text))
            counts[: len(of_text)] += of_text
        counts[_SURROGATES] = 0
        if config.unit == "line":
            counts[_NEWLINE] = 0
        found = {chr(code): int(counts[code]) for code in np.flatnonzero(counts).tolist()}
        return cls(config, most_frequent(found, config))

    @classmethod
    def load(cls, config: TokenizerConfig, files: dict[str, Path]) -> "CharacterTokenizer":
        symbols = load_symbols(files, FILE, "symbols")
        if any(len(symbol) != 1 for symbol in symbols):
            raise CheckpointError("damaged", where=files[FILE], why="a symbol is not one character")
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
            # The newline itself may be unknown, so pairs are searched with an id of their own.
            marked = np.where(codes == _NEWLINE, np.uint32(_CODE_POINTS), ids)
            paired = pairs_to_eos(marked, newline=_CODE_POINTS)
            ids = np.where(paired == _CODE_POINTS, self._table[_NEWLINE], paired)
        return ids

    def token_texts(self, text: str) -> list[str]:
        return self._pattern.findall(text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Matches the text of one id: the literal, a pair of newlines, or any character."""
        several = [self.config.unk_literal or "", "\n\n" if self.config.unit == "paragraph" else ""]
        return re.compile("|".join([*map(re.escape, filter(None, several)), "."]), re.DOTALL)

    def _spelling(self) -> CharacterSpelling:
        return CharacterSpelling([*self.symbols, *(["\n"] if self.terminator == "\n" else [])])

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
