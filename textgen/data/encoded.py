"""Token ids in memory-mapped files: written by ``textgen tokenize``, checked, and read back."""

import contextlib
import dataclasses
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from textgen import storage
from textgen.config import UNIT_TERMINATORS, VALID_FRACTION, TokenizerConfig, Unit
from textgen.data.corpus import Corpus
from textgen.data.text import Piece
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.results import TokenizerSummary
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer, save_tokenizer

FORMAT = 1
_DTYPES = ("<u2", "<u4")

T = TypeVar("T")


@dataclass(frozen=True)
class PartCounts:
    """What one part of a corpus holds. sentences: ``<EOS>`` in it; unknown: ``<UNK>`` in it."""

    tokens: int
    characters: int
    sentences: int
    unknown: int

    def __add__(self, other: "PartCounts") -> "PartCounts":
        return PartCounts(
            self.tokens + other.tokens,
            self.characters + other.characters,
            self.sentences + other.sentences,
            self.unknown + other.unknown,
        )


@dataclass(frozen=True)
class CorpusHeader:
    """What is in a file of ids: ``train`` first, then ``valid``, each id of type ``dtype``.

    boundary: where the validation part starts, in characters of the normalised text.
    fingerprint: the corpus's; tokenizer_fingerprint: of the tokenizer that made the ids.
    """

    unit: Unit
    dtype: str
    boundary: int
    train: PartCounts
    valid: PartCounts
    fingerprint: str
    tokenizer_fingerprint: str
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_header(path: Path) -> CorpusHeader:
    """The header in a file that may hold anything. Raises CheckpointError."""
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError("damaged", where=path, why="not a corpus header")
    storage.check_format(value.get("format"), FORMAT, path)
    try:
        header = CorpusHeader(
            unit=_choice(value["unit"], UNIT_TERMINATORS),
            dtype=_choice(value["dtype"], _DTYPES),
            boundary=_count(value["boundary"]),
            train=_counts(value["train"]),
            valid=_counts(value["valid"]),
            fingerprint=_text(value["fingerprint"]),
            tokenizer_fingerprint=_text(value["tokenizer_fingerprint"]),
            sources=tuple(map(_text, value["sources"])),
            notes=tuple(map(_text, value["notes"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        why = f"its header is not as textgen writes it ({error})"
        raise CheckpointError("damaged", where=path, why=why) from error
    return header


def _counts(value: Any) -> PartCounts:
    return PartCounts(**{name: _count(count) for name, count in value.items()})


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _choice(value: Any, choices: Collection[T]) -> T:
    if value not in choices:
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, choices))}")
    return cast(T, value)


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


__all__ = [
    "HEADER",
    "TOKENS",
    "CorpusHeader",
    "EncodedCorpus",
    "PartCounts",
    "encode_corpus",
    "is_encoded",
    "load_encoded",
    "summarize",
    "tokenize",
]

_MOST_FREQUENT = 20
_ELSEWHERE = "choose another --out"


def summarize(
    encoded: EncodedCorpus, tokenizer: Tokenizer, *, out: Path | None = None
) -> TokenizerSummary:
    """What the tokenizer learned and how it does on the corpus."""
    header = encoded.header
    total = header.train + header.valid
    judged = header.valid if header.valid.tokens else header.train
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for block in encoded.blocks(header.train):
        counts += np.bincount(block, minlength=len(counts))
    order = np.argsort(-counts, kind="stable")[:_MOST_FREQUENT]
    return TokenizerSummary(
        level=tokenizer.level,
        unit=header.unit,
        vocabulary_size=tokenizer.vocabulary_size,
        tokens=total.tokens,
        train_tokens=header.train.tokens,
        valid_tokens=header.valid.tokens,
        sentences=total.sentences,
        characters=total.characters,
        train_characters=header.train.characters,
        unknown_rate=judged.unknown / judged.tokens if judged.tokens else 0.0,
        characters_per_token=total.characters / total.tokens if total.tokens else 0.0,
        most_frequent=tuple(
            (tokenizer.token(id), int(counts[id])) for id in order.tolist() if counts[id]
        ),
        fingerprint=tokenizer.fingerprint,
        out=None if out is None else str(out),
        notes=header.notes,
    )


def tokenize(
    paths: Sequence[str | Path],
    config: TokenizerConfig,
    *,
    out: str | Path | None = None,
    valid: str | Path | None = None,
    valid_fraction: float = VALID_FRACTION,
    encoding: str = "utf-8",
    errors: str = "strict",
    overwrite: bool = False,
) -> TokenizerSummary:
    """Learn a tokenizer from the training part of a corpus, and encode all of it.

    out: the folder to write both into; None: nothing is kept. overwrite: replace what textgen
    wrote there before. Raises UsageError where ``out`` holds something that may not be replaced.
    """
    with ExitStack() as held:
        target = None if out is None else held.enter_context(_reserved(out, overwrite))
        corpus = Corpus.open(
            paths,
            unit=config.unit,
            valid=valid,
            valid_fraction=valid_fraction,
            encoding=encoding,
            errors=errors,
        )
        tokenizer = learn_tokenizer(config, corpus.train())
        return summarize(encode_corpus(corpus, tokenizer, target), tokenizer, out=target)


@contextlib.contextmanager
def _reserved(out: str | Path, overwrite: bool) -> Iterator[Path]:
    """The folder to write, held against other runs and free to be replaced."""
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
    """Refuse to replace anything but what textgen wrote, and that only if asked."""
    if target.exists() and not target.is_dir():
        raise UsageError("not a folder", where=target, fix=_ELSEWHERE)
    written = storage.whole(target)
    if written is None or all(_is_leftover(path) for path in written.iterdir()):
        return
    if not is_encoded(target):
        raise UsageError(
            "not empty", where=target, why="textgen tokenize did not write it", fix=_ELSEWHERE
        )
    if not overwrite:
        raise UsageError("not empty", where=target, fix=f"add --overwrite or {_ELSEWHERE}")


def _is_leftover(path: Path) -> bool:
    return path.name == storage.LOCK or path.name.endswith(".new")
