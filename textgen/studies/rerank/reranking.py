"""Reranked hypotheses, two language models mixed word by word, and n-gram models of other tools.

The total is that of TheanoLM and Kaldi: the language models are weighted in the logarithm
(Kaldi's ``(1 - w) * old + w * new``), their sum is scaled, and the length penalty is not.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from textgen.errors import DataError, UsageError, missing_package
from textgen.results import SentenceScore
from textgen.studies.rerank.config import MixingConfig, RerankingConfig
from textgen.studies.rerank.nbest import Hypothesis, Utterance

LogProbs = npt.NDArray[np.float64]
_Number = TypeVar("_Number", float, LogProbs)

Score = Callable[[Iterable[str]], Iterator[float]]
"""Computes the natural log-probability of each sentence, ``<EOS>`` included, as a stream."""

Words = Callable[[Iterable[str]], Iterator[LogProbs]]
"""Computes ln p of each word of each sentence and, last, of its end, likewise."""


@dataclass(frozen=True, slots=True)
class RankedHypothesis:
    """A hypothesis with its scores.

    Attributes:
        log_prob: That of the new language model.
        lm: That of the old and the new language model together.
        total: That by which it is ranked.
    """

    hypothesis: Hypothesis
    log_prob: float
    lm: float
    total: float


@dataclass(frozen=True, slots=True)
class RankedUtterance:
    """The hypotheses of an utterance, the best first."""

    id: str
    hypotheses: tuple[RankedHypothesis, ...]


def rerank(
    utterances: Iterable[Utterance], score: Score, config: RerankingConfig
) -> Iterator[RankedUtterance]:
    """Rerank the hypotheses of each utterance, as a stream; equals keep their order.

    Raises UsageError if a weight was given, and there is no old score.
    """
    waiting, to_score = tee(utterances)
    log_probs = score(each.text for utterance in to_score for each in utterance.hypotheses)
    for utterance in waiting:
        ranked = []
        scores = list(islice(log_probs, len(utterance.hypotheses)))
        for each, new in zip(utterance.hypotheses, scores, strict=True):
            weights = config.resolved(has_old_lm=each.old_lm is not None)
            lm = mixed_score(each.old_lm or 0.0, new, weights)
            total = total_score(each.acoustic or 0.0, lm, float(each.words), weights)
            ranked.append(RankedHypothesis(each, new, lm, total))
        ranked.sort(key=lambda each: each.total, reverse=True)
        yield RankedUtterance(utterance.id, tuple(ranked))
    next(log_probs, None)  # raises the error that ended the utterances before their end


def mixed_score(old: _Number, new: _Number, weights: RerankingConfig) -> _Number:
    """The score of the language models; a model of weight 0 is ignored even if it is infinite."""
    weight = weights.weight
    assert weight is not None  # resolved
    if weight in (0, 1):
        return new if weight else old
    return (1 - weight) * old + weight * new


def total_score(
    acoustic: _Number, lm: _Number, words: _Number, weights: RerankingConfig
) -> _Number:
    """The score by which hypotheses are ranked; ``lm`` is that of ``mixed_score``."""
    total = acoustic + weights.length_penalty * words
    return total + weights.lm_scale * lm if weights.lm_scale else total


def word_log_probs(score: Callable[[Iterable[str]], Iterator[SentenceScore]]) -> Words:
    """The words of a model whose sentence scores have words as their parts."""

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        for scored in score(sentences):
            yield np.array([part.log_prob for part in scored.parts or ()])

    return words


def mixed(first: Words, second: Words, config: MixingConfig) -> Score:
    """The sentences under the mean of the probabilities that two models give each word.

    (Jelinek and Mercer 1980.) The result raises UsageError where the models have different
    numbers of words.
    """
    weight = config.mix_weight

    def score(sentences: Iterable[str]) -> Iterator[float]:
        one, two = tee(sentences)
        for p1, p2 in zip(first(one), second(two), strict=True):
            if len(p1) != len(p2):
                raise UsageError(
                    f"one model has {len(p1) - 1} words in a sentence, the other {len(p2) - 1}",
                    fix="let both give those that white space separates",
                )
            if weight in (0, 1):  # a model of weight 0 is ignored even if it is infinite
                log_probs = p2 if weight else p1
            else:
                log_probs = np.logaddexp(p1 + np.log1p(-weight), p2 + np.log(weight))
            yield float(log_probs.sum(dtype=np.float64))

    return score


_ARPA = b"\\data\\"
_BINARY = b"mmap lm http://kheafield.com/code format version"
_HEAD_BYTES = 8192
_DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_LN_10 = float(np.log(10.0))
_THROWN = re.compile(r".*? threw \w+(?: because `.*?')?\. ")


def ngram_words(path: str | Path) -> Words:
    """An n-gram model that the package ``kenlm`` reads: an ARPA file, or a binary of KenLM.

    An unknown word has the probability of ``<unk>``, and the end that of ``</s>``.

    Raises:
        DataError: It is no such model, or damaged.
        UsageError: ``kenlm`` is not installed.
    """
    if not is_ngram_model(path):
        raise DataError(
            "no n-gram model",
            where=path,
            why="it begins neither as an ARPA file nor as a binary of KenLM's",
            fix="make one with lmplz or build_binary",
        )
    try:
        import kenlm
    except ImportError as error:
        raise missing_package("an n-gram model", "kenlm", "kenlm", where=path) from error
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        model = kenlm.Model(str(path), config)
    except (OSError, RuntimeError) as error:
        # The message of KenLM without the place in its source.
        message = " ".join(str(error).split())
        inside = message.partition("' (")[2].removesuffix(")") or message
        why = _THROWN.sub("", inside, count=1)
        raise DataError(
            "damaged n-gram model", where=path, why=why, fix="build it again"
        ) from error

    def words(sentences: Iterable[str]) -> Iterator[LogProbs]:
        for sentence in sentences:
            # KenLM does not know all characters that are white space in Unicode.
            spaced = " ".join(sentence.split())
            scores = model.full_scores(spaced, bos=True, eos=True)
            yield np.array([log10_prob for log10_prob, _, _ in scores], np.float64) * _LN_10

    return words


def is_ngram_model(path: str | Path) -> bool:
    """Whether a file, compressed or not, begins as an ARPA file or a binary of KenLM."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, decompressed in _DECOMPRESSORS.items():
        if head.startswith(magic):
            try:
                with decompressed(path) as file:
                    head = file.read(_HEAD_BYTES)
            except (EOFError, OSError, lzma.LZMAError, zlib.error):
                return False
    first_line = head.lstrip().split(b"\n", 1)[0]
    return first_line.rstrip() == _ARPA or head.startswith(_BINARY)
