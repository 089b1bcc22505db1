"""Tokenizers whose vocabulary is a list of symbols (characters or words), and its file."""

import dataclasses
import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.tokenizers.base import LONGEST_SYMBOL, SPECIAL_TOKENS, Tokenizer, is_symbol

FILE = "vocabulary.json"
_FORMAT = 1


class SymbolTokenizer(Tokenizer):
    """A tokenizer with one id per symbol; every symbol outside the vocabulary is ``<UNK>``.

    symbols: in the order of their ids, which follow those of the special tokens.
    """

    def __init__(self, config: TokenizerConfig, symbols: Sequence[str]) -> None:
        super().__init__(config)
        self.symbols = tuple(symbols)
        self._tokens = [*SPECIAL_TOKENS, *symbols]

    @classmethod
    @abstractmethod
    def counts(cls, config: TokenizerConfig, texts: Iterable[str]) -> dict[str, int]:
        """How often each symbol is in a text, in the order of their first places."""

    @classmethod
    @abstractmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "SymbolTokenizer":
        """Learn the symbols of a text, by descending count."""

    def extended(self, config: TokenizerConfig, texts: Iterable[str]) -> Self:
        """This tokenizer with the new symbols of a text appended.

        Args:
            config: its ``min_count`` applies to the new symbols, its ``vocab_size`` to the total.

        >>> from textgen.tokenizers.character import CharacterTokenizer
        >>> tokenizer = CharacterTokenizer.learn(TokenizerConfig(), ["abba\\n", "b\\n"])
        >>> tokenizer.extended(TokenizerConfig(), ["cab\\n"]).symbols
        ('b', 'a', 'c')
        """
        learned = self.learn(dataclasses.replace(config, vocab_size=None), texts)
        known = frozenset(self.symbols)
        new = [symbol for symbol in learned.symbols if symbol not in known]
        if config.vocab_size is not None:
            new = new[: max(0, config.vocab_size - self.vocabulary_size)]
        tokenizer = self._with_symbols(config, [*self.symbols, *new], learned)
        tokenizer.notes = learned.notes
        return tokenizer

    def _with_symbols(
        self, config: TokenizerConfig, symbols: Sequence[str], learned: "SymbolTokenizer"
    ) -> Self:
        """This tokenizer with more symbols; ``learned`` is that of the new text."""
        return type(self)(config, symbols)

    def unknown_texts(self, texts: Iterable[str]) -> list[str]:
        """The words or characters that are unknown, by descending count and first place."""
        known, unknown = frozenset(self.symbols), Counter[str]()
        for symbol, count in self.counts(self.config, texts).items():
            if symbol not in known:
                unknown[self.symbol_text(symbol)] += count
        return [text for text, _ in unknown.most_common()]

    def unknown_in(self, text: str) -> tuple[str, ...]:
        return tuple(self.unknown_texts([text]))

    def symbol_text(self, symbol: str) -> str:
        """The text of a symbol, which may be outside the vocabulary."""
        return symbol

    def text_of(self, id: int) -> str:
        return SPECIAL_TOKENS[id] if id < len(SPECIAL_TOKENS) else self.symbol_text(self.token(id))

    def save(self, folder: Path) -> None:
        save_symbols(folder / FILE, "symbols", self.symbols)

    @property
    def vocabulary_size(self) -> int:
        return len(self._tokens)

    def token(self, id: int) -> str:
        return self._tokens[id]

    @property
    def fingerprint(self) -> str:
        config = self.config
        split = config.split if config.level == "word" else None
        decisive = [config.level, config.unit, split, config.unk_literal, list(self.symbols)]
        return hashlib.sha256(storage.json_text(decisive).encode()).hexdigest()


def most_frequent(counts: Mapping[str, int], config: TokenizerConfig) -> list[str]:
    """The symbols to learn, by descending count and code point, within the config's limits.

    >>> most_frequent({"b": 2, "a": 2, "c": 9, "d": 1}, TokenizerConfig(min_count=2))
    ['c', 'a', 'b']
    """
    symbols = [symbol for symbol, count in counts.items() if count >= config.least_count]
    symbols.sort(key=lambda symbol: (-counts[symbol], symbol))
    largest = config.largest_vocabulary
    return symbols if largest is None else symbols[: largest - len(SPECIAL_TOKENS)]


def save_symbols(path: Path, key: str, symbols: Sequence[str]) -> None:
    """Write a list of symbols under a key."""
    storage.write_json(path, {"format": _FORMAT, key: list(symbols)})


def load_symbols(files: Mapping[str, Path], name: str, key: str) -> tuple[str, ...]:
    """Read what ``save_symbols`` wrote.

    Raises:
        CheckpointError: The file is missing, or damaged, or a symbol is empty, too long or
            there twice.
    """
    path = storage.require(files, name)
    raw = storage.read_object(path, _FORMAT)
    with storage.reading(path):
        symbols = storage.from_json(tuple[str, ...], raw[key], key)
        if not all(map(is_symbol, symbols)):
            why = f"a symbol is not text, or empty, or longer than {LONGEST_SYMBOL} characters"
            raise ValueError(why)
        if len(set(symbols)) != len(symbols):
            raise ValueError("a symbol occurs twice")
    return symbols
