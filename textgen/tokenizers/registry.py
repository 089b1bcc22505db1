"""Which class is which level. A new level is one new file and one line here.

A tokenizer as files: ``tokenizer.json`` (config and fingerprint) and its vocabulary.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textgen import storage
from textgen.config import TokenizerConfig
from textgen.errors import CheckpointError, ResourceError, UsageError
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


FILE = "tokenizer.json"
_FORMAT = 1


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's files into a folder that the caller has made."""
    tokenizer.save(folder)
    header = {
        "format": _FORMAT,
        "config": tokenizer.config.to_json(),
        "fingerprint": tokenizer.fingerprint,
    }
    storage.write_json(folder / FILE, header)


def load_tokenizer(files: dict[str, Path]) -> Tokenizer:
    """The tokenizer among a folder's verified files.

    Raises CheckpointError where its files are missing, damaged or not of one tokenizer.
    """
    if FILE not in files:
        raise CheckpointError("incomplete", why=f"there is no {FILE}", where=_folder(files))
    where = files[FILE]
    header = storage.read_json(where)
    if not isinstance(header, dict):
        raise CheckpointError("damaged", where=where, why="not a tokenizer")
    storage.check_format(header.get("format"), _FORMAT, where)
    config = _config(header.get("config"), where)
    try:
        tokenizer = TOKENIZERS[config.level].load(config, files)
    except UsageError as error:
        raise CheckpointError("damaged", where=where, why=str(error)) from error
    if tokenizer.fingerprint != header.get("fingerprint"):
        why = "its fingerprint differs from its vocabulary's"
        raise CheckpointError("damaged", where=where, why=why, fix="copy the whole folder again")
    return tokenizer


def load_tokenizer_from(path: Path | str) -> Tokenizer:
    """The tokenizer of a tokenizer's or corpus's folder, or of a checkpoint's.

    Of a checkpoint it is that of ``best``, else of ``last``; a path to either works too.
    """
    folder = Path(path)
    for candidate in (folder / "best", folder / "last", folder):
        found = storage.whole(candidate)
        if found is not None:
            return load_tokenizer(storage.verified(found))
    if folder.exists():
        raise CheckpointError(
            "not a textgen folder", where=folder, fix="give the folder that textgen wrote"
        )
    raise ResourceError("no such folder", where=folder)


def _config(value: Any, where: Path) -> TokenizerConfig:
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=where, why="no config")
    literal = value.get("unk_literal")
    if literal is not None and not isinstance(literal, str):
        raise CheckpointError("damaged", where=where, why=f"unk_literal {literal!r}")
    try:
        return TokenizerConfig.from_options(value)
    except UsageError as error:
        raise CheckpointError("damaged", where=where, why=str(error)) from error


def _folder(files: Mapping[str, Path]) -> Path | None:
    return next((path.parent for path in files.values()), None)
