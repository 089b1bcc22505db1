"""From text to token ids in a file: the whole of ``textgen tokenize``."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from textgen import storage
from textgen.config import VALID_FRACTION, TokenizerConfig
from textgen.corpus import Corpus
from textgen.encoding.encoded import (
    HEADER,
    TOKENS,
    EncodedCorpus,
    encode_corpus,
    is_encoded,
    load_encoded,
)
from textgen.encoding.header import CorpusHeader, PartCounts
from textgen.errors import UsageError
from textgen.results import TokenizerSummary
from textgen.tokenizers import Tokenizer, learn_tokenizer

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
