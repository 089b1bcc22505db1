"""The family of tokenizers: one file a level, and one line here."""

from textgen.tokenizers.base import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    Continuation,
    Decoder,
    Ids,
    Tokenizer,
)
from textgen.tokenizers.registry import TOKENIZERS, learn_tokenizer
from textgen.tokenizers.spelling import Spelling
from textgen.tokenizers.stored import load_tokenizer, load_tokenizer_from, save_tokenizer
from textgen.tokenizers.symbols import SymbolTokenizer

__all__ = [
    "EOS",
    "SPECIAL_TOKENS",
    "TOKENIZERS",
    "UNK",
    "Continuation",
    "Decoder",
    "Ids",
    "Spelling",
    "SymbolTokenizer",
    "Tokenizer",
    "learn_tokenizer",
    "load_tokenizer",
    "load_tokenizer_from",
    "save_tokenizer",
]
