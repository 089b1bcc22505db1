"""How text becomes tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from textgen.config.options import Bounds, Config, option

Level = Literal["char", "word", "subword"]
Unit = Literal["line", "paragraph", "document"]
Split = Literal["punctuation", "whitespace"]
SubwordModel = Literal["unigram", "bpe"]
ValidSplit = Literal["spread", "tail"]

UNIT_TERMINATORS: Mapping[Unit, str] = {"line": "\n", "paragraph": "\n\n", "document": ""}
"""The text that each unit's ``<EOS>`` stands for. A document ends where its file ends."""

_option = partial(option, panel="Tokens")


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """How text becomes tokens."""

    level: Level = _option("char", "The kind of tokens.")
    vocab_size: int | None = _option(
        None,
        "Maximum size of the vocabulary, <UNK> and <EOS> included.",
        shown="all (subword: 4000)",
        bounds=Bounds(3, 2**24),
    )
    min_count: int | None = _option(
        None,
        "Exclude characters, words or subwords that occur less often.",
        shown="1 (word: 2)",
        bounds=Bounds(1),
    )
    unit: Unit = _option(
        "line", "The unit of text that ends with <EOS>: a line, a paragraph or a file."
    )
    split: Split = _option(
        "punctuation", "Where to split words; 'punctuation' preserves spacing exactly."
    )
    subword_model: SubwordModel = _option(
        "unigram", "The sentencepiece algorithm for --level subword."
    )
    unk_literal: str | None = _option(
        None, "The text that stands for unknown words in the corpus, such as '<unk>'."
    )

    @property
    def least_count(self) -> int:
        return self.min_count or (2 if self.level == "word" else 1)

    @property
    def largest_vocabulary(self) -> int | None:
        return self.vocab_size or (4000 if self.level == "subword" else None)
