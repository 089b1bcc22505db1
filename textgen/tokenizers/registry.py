"""The tokenizer of each level, and its files. A new level is a new module and one line here."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from textgen import storage
from textgen.config import Level, TokenizerConfig
from textgen.errors import CheckpointError, ResourceError, UsageError
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
    header = storage.read_object(where, "a tokenizer", _FORMAT)
    options = header.get("config")
    if not isinstance(options, dict):
        raise CheckpointError("damaged", where=where, why="no config")
    try:
        config = TokenizerConfig.from_options(options)
        tokenizer = TOKENIZERS[config.level].load(config, dict(files))
    except UsageError as error:
        raise CheckpointError("damaged", where=where, why=str(error)) from error
    if tokenizer.fingerprint != header.get("fingerprint"):
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
    raise ResourceError("no such folder", where=folder)
