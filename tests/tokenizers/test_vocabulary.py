"""A vocabulary that grows: old ids stay, new ones come after."""

from pathlib import Path
from typing import Any

import pytest

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import TOKENIZERS, load_tokenizer_from, save_tokenizer
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.tokenizers.word import WordTokenizer

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


def test_unknown_texts_come_by_count_and_first_place_however_rare() -> None:
    tokenizer = learned("word", min_count=2, vocab_size=50)
    assert tokenizer.unknown_texts([NEW]) == ["dogs", "nëw", "twø"]
    assert tokenizer.unknown_texts(["zoo ape", " zoo bee\n"]) == ["zoo", "ape", "bee"]
    characters = learned("char")
    assert characters.unknown_texts(["ZAZ", "QA\n"]) == ["Z", "A", "Q"]


def test_what_is_unknown_is_named_by_its_text_and_once() -> None:
    tokenizer = learned("word")
    assert tokenizer.unknown_in("☃ the☃ ☃cat the☃cat ￭") == ("☃", "￭")


def test_the_text_of_a_token_has_none_of_its_marks() -> None:
    config = TokenizerConfig(level="word", min_count=1)
    tokenizer = WordTokenizer.learn(config, ["a, (b)  ￭c\n"])
    texts = {tokenizer.token(id): tokenizer.text_of(id) for id in range(tokenizer.vocabulary_size)}
    assert texts == {
        **{"<UNK>": "<UNK>", "<EOS>": "<EOS>", "a": "a", "b": "b", "c": "c"},
        **{"￭,": ",", "(￭": "(", "￭)": ")", "％0020": " ", "％FFED￭": "￭"},
    }


def test_a_grown_word_vocabulary_still_continues_a_prompt() -> None:
    old: Tokenizer = learned("word")
    assert isinstance(old, SymbolTokenizer)
    new = old.extended(old.config, ['he said "nëw" (dogs)\n'])
    for prompt in ("the nëw ", 'he said "', "twø"):
        assert new.continuation(prompt).ids.tolist()


@pytest.mark.parametrize(
    ("name", "forged"),
    [
        ("vocabulary.json", {"symbols": ["a", "b" * 1025]}),
        ("vocabulary.json", {"symbols": ["a", 7]}),
        ("vocabulary.json", {"symbols": "ab"}),
        ("spelling.json", {"rare": ["c" * 65]}),
        ("spelling.json", {"rare": [str(number) for number in range(2**17 + 1)]}),
        ("tokenizer.json", {"config": {"level": "word", "unk_literal": "u" * 1025}}),
    ],
)
def test_what_textgen_never_writes_is_refused(
    tmp_path: Path, name: str, forged: dict[str, Any]
) -> None:
    with storage.new_folder(tmp_path / "made") as folder:
        save_tokenizer(learned("word"), folder)
        value = storage.read_json(folder / name) | forged
        storage.write_json(folder / name, value)
    with pytest.raises(CheckpointError, match=f"damaged .*{name}"):
        load_tokenizer_from(tmp_path / "made")
