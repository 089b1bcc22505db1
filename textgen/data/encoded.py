"""Token ids in memory-mapped files: written by ``textgen tokenize``, checked, and read back."""

import contextlib
import dataclasses
import re
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from textgen import storage
from textgen.config import VALID_FRACTION, Count, TokenizerConfig, Unit, ValidSplit
from textgen.data.corpus import Corpus
from textgen.data.text import Piece
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.results import HeldOut, TokenizerSummary, held_out_text
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer, save_tokenizer

TOKENS, HEADER = "tokens.bin", "corpus.json"
IdType = Literal["<u2", "<u4"]
_FORMAT = 2
_BLOCK_IDS = 2**20
_MOST_FREQUENT = 20
_MUCH_UNKNOWN = 0.1  # of the held-out tokens
# Scripts that are written without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
_FEWEST_SPACES = 0.2  # for each letter of such a script, where words are separated all the same
_ELSEWHERE = "choose another --out"

StoredIds = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class PartCounts:
    """The counts of one part of a corpus. sentences: number of ``<EOS>``; unknown: of ``<UNK>``."""

    tokens: Count
    characters: Count
    sentences: Count
    unknown: Count


@dataclass(frozen=True)
class CorpusHeader:
    """The header of a file of ids: those of ``train`` first, then those of ``valid``.

    Attributes:
        dtype: of each id, ``<u2`` or ``<u4``.
        fingerprint: ``Corpus.fingerprint``, of both parts.
        held_out: where ``valid`` is in the sources; empty if that was not recorded.
        tokenizer_fingerprint: of the tokenizer that made the ids.
    """

    unit: Unit
    dtype: IdType
    train: PartCounts
    valid: PartCounts
    fingerprint: str
    tokenizer_fingerprint: str
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    held_out: tuple[HeldOut, ...] = ()

    @property
    def held_out_text(self) -> str:
        """File and place of the validation part, and its share of the characters."""
        return held_out_text(self.held_out, self.train.characters + self.valid.characters)

    def remarks(self, tokenizer: TokenizerConfig, *, learned: bool = True) -> tuple[str, ...]:
        """Notes for the user: those of reading, and whether much is unknown.

        Args:
            learned: The tokenizer was learned from this text, so that options can change it.
        """
        remarks = list(self.notes)
        unknown = self.valid.unknown / self.valid.tokens if self.valid.tokens else 0.0
        if unknown > _MUCH_UNKNOWN:
            advice = ""
            if learned and tokenizer.level == "word":
                advice = "; --level char or --level subword has no unknown words"
            elif learned:
                advice = "; hold out text that is more like the rest, with --valid-split or --valid"
            remarks.append(f"{unknown:.1%} of the held-out tokens are unknown{advice}")
        return tuple(remarks)


class EncodedCorpus:
    """The ids of a corpus's two parts, mapped from a file (little-endian uint16 or uint32)."""

    def __init__(self, file: IO[bytes], header: CorpusHeader) -> None:
        self.header = header
        self._file = file
        tokens = header.train.tokens + header.valid.tokens
        self._ids: StoredIds = (
            np.memmap(file, dtype=header.dtype, mode="r", shape=(tokens,))
            if tokens
            else np.empty(0, dtype=header.dtype)
        )
        weakref.finalize(self, file.close)

    @property
    def train(self) -> StoredIds:
        return self._ids[: self.header.train.tokens]

    @property
    def valid(self) -> StoredIds:
        return self._ids[self.header.train.tokens :]

    def blocks(self, start: int, stop: int) -> Iterator[StoredIds]:
        """The ids from ``start`` to ``stop`` of the file, a million at a time.

        They are read from the file: pages of a mapping stay in memory.
        """
        dtype = np.dtype(self.header.dtype)
        for place in range(start, stop, _BLOCK_IDS):
            self._file.seek(place * dtype.itemsize)
            count = min(_BLOCK_IDS, stop - place)
            yield np.frombuffer(self._file.read(count * dtype.itemsize), dtype=dtype)


def encode_corpus(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path | None = None
) -> EncodedCorpus:
    """Encode a corpus into a file and map it.

    Args:
        folder: is replaced by one with the ids and the tokenizer; None: the ids are in a temporary
            file, which is removed with the result.

    Raises:
        ResourceError: The file or folder cannot be written.
        DataError: The corpus has changed.
        UsageError: Corpus and tokenizer have different units.
    """
    if tokenizer.config.unit != corpus.unit:
        raise UsageError(
            f"the tokenizer was learned with --unit {tokenizer.config.unit},"
            f" the corpus is read with --unit {corpus.unit}",
            fix=f"give --unit {tokenizer.config.unit}",
        )
    if folder is None:
        return _in_temporary_file(corpus, tokenizer)
    with storage.new_folder(folder) as begun:
        save_tokenizer(tokenizer, begun)
        with (begun / TOKENS).open("wb") as file:
            header = _write_ids(corpus, tokenizer, file)
        storage.write_json(begun / HEADER, {"format": _FORMAT, **dataclasses.asdict(header)})
    return _mapped(folder / TOKENS, header)


def _in_temporary_file(corpus: Corpus, tokenizer: Tokenizer) -> EncodedCorpus:
    try:
        # Inside: after a failed write, closing the file writes again, and fails again.
        with ExitStack() as undo:
            file = undo.enter_context(tempfile.TemporaryFile())
            header = _write_ids(corpus, tokenizer, file)
            file.flush()
            undo.pop_all()
    except OSError as error:
        raise storage.write_error(Path(tempfile.gettempdir()), error) from error
    return EncodedCorpus(file, header)


def _mapped(path: Path, header: CorpusHeader) -> EncodedCorpus:
    try:
        return EncodedCorpus(path.open("rb"), header)
    except OSError as error:
        raise ResourceError("cannot read", where=path, why=error.strerror) from error


def _write_ids(corpus: Corpus, tokenizer: Tokenizer, file: IO[bytes]) -> CorpusHeader:
    dtype: IdType = "<u2" if tokenizer.vocabulary_size <= 2**16 else "<u4"

    def write(pieces: Iterable[Piece], characters: int) -> PartCounts:
        tokens = sentences = unknown = 0
        for ids in tokenizer.encode_pieces(pieces):
            file.write(ids.astype(dtype).data)
            tokens += len(ids)
            sentences += int(np.count_nonzero(ids == EOS))
            unknown += int(np.count_nonzero(ids == UNK))
        return PartCounts(tokens, characters, sentences, unknown)

    return CorpusHeader(
        unit=corpus.unit,
        dtype=dtype,
        train=write(corpus.train(), corpus.train_characters),
        valid=write(corpus.valid(), corpus.valid_characters),
        fingerprint=corpus.fingerprint,
        tokenizer_fingerprint=tokenizer.fingerprint,
        sources=corpus.sources,
        notes=(*corpus.notes, *tokenizer.notes, *_space_notes(corpus, tokenizer.config)),
        held_out=corpus.held_out,
    )


def _space_notes(corpus: Corpus, config: TokenizerConfig) -> list[str]:
    """Whether words are to be found where there are no spaces between them."""
    if config.level != "word":
        return []
    text, _ = next(corpus.train(), Piece("", False))
    letters, spaces = len(_SPACELESS.findall(text)), text.count(" ")
    if letters < sum(map(str.isalpha, text)) / 2 or spaces >= _FEWEST_SPACES * letters:
        return []
    return [
        "there are no spaces between words here: whole clauses become words;"
        " use --level char or --level subword"
    ]


def load_encoded(folder: Path) -> tuple[EncodedCorpus, Tokenizer]:
    """Read what ``encode_corpus`` wrote, after checking every byte.

    Raises:
        CheckpointError: Something is damaged.
        ResourceError: There is no such folder, or it cannot be read.
    """
    files = storage.verified(storage.find_complete(folder) or folder)
    tokenizer = load_tokenizer(files)
    for name in (HEADER, TOKENS):
        if name not in files:
            raise CheckpointError(
                "not an encoded corpus", where=folder, why=f"there is no {name} in it"
            )
    path = files[TOKENS]
    header = storage.read(CorpusHeader, files[HEADER], _FORMAT)
    if header.tokenizer_fingerprint != tokenizer.fingerprint:
        raise CheckpointError("damaged", where=folder, why="the ids are another tokenizer's")
    tokens = header.train.tokens + header.valid.tokens
    if path.stat().st_size != tokens * np.dtype(header.dtype).itemsize:
        raise CheckpointError("damaged", where=path, why=f"it is not {tokens} tokens")
    encoded = _mapped(path, header)
    if any(block.max() >= tokenizer.vocabulary_size for block in encoded.blocks(0, tokens)):
        raise CheckpointError("damaged", where=path, why="an id is outside the vocabulary")
    return encoded, tokenizer


def is_encoded(path: Path) -> bool:
    """Whether a path leads to a folder of ``encode_corpus``, rather than to text."""
    folder = storage.find_complete(path)
    return folder is not None and (folder / HEADER).is_file() and (folder / TOKENS).is_file()


def summarize(
    encoded: EncodedCorpus, tokenizer: Tokenizer, *, out: str | Path | None = None
) -> TokenizerSummary:
    """What the tokenizer learned, and how well it covers the corpus."""
    header, train, valid = encoded.header, encoded.header.train, encoded.header.valid
    tokens, characters = train.tokens + valid.tokens, train.characters + valid.characters
    unseen = valid if valid.tokens else train
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for block in encoded.blocks(0, train.tokens):
        counts += np.bincount(block, minlength=len(counts))
    order = [id for id in np.argsort(-counts, kind="stable").tolist() if counts[id]]
    texts = Counter[str]()
    for id in order:
        texts[tokenizer.text_of(id)] += int(counts[id])
    return TokenizerSummary(
        level=tokenizer.level,
        unit=header.unit,
        vocabulary_size=tokenizer.vocabulary_size,
        tokens=tokens,
        train_tokens=train.tokens,
        valid_tokens=valid.tokens,
        sentences=train.sentences + valid.sentences,
        characters=characters,
        train_characters=train.characters,
        unknown_rate=unseen.unknown / unseen.tokens if unseen.tokens else 0.0,
        characters_per_token=characters / tokens if tokens else 0.0,
        most_frequent=tuple(
            (tokenizer.token(id), int(counts[id])) for id in order[:_MOST_FREQUENT]
        ),
        most_frequent_texts=tuple(texts.most_common(_MOST_FREQUENT)),
        fingerprint=tokenizer.fingerprint,
        out=None if out is None else str(out),
        notes=header.remarks(tokenizer.config),
        held_out=header.held_out,
    )


def tokenize(
    paths: Sequence[str | Path],
    config: TokenizerConfig,
    *,
    out: str | Path | None = None,
    valid: str | Path | None = None,
    valid_fraction: float = VALID_FRACTION,
    valid_split: ValidSplit = "spread",
    encoding: str = "utf-8",
    errors: str = "strict",
    skip_binary: bool = False,
    overwrite: bool = False,
) -> TokenizerSummary:
    """Learn a tokenizer from the training part of a corpus, and encode all of it.

    Args:
        out: the folder to write both into; None: nothing is stored.
        overwrite: replace an encoded corpus in ``out``.

    Raises:
        UsageError: ``out`` has something that may not be replaced.
    """
    with ExitStack() as stack:
        target = None if out is None else stack.enter_context(_reserved(out, overwrite))
        corpus = Corpus.open(
            paths,
            unit=config.unit,
            valid=valid,
            valid_fraction=valid_fraction,
            valid_split=valid_split,
            encoding=encoding,
            errors=errors,
            skip_binary=skip_binary,
        )
        tokenizer = learn_tokenizer(config, corpus.train())
        return summarize(encode_corpus(corpus, tokenizer, target), tokenizer, out=out)


@contextlib.contextmanager
def _reserved(out: str | Path, overwrite: bool) -> Iterator[Path]:
    """The folder to write: locked, and free or to be replaced."""
    target = Path(out).absolute()
    _check_free(target, overwrite)
    lock = target.with_name(target.name + ".lock")  # beside, because the folder is replaced
    try:
        with storage.locked(lock):
            storage.clear_leftovers(target)
            yield target
    finally:
        with contextlib.suppress(OSError):
            lock.rmdir()


def _check_free(target: Path, overwrite: bool) -> None:
    """Refuse to replace anything but an encoded corpus, and that without ``--overwrite``."""
    if target.exists() and not target.is_dir():
        raise UsageError("not a folder", where=target, fix=_ELSEWHERE)
    written = storage.find_complete(target)
    if written is None:
        return
    if all(path.name == storage.LOCK or path.name.endswith(".new") for path in written.iterdir()):
        return  # only what a killed process has left
    if not is_encoded(target):
        raise UsageError(
            "not empty", where=target, why="textgen tokenize did not write it", fix=_ELSEWHERE
        )
    if not overwrite:
        raise UsageError("not empty", where=target, fix=f"add --overwrite or {_ELSEWHERE}")
