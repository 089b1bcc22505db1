"""The list of symbols that character and word tokenizers learn, and its file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError
from textgen.tokenizers.base import SPECIAL_TOKENS, is_text

FILE = "vocabulary.json"
_FORMAT = 1
_KEY = "symbols"


def ranked(counts: Mapping[str, int], config: TokenizerConfig) -> list[str]:
    """The symbols to learn: by descending count, ties by code point; the rare ones left out.

    >>> ranked({"b": 2, "a": 2, "c": 9, "d": 1}, TokenizerConfig(min_count=2))
    ['c', 'a', 'b']
    """
    kept = [symbol for symbol, count in counts.items() if count >= config.least_count]
    kept.sort(key=lambda symbol: (-counts[symbol], symbol))
    largest = config.largest_vocabulary
    return kept if largest is None else kept[: largest - len(SPECIAL_TOKENS)]


def save(folder: Path, symbols: Sequence[str]) -> None:
    save_list(folder / FILE, _KEY, symbols)


def load(files: Mapping[str, Path]) -> tuple[list[str], Path]:
    """The symbols and the file they are in. Raises CheckpointError."""
    if FILE not in files:
        raise CheckpointError("incomplete", why=f"there is no {FILE}")
    return load_list(files[FILE], _KEY), files[FILE]


def save_list(path: Path, key: str, symbols: Sequence[str]) -> None:
    storage.write_json(path, {"format": _FORMAT, key: list(symbols)})


def load_list(path: Path, key: str) -> list[str]:
    """The symbols that a file has under a key, each once. Raises CheckpointError."""
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why="not a vocabulary")
    storage.check_format(value.get("format"), _FORMAT, path)
    symbols = value.get(key)
    if not isinstance(symbols, list) or not all(map(is_text, symbols)):
        raise CheckpointError("damaged", where=path, why="its symbols are not text")
    if len(set(symbols)) != len(symbols):
        raise CheckpointError("damaged", where=path, why="a symbol occurs twice")
    return symbols


def fingerprint(config: TokenizerConfig, symbols: Sequence[str]) -> str:
    """SHA-256 over what decides how text is encoded."""
    split = config.split if config.level == "word" else None
    decisive = [config.level, config.unit, split, config.unk_literal, list(symbols)]
    return hashlib.sha256(storage.json_text(decisive).encode()).hexdigest()
