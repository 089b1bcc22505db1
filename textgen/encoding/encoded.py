"""The ids of a corpus in a file, mapped into memory: written, checked and read."""

import dataclasses
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from textgen import storage
from textgen.corpus import Corpus, Piece
from textgen.encoding.header import FORMAT, CorpusHeader, PartCounts, read_header
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.tokenizers import EOS, UNK, Tokenizer, load_tokenizer, save_tokenizer

TOKENS, HEADER = "tokens.bin", "corpus.json"
_BLOCK_IDS = 2**20

StoredIds = npt.NDArray[np.unsignedinteger[Any]]


class EncodedCorpus:
    """The ids of a corpus's two parts, mapped from a file (little-endian uint16 or uint32)."""

    def __init__(self, file: IO[bytes], header: CorpusHeader) -> None:
        self.header = header
        self._file = file
        tokens = header.train.tokens + header.valid.tokens
        self._all: StoredIds = (
            np.memmap(file, dtype=header.dtype, mode="r", shape=(tokens,))
            if tokens
            else np.empty(0, dtype=header.dtype)
        )
        weakref.finalize(self, file.close)

    @property
    def train(self) -> StoredIds:
        return self._all[: self.header.train.tokens]

    @property
    def valid(self) -> StoredIds:
        return self._all[self.header.train.tokens :]

    def blocks(self, part: PartCounts) -> Iterator[StoredIds]:
        """The ids of ``header.train`` or ``header.valid``, a million at a time.

        They are read, not mapped: what a pass over a mapping touches stays in memory.
        """
        dtype = np.dtype(self.header.dtype)
        start = self.header.train.tokens if part is self.header.valid else 0
        for place in range(start, start + part.tokens, _BLOCK_IDS):
            self._file.seek(place * dtype.itemsize)
            count = min(_BLOCK_IDS, start + part.tokens - place)
            yield np.frombuffer(self._file.read(count * dtype.itemsize), dtype=dtype)


def encode_corpus(
    corpus: Corpus, tokenizer: Tokenizer, folder: Path | None = None
) -> EncodedCorpus:
    """Encode a corpus into a file and map it.

    folder: where to write the tokenizer and the ids, whole or not at all, replacing what was
    there; None: a temporary file that goes with the result. Raises ResourceError where it
    cannot be written, DataError where the corpus changed,
    UsageError where corpus and tokenizer are of different units.
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
        storage.write_json(begun / HEADER, {"format": FORMAT, **dataclasses.asdict(header)})
    return _mapped(folder / TOKENS, header)


def _in_temporary_file(corpus: Corpus, tokenizer: Tokenizer) -> EncodedCorpus:
    try:
        # Inside: where a write failed, closing the file writes again, and fails again.
        with ExitStack() as undo:
            file = undo.enter_context(tempfile.TemporaryFile())
            header = _write_ids(corpus, tokenizer, file)
            file.flush()
            undo.pop_all()
    except OSError as error:
        raise storage.unwritable(Path(tempfile.gettempdir()), error) from error
    return EncodedCorpus(file, header)


def _mapped(path: Path, header: CorpusHeader) -> EncodedCorpus:
    try:
        return EncodedCorpus(path.open("rb"), header)
    except OSError as error:
        raise ResourceError("cannot read", where=path, why=error.strerror) from error


def _write_ids(corpus: Corpus, tokenizer: Tokenizer, file: IO[bytes]) -> CorpusHeader:
    dtype = "<u2" if tokenizer.vocabulary_size <= 2**16 else "<u4"
    train = _write_part(tokenizer, corpus.train(), file, dtype, corpus.train_characters)
    valid = _write_part(tokenizer, corpus.valid(), file, dtype, corpus.valid_characters)
    return CorpusHeader(
        unit=corpus.unit,
        dtype=dtype,
        boundary=corpus.train_characters,
        train=train,
        valid=valid,
        fingerprint=corpus.fingerprint,
        tokenizer_fingerprint=tokenizer.fingerprint,
        sources=corpus.sources,
        notes=(*corpus.notes, *tokenizer.notes),
    )


def _write_part(
    tokenizer: Tokenizer,
    pieces: Iterable[Piece],
    file: IO[bytes],
    dtype: str,
    characters: int,
) -> PartCounts:
    tokens = sentences = unknown = 0
    for ids in tokenizer.encode_pieces(pieces):
        file.write(ids.astype(dtype).data)
        tokens += len(ids)
        sentences += int(np.count_nonzero(ids == EOS))
        unknown += int(np.count_nonzero(ids == UNK))
    return PartCounts(tokens, characters, sentences, unknown)


def load_encoded(folder: Path) -> tuple[EncodedCorpus, Tokenizer]:
    """The ids and the tokenizer that ``encode_corpus`` wrote, every byte of them checked.

    Raises CheckpointError where something is damaged, ResourceError where it is not there.
    """
    files = storage.verified(storage.whole(folder) or folder)
    tokenizer = load_tokenizer(files)
    for name in (HEADER, TOKENS):
        if name not in files:
            raise CheckpointError(
                "not an encoded corpus", where=folder, why=f"there is no {name} in it"
            )
    header = read_header(files[HEADER])
    if header.tokenizer_fingerprint != tokenizer.fingerprint:
        raise CheckpointError("damaged", where=folder, why="the ids are another tokenizer's")
    tokens = header.train.tokens + header.valid.tokens
    if files[TOKENS].stat().st_size != tokens * np.dtype(header.dtype).itemsize:
        raise CheckpointError("damaged", where=files[TOKENS], why=f"it is not {tokens} tokens")
    encoded = _mapped(files[TOKENS], header)
    for part in (header.train, header.valid):
        if any(block.max() >= tokenizer.vocabulary_size for block in encoded.blocks(part)):
            raise CheckpointError(
                "damaged", where=files[TOKENS], why="an id is outside the vocabulary"
            )
    return encoded, tokenizer


def is_encoded(path: Path) -> bool:
    """Whether a path leads to what ``encode_corpus`` wrote, rather than to text."""
    folder = storage.whole(path)
    return folder is not None and (folder / HEADER).is_file() and (folder / TOKENS).is_file()
