"""The tokenizer of each level, and its files. A new level is a new module and one line here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from textgen import storage
from textgen.config import Level, TokenizerConfig
from textgen.errors import CheckpointError, ResourceError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.subword import SubwordTokenizer
from textgen.tokenizers.word import WordTokenizer

TOKENIZERS: Mapping[Level, type[Tokenizer]] = {
    tokenizer.level: tokenizer
    for tokenizer in (CharacterTokenizer, WordTokenizer, SubwordTokenizer)
}
FILE = "tokenizer.json"
_FORMAT = 2


@dataclass(frozen=True)
class _Header:
    config: TokenizerConfig
    fingerprint: str


def learn_tokenizer(config: TokenizerConfig, pieces: Iterable[tuple[str, bool]]) -> Tokenizer:
    """Learn a tokenizer from the pieces of a corpus."""
    return TOKENIZERS[config.level].learn(config, (text for text, _ in pieces))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's files into an existing folder."""
    tokenizer.save(folder)
    header = {
        "format": _FORMAT,
        "config": tokenizer.config.to_json(),
        "fingerprint": tokenizer.fingerprint,
    }
    storage.write_json(folder / FILE, header)


def load_tokenizer(files: Mapping[str, Path]) -> Tokenizer:
    """Load the tokenizer among the verified files of a folder.

    Raises:
        CheckpointError: Its files are missing, damaged or not of one tokenizer.
    """
    where = storage.require(files, FILE)
    header = storage.read(_Header, where, _FORMAT)
    with storage.reading(where):
        tokenizer = TOKENIZERS[header.config.level].load(header.config, dict(files))
    if tokenizer.fingerprint != header.fingerprint:
        why = "its fingerprint differs from its vocabulary's"
        raise CheckpointError("damaged", where=where, why=why, fix="copy the whole folder again")
    return tokenizer


def load_tokenizer_from(path: Path | str) -> Tokenizer:
    """Load the tokenizer of a folder of a tokenizer, an encoded corpus or a checkpoint.

    Of a run's folder it is that of ``best``, else of ``last``; a path to either works too.
    """
    folder = Path(path)
    for candidate in (folder / "best", folder / "last", folder):
        found = storage.find_complete(candidate)
        if found is not None:
            return load_tokenizer(storage.verified(found))
    if folder.exists():
        raise CheckpointError(
            "not a textgen folder", where=folder, fix="give the folder that textgen wrote"
        )
    raise ResourceError("no such folder", where=folder, fix="check the path")
