"""Which class is which level. A new level is one new file and one line here."""

from collections.abc import Iterable, Mapping

from textgen.config import TokenizerConfig
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.subword import SubwordTokenizer
from textgen.tokenizers.word import WordTokenizer

TOKENIZERS: Mapping[str, type[Tokenizer]] = {
    tokenizer.level: tokenizer
    for tokenizer in (CharacterTokenizer, WordTokenizer, SubwordTokenizer)
}


def learn_tokenizer(config: TokenizerConfig, pieces: Iterable[tuple[str, bool]]) -> Tokenizer:
    """Learn the tokenizer that ``config`` asks for from a corpus's pieces."""
    return TOKENIZERS[config.level].learn(config, (text for text, _ in pieces))
