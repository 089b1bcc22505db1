"""A vocabulary that grows: old ids stay, new ones come after."""

import pytest

from textgen.config import TokenizerConfig
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import TOKENIZERS
from textgen.tokenizers.vocabulary import SymbolTokenizer

OLD, NEW = "the old cat saw the old dog\n" * 3, "the old cat saw twø nëw nëw dogs dogs dogs\n"


def learned(level: str, text: str = OLD, **options: object) -> SymbolTokenizer:
    config = TokenizerConfig.from_options({"level": level, "min_count": 1, **options})
    tokenizer = TOKENIZERS[level].learn(config, [text])
    assert isinstance(tokenizer, SymbolTokenizer)
    return tokenizer


@pytest.mark.parametrize("level", ["char", "word"])
def test_old_symbols_keep_their_ids_and_new_ones_come_by_count(level: str) -> None:
    old = learned(level)
    new = old.extended(old.config, [NEW])
    assert new.encode(OLD).tolist() == old.encode(OLD).tolist()
    added = new.symbols[len(old.symbols) :]
    assert added == (("dogs", "nëw", "twø") if level == "word" else ("n", "ë", "ø"))
    assert 0 in old.encode(NEW)
    assert 0 not in new.encode(NEW)
    assert new.decode(new.encode(OLD + NEW)) == OLD + NEW
    assert new.fingerprint != old.fingerprint
    assert old.extended(old.config, [OLD]).fingerprint == old.fingerprint, "by nothing"


def test_an_extension_keeps_to_the_least_count_and_the_new_total() -> None:
    old = learned("word")
    twice = TokenizerConfig(level="word", min_count=2)
    assert old.extended(twice, [NEW]).symbols == (*old.symbols, "dogs", "nëw")
    one_more = TokenizerConfig(level="word", min_count=1, vocab_size=old.vocabulary_size + 1)
    assert old.extended(one_more, [NEW]).symbols == (*old.symbols, "dogs")
    full = TokenizerConfig(level="word", min_count=1, vocab_size=old.vocabulary_size)
    assert old.extended(full, [NEW]).symbols == old.symbols


def test_unknown_symbols_come_by_count_however_rare() -> None:
    tokenizer = learned("word", min_count=2, vocab_size=50)
    assert tokenizer.unknown_symbols([NEW]) == ["dogs", "nëw", "twø"]


def test_a_grown_word_vocabulary_still_continues_a_prompt() -> None:
    old: Tokenizer = learned("word")
    assert isinstance(old, SymbolTokenizer)
    new = old.extended(old.config, ['he said "nëw" (dogs)\n'])
    for prompt in ("the nëw ", 'he said "', "twø"):
        assert new.continuation(prompt).ids.tolist()
