"""Word vectors from a file, for ``--embeddings``: one word and its numbers per line.

In the text layout of word2vec the first line gives their number and width; GloVe has no such line.
Fields are separated by single spaces. The file may be gzip. Only the vectors of the vocabulary are
held in memory.
"""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from textgen.data.sources import GZIP, damaged_gzip
from textgen.errors import DataError, ResourceError
from textgen.tokenizers.base import EOS, UNK, Tokenizer

_BOM = b"\xef\xbb\xbf"
_OF_NUMBERS = b"0123456789+-.eE "
_SPECIAL = {b"<unk>": UNK, b"</s>": EOS}  # as GloVe and word2vec spell them
_LONGEST_LINE = 2**24
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class WordVectors:
    """ids: tokens in the file. vectors: (ids, width). tokens: how many could have a vector."""

    path: str
    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    tokens: int

    @property
    def note(self) -> str:
        found = f"{len(self.ids):,} of {self.tokens:,} tokens ({len(self.ids) / self.tokens:.0%})"
        return f"{found} start from the vectors of {self.path}, the others from random vectors"


def vector_width(path: str) -> int:
    """The width of the vectors, by the first line of the file.

    Raises ResourceError or DataError if it cannot be read, or has another format.
    """
    with _opened(path) as stream:
        width, _ = _begun(path, stream)
    return width


def read_vectors(path: str, tokenizer: Tokenizer) -> WordVectors:
    """The vectors of the tokenizer's tokens; of a word that occurs twice, the first.

    A token is found by its text without joiner marks: a comma after a word is a comma.

    Raises DataError for a line that is not a word and its numbers, or if no token is found.
    """
    wanted: dict[bytes, list[int]] = {}
    for id, spelling in enumerate(tokenizer.decoder().next_bytes()):
        if id not in (UNK, EOS) and (word := spelling.strip()):
            wanted.setdefault(word, []).append(id)
    for word, id in _SPECIAL.items():
        wanted.setdefault(word, []).append(id)
    found: dict[int, npt.NDArray[np.float32]] = {}
    for number, word, numbers in _lines(path):
        for id in wanted.pop(word, ()):
            found[id] = _vector(path, number, numbers)
    if found.keys() <= {UNK, EOS}:
        raise DataError(
            "no token of the vocabulary has a vector",
            where=path,
            why="words are compared letter by letter, capitals too",
            fix="use --level word, or vectors of this language",
        )
    ids = np.array(sorted(found), np.int64)
    vectors = np.stack([found[id] for id in ids.tolist()])
    return WordVectors(path, ids, vectors, tokenizer.vocabulary_size)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        with Path(path).open("rb") as stream:
            packed = stream.read(len(GZIP)) == GZIP
            stream.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged_gzip(path, error) from error
    except OSError as error:
        raise ResourceError(
            "cannot read the word vectors", where=path, why=error.strerror or str(error)
        ) from error


def _begun(path: str, stream: BinaryIO) -> tuple[int, bool]:
    """The width of the vectors, and whether a header line gives it. The stream is at 0."""
    first = stream.readline(_LONGEST_LINE).removeprefix(_BOM).split()
    if len(first) == 2 and all(field.isdigit() for field in first):
        header, width = True, int(first[1])
    else:
        header, width = False, len(first) - 1
    if width < 1:
        raise _malformed(path, 1, "it is neither a word with its numbers nor a count and a width")
    return width, header


def _lines(path: str) -> Iterator[tuple[int, bytes, bytes]]:
    """The number of each line, its word, and its numbers, which are as many as the width."""
    with _opened(path) as stream:
        width, header = _begun(path, stream)
        stream.seek(0)
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), b""), start=1):
            text = (line.removeprefix(_BOM) if number == 1 else line).rstrip(b" \r\n")
            if not text or (number == 1 and header):
                continue
            if text.count(b" ") == width:
                word, _, numbers = text.partition(b" ")
            else:
                word, numbers = _word_of_parts(path, number, text, width)
            # A quick check, because nearly all vectors are of other words.
            if numbers.translate(None, _OF_NUMBERS) or b"  " in text:
                _vector(path, number, numbers)
            yield number, word, numbers


def _word_of_parts(path: str, number: int, text: bytes, width: int) -> tuple[bytes, bytes]:
    """A word that has spaces in it, as some of GloVe's have, and its numbers."""
    parts = text.rsplit(b" ", width)
    # Where the last part of a word is a number, there is one number too many.
    if len(parts) <= width or _value(parts[0].rpartition(b" ")[2]) is not None:
        raise _malformed(path, number, f"after the word come {text.count(b' ')}, not {width}")
    return parts[0], text[len(parts[0]) + 1 :]


def _vector(path: str, number: int, numbers: bytes) -> npt.NDArray[np.float32]:
    values = []
    for field in numbers.split(b" "):
        value = _value(field)
        if value is None or not abs(value) <= _LARGEST:
            shown = field.decode("utf-8", "replace")[:20]
            raise _malformed(path, number, f"{shown!r} is not a finite number")
        values.append(value)
    return np.array(values, np.float32)


def _value(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _malformed(path: str, number: int, why: str) -> DataError:
    return DataError(
        f"line {number} is malformed",
        where=path,
        why=why,
        fix="give one word and its numbers per line, separated by single spaces",
    )
