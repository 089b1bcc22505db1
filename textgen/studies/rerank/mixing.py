"""The hypotheses of a speech recogniser in a new order: a language model has its say.

The total is TheanoLM's and Kaldi's: language models are weighted in the logarithm (Kaldi's
``(1 - w) * old + w * new``), their sum is scaled, and what each word adds is not.

Two language models as one: each word's probability is the mean of both.

What one model has not seen the other may know (Jelinek and Mercer 1980). Both are asked for the
same words, those that white space separates, and for the end of each sentence.

N-gram models of other tools, ARPA files and KenLM's binaries, asked for their words.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, tee
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from textgen.errors import DataError, ResourceError, UsageError
from textgen.studies.rerank.config import MixingConfig, RerankingConfig
from textgen.studies.rerank.results import RankedHypothesis, RankedUtterance, Utterance

Score = Callable[[Iterable[str]], Iterator[float]]
"""The natural log-probability of each sentence, ``<EOS>`` counted, in order, as they come."""

_Number = TypeVar("_Number", float, npt.NDArray[np.float64])


def rerank(
    utterances: Iterable[Utterance], score: Score, config: RerankingConfig | None = None
) -> Iterator[RankedUtterance]:
    """Each utterance's hypotheses, the best first; of equals, the first in the list.

    Utterances are read as ``score`` reads sentences, and given as soon as theirs are known.
    Raises UsageError where a weight is set and there is no old score to weigh against.
    """
    config = config or RerankingConfig()
    waiting, to_score = tee(utterances)
    log_probs = score(each.text for utterance in to_score for each in utterance.hypotheses)
    for utterance in waiting:
        scores = islice(log_probs, len(utterance.hypotheses))
        yield _ranked(utterance, list(scores), config)
    next(log_probs, None)  # raises what ended the utterances before their end


def mixed_score(old: _Number, new: _Number, weight: float) -> _Number:
    """The language models' score; one that has no weight does not count, though it be infinite."""
    if weight in (0, 1):
        return new if weight else old
    return (1 - weight) * old + weight * new


def total_score(acoustic: _Number, lm: _Number, words: _Number, config: RerankingConfig) -> _Number:
    """What hypotheses are ranked by. lm: what ``mixed_score`` gives."""
    total = acoustic + config.length_penalty * words
    return total + config.lm_scale * lm if config.lm_scale else total


def _ranked(
    utterance: Utterance, log_probs: list[float], config: RerankingConfig
) -> RankedUtterance:
    ranked = []
    for hypothesis, new in zip(utterance.hypotheses, log_probs, strict=True):
        weights = config.settled(old=hypothesis.lm is not None)
        assert weights.weight is not None
        lm = mixed_score(hypothesis.lm or 0.0, new, weights.weight)
        total = total_score(hypothesis.acoustic or 0.0, lm, float(hypothesis.words), weights)
        ranked.append(RankedHypothesis(hypothesis, new, lm, total))
    ranked.sort(key=lambda each: each.total, reverse=True)
    return RankedUtterance(utterance.id, tuple(ranked))


LogProbs = npt.NDArray[np.float64]
Words = Callable[[Iterable[str]], Iterator[LogProbs]]
"""ln p of each word of each sentence and, last, of its end; in order, as they come."""


def mixed(first: Words, second: Words, config: MixingConfig | None = None) -> Words:
    """p = (1 - m) p1 + m p2 of each word. config: has m, the second model's share.

    The result raises UsageError where the two give different numbers of words.
    """
    weight = (config or MixingConfig()).mix_weight

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        one, two = tee(sentences)
        for ours, theirs in zip(first(one), second(two), strict=True):
            if len(ours) != len(theirs):
                raise UsageError(
                    f"one model has {len(ours) - 1} words in a sentence, the other"
                    f" {len(theirs) - 1}",
                    fix="let both give those that white space separates",
                )
            yield _mean(ours, theirs, weight)

    return words


def sentence_sums(words: Words) -> Score:
    """The log-probability of whole sentences."""

    def score(sentences: Iterable[str]) -> Iterator[float]:
        for log_probs in words(sentences):
            yield float(log_probs.sum(dtype=np.float64))

    return score


def _mean(first: LogProbs, second: LogProbs, weight: float) -> LogProbs:
    if weight in (0, 1):
        return second if weight else first
    mean: LogProbs = np.logaddexp(first + np.log1p(-weight), second + np.log(weight))
    return mean


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
