"""The files of a tokenizer: where they are found, and what in them is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError, ResourceError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import (
    TOKENIZERS,
    learn_tokenizer,
    load_tokenizer,
    load_tokenizer_from,
    save_tokenizer,
)
from textgen.tokenizers.word import RARE_WORDS_FILE

TEXT = "the cat sat, the dog\nran. é\n" * 20


def learned(level: str) -> Tokenizer:
    return learn_tokenizer(TokenizerConfig.from_options({"level": level}), [(TEXT, False)])


def saved(tokenizer: Tokenizer, folder: Path) -> dict[str, Path]:
    save_tokenizer(tokenizer, folder)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("level", TOKENIZERS)
def test_a_tokenizer_comes_back_and_not_without_any_of_its_files(
    level: str, tmp_path: Path
) -> None:
    tokenizer = learned(level)
    files = saved(tokenizer, tmp_path)
    loaded = load_tokenizer(files)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.config == tokenizer.config
    for name in files:
        without = {other: path for other, path in files.items() if other != name}
        with pytest.raises(CheckpointError, match=rf"incomplete.*no {name}"):
            load_tokenizer(without)


def test_a_tokenizer_is_found_in_every_folder_that_has_one(tmp_path: Path) -> None:
    run, prints = tmp_path / "run", {}
    for name, level in (("last", "char"), ("best", "word")):
        with storage.new_folder(run / name) as folder:
            save_tokenizer(learned(level), folder)
        prints[name] = learned(level).fingerprint
        for path in (run, str(run), run / name):
            assert load_tokenizer_from(path).fingerprint == prints[name]
    (run / "best").rename(run / "best.old")
    assert load_tokenizer_from(run).fingerprint == prints["best"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, error in (("absent", ResourceError), ("empty", CheckpointError)):
        with pytest.raises(error):
            load_tokenizer_from(tmp_path / name)
    with pytest.raises(CheckpointError):
        load_tokenizer_from(tmp_path / "file")


def changed_config(**options: Any) -> Callable[[Any], Any]:
    return lambda value: {**value, "config": {**value["config"], **options}}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lambda value: []),
        ("tokenizer.json", lambda value: {**value, "format": "1"}),
        ("tokenizer.json", lambda value: {**value, "format": 99}),
        ("tokenizer.json", lambda value: {**value, "fingerprint": "0" * 64}),
        ("tokenizer.json", lambda value: {**value, "config": None}),
        ("tokenizer.json", changed_config(level=["word"])),
        ("tokenizer.json", changed_config(level="telepathic")),
        ("tokenizer.json", changed_config(level="char")),
        ("tokenizer.json", changed_config(level="subword")),
        ("tokenizer.json", changed_config(vocab_size="many")),
        ("tokenizer.json", changed_config(unk_literal=5)),
        ("tokenizer.json", changed_config(unk_literal="a b")),
        ("vocabulary.json", lambda value: {**value, "symbols": value["symbols"][:-1]}),
        *(
            (name, change)
            for name, key in (("vocabulary.json", "symbols"), (RARE_WORDS_FILE, "rare"))
            for change in (
                lambda value: [],
                lambda value: {"format": 1},
                lambda value: {**value, "format": True},
                lambda value: {**value, "format": 2},
                *(
                    lambda value, key=key, symbols=symbols: {**value, key: symbols}
                    for symbols in ("abc", ["a", "a"], [""], [1], ["\ud800"], ["the"])
                ),
            )
        ),
    ],
)
def test_damaged_contents_are_refused(
    tmp_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    files = saved(learned("word"), tmp_path)
    files[name].write_text(json.dumps(change(json.loads(files[name].read_text("utf-8")))), "utf-8")
    with pytest.raises(CheckpointError):
        load_tokenizer(files)


def test_a_symbol_of_several_characters_is_refused(tmp_path: Path) -> None:
    files = saved(learned("char"), tmp_path)
    storage.write_json(files["vocabulary.json"], {"format": 1, "symbols": ["ab"]})
    with pytest.raises(CheckpointError, match="not one character"):
        load_tokenizer(files)


@pytest.mark.parametrize("options", [{"level": "word", "unk_literal": "<unk>"}, {"level": "char"}])
def test_only_words_have_a_file_of_rare_words(tmp_path: Path, options: dict[str, Any]) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig.from_options(options), [(TEXT, False)])
    assert RARE_WORDS_FILE not in saved(tokenizer, tmp_path)
