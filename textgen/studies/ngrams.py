"""N-gram models of other tools, ARPA files and KenLM's binaries, asked for their words."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textgen.errors import DataError, ResourceError, UsageError
from textgen.studies.mixing import LogProbs

_ARPA = b"\\data\\"
_BINARY = b"mmap lm http://kheafield.com/code format version"
_HEAD_BYTES = 8192
_PACKED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_LN_10 = float(np.log(10.0))
_THROWN = re.compile(r".*? threw \w+(?: because `.*?')?\. ")


class NgramModel:
    """A model in a file, read by the package ``kenlm``; compressed ARPA files too.

    Raises ResourceError (not there, not readable), DataError (not such a model, damaged),
    UsageError where ``kenlm`` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        _check_header(Path(path))
        self._model = _load(Path(path))
        self.order: int = self._model.order

    def words(self, sentences: Iterable[str]) -> Iterator[LogProbs]:
        """ln p of each word of each sentence and of ``</s>``, after ``<s>``.

        A word that the model does not know has the probability of ``<unk>``.
        """
        for sentence in sentences:
            # Of white space KenLM knows less than we do.
            spaced = " ".join(sentence.split())
            scores = self._model.full_scores(spaced, bos=True, eos=True)
            yield np.array([log10_prob for log10_prob, _, _ in scores], np.float64) * _LN_10


def is_ngram_model(path: str | Path) -> bool:
    """Whether a file begins as an ARPA file or a binary of KenLM's does.

    Raises ResourceError where it cannot be read.
    """
    try:
        head = _head(Path(path))
    except (EOFError, lzma.LZMAError, zlib.error):
        return False
    except FileNotFoundError as error:
        raise ResourceError("no such file", where=path, fix="check the path") from error
    except OSError as error:
        if error.errno is None:  # not the system's, but of what unpacks
            return False
        raise ResourceError("cannot read", where=path, why=error.strerror or str(error)) from error
    first_line = head.lstrip().split(b"\n", 1)[0]
    return first_line.rstrip() == _ARPA or head.startswith(_BINARY)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head: bytes = file.read(_HEAD_BYTES)
    for magic, opened in _PACKED:
        if head.startswith(magic):
            with opened(path) as file:
                head = file.read(_HEAD_BYTES)
    return head


def _check_header(path: Path) -> None:
    if not is_ngram_model(path):
        raise DataError(
            "no n-gram model",
            where=path,
            why="it begins neither as an ARPA file nor as a binary of KenLM's",
            fix="make one with lmplz or build_binary",
        )


def _load(path: Path) -> Any:
    try:
        import kenlm
    except ImportError as error:
        raise UsageError(
            "an n-gram model needs the package kenlm",
            where=path,
            why="it is not installed",
            fix="pip install 'textgen[kenlm]'",
        ) from error
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(str(path), config)
    except (OSError, RuntimeError) as error:
        raise DataError(
            "damaged n-gram model", where=path, why=_reason(error), fix="make it anew"
        ) from error


def _reason(error: Exception) -> str:
    """What KenLM says, without the place in its source where it says so."""
    said = " ".join(str(error).split())
    inside = said.partition("' (")[2].removesuffix(")") or said
    return _THROWN.sub("", inside, count=1)
