"""Tokenizers whose vocabulary is a list of symbols (characters or words), and its file."""

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import SPECIAL_TOKENS, Tokenizer, is_text

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
        new = self._unknown_among(learned.symbols)
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

    def unknown_symbols(self, texts: Iterable[str]) -> list[str]:
        """The symbols of a text that are not in the vocabulary, by descending count."""
        config = dataclasses.replace(self.config, vocab_size=None, min_count=1)
        return self._unknown_among(self.learn(config, texts).symbols)

    def unknown_in(self, text: str) -> tuple[str, ...]:
        return tuple(self.unknown_symbols([text]))

    def _unknown_among(self, symbols: Iterable[str]) -> list[str]:
        known = frozenset(self.symbols)
        return [symbol for symbol in symbols if symbol not in known]

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


def load_symbols(files: Mapping[str, Path], name: str, key: str) -> list[str]:
    """Read what ``save_symbols`` wrote.

    Raises:
        CheckpointError: The file is missing, or damaged, or a symbol is empty or occurs twice.
    """
    path = storage.require(files, name)
    symbols = storage.read_object(path, "a vocabulary", _FORMAT).get(key)
    if not isinstance(symbols, list) or not all(map(is_text, symbols)) or not all(symbols):
        raise CheckpointError("damaged", where=path, why="a symbol is not text, or empty")
    if len(set(symbols)) != len(symbols):
        raise CheckpointError("damaged", where=path, why="a symbol occurs twice")
    return symbols
