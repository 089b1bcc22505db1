"""What character and word tokenizers share: a list of symbols, each with an id, that can grow."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from textgen.config import TokenizerConfig
from textgen.tokenizers import vocabulary
from textgen.tokenizers.base import SPECIAL_TOKENS, Tokenizer


class SymbolTokenizer(Tokenizer):
    """A tokenizer that knows a text's symbols by name; any other symbol is ``<UNK>``.

    symbols: in the order of their ids, which begin after the special tokens'.
    """

    def __init__(self, config: TokenizerConfig, symbols: Sequence[str]) -> None:
        super().__init__(config)
        self.symbols = tuple(symbols)
        self._tokens = [*SPECIAL_TOKENS, *symbols]

    @classmethod
    @abstractmethod
    def learn(cls, config: TokenizerConfig, texts: Iterable[str]) -> "SymbolTokenizer":
        """The tokenizer for a text, its symbols by descending count."""

    def extended(self, config: TokenizerConfig, texts: Iterable[str]) -> Self:
        """This tokenizer with the symbols of a text that it lacks, after those it has.

        config: says how often a symbol must be seen, and how many tokens there may be in all.

        >>> from textgen.tokenizers.character import CharacterTokenizer
        >>> tokenizer = CharacterTokenizer.learn(TokenizerConfig(), ["abba\\n", "b\\n"])
        >>> tokenizer.extended(TokenizerConfig(), ["cab\\n"]).symbols
        ('b', 'a', 'c')
        """
        learned = self.learn(dataclasses.replace(config, vocab_size=None), texts)
        new = self._unknown_among(learned.symbols)
        if config.vocab_size is not None:
            new = new[: max(0, config.vocab_size - self.vocabulary_size)]
        tokenizer = self._grown(config, [*self.symbols, *new], learned)
        tokenizer.notes = learned.notes
        return tokenizer

    def _grown(
        self, config: TokenizerConfig, symbols: Sequence[str], learned: "SymbolTokenizer"
    ) -> Self:
        """This tokenizer with more symbols. learned: that of the text which has them."""
        return type(self)(config, symbols)

    def unknown_symbols(self, texts: Iterable[str]) -> list[str]:
        """The symbols of a text that this tokenizer lacks, by descending count."""
        config = dataclasses.replace(self.config, vocab_size=None, min_count=1)
        return self._unknown_among(self.learn(config, texts).symbols)

    def unknown_in(self, text: str) -> tuple[str, ...]:
        return tuple(self.unknown_symbols([text]))

    def _unknown_among(self, symbols: Iterable[str]) -> list[str]:
        known = frozenset(self.symbols)
        return [symbol for symbol in symbols if symbol not in known]

    def save(self, folder: Path) -> None:
        vocabulary.save(folder, self.symbols)

    @property
    def vocabulary_size(self) -> int:
        return len(self._tokens)

    def token(self, id: int) -> str:
        return self._tokens[id]

    @property
    def fingerprint(self) -> str:
        return vocabulary.fingerprint(self.config, self.symbols)
