"""How text becomes tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from textgen.config.options import Config, check_choice, check_whole, option
from textgen.errors import UsageError

Level = Literal["char", "word", "subword"]
Unit = Literal["line", "paragraph", "document"]
Split = Literal["punctuation", "whitespace"]
SubwordModel = Literal["unigram", "bpe"]

UNIT_TERMINATORS: Mapping[Unit, str] = {"line": "\n", "paragraph": "\n\n", "document": ""}
"""The text that each unit's ``<EOS>`` stands for. A document ends where its file ends."""

_TOKENS = "Tokens"


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """How text becomes tokens."""

    level: Level = option("char", "What a token is.", panel=_TOKENS)
    vocab_size: int | None = option(
        None,
        "Most tokens to know, <UNK> and <EOS> counted.",
        panel=_TOKENS,
        shown="all (subword: 4000)",
    )
    min_count: int | None = option(
        None,
        "Learn only what is seen at least this often.",
        panel=_TOKENS,
        shown="1 (word: 2)",
    )
    unit: Unit = option("line", "What ends in <EOS>: a line, a paragraph, a file.", panel=_TOKENS)
    split: Split = option(
        "punctuation",
        "How words are cut: 'punctuation' gives back the spacing exactly.",
        panel=_TOKENS,
    )
    subword_model: SubwordModel = option(
        "unigram", "The sentencepiece algorithm of --level subword.", panel=_TOKENS
    )
    unk_literal: str | None = option(
        None, "How the corpus itself spells an unknown word, such as '<unk>'.", panel=_TOKENS
    )

    def __post_init__(self) -> None:
        check_choice("level", self.level, ("char", "word", "subword"))
        check_choice("unit", self.unit, ("line", "paragraph", "document"))
        check_choice("split", self.split, ("punctuation", "whitespace"))
        check_choice("subword_model", self.subword_model, ("unigram", "bpe"))
        check_whole("vocab_size", self.vocab_size, 3, 2**31 - 1)
        check_whole("min_count", self.min_count, 1)
        if self.unk_literal is not None and not (
            isinstance(self.unk_literal, str) and self.unk_literal
        ):
            raise UsageError(f"--unk-literal must be text, got {self.unk_literal!r}")

    @property
    def least_count(self) -> int:
        return self.min_count or (2 if self.level == "word" else 1)

    @property
    def largest_vocabulary(self) -> int | None:
        return self.vocab_size or (4000 if self.level == "subword" else None)
