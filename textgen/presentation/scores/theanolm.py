"""Scores as ``theanolm score`` gives them."""

import math
from collections.abc import Sequence
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.metrics import in_base, perplexity
from textgen.presentation.console import emit
from textgen.presentation.scores.base import ScoreWriter, Shown, as_word, base_name
from textgen.presentation.scores.totals import say_totals
from textgen.results import PartScore, ScoreSum, SentenceScore

_START = "<s>"
_HISTORY = 3  # words


class TheanolmScores(ScoreWriter):
    """What ``theanolm score`` (Enarvi and Kurimo 2016) writes to its ``--output-file``.

    The level ``sentence`` gives ``--output utterance-scores``, a number a line, for n-best lists;
    the others give ``--output word-scores``, which ends with what ``--output perplexity`` gives.
    Numbers are Python's, at full precision. As there, ``<s>`` is among the words and tokens that
    are counted, a part of probability 0 is left out of a perplexity, and a perplexity is of the
    parts that are shown. No word is ``OOS``: there is no shortlist. ``OOV`` are the parts with
    something unknown in them; none is excluded. White space inside a part is escaped as in
    tables: a space is ``␣``. With utterance scores the totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self._sentences = self._words = self._tokens = self._predicted = self._zero = 0
        self._log_prob = 0.0

    def begin(self) -> None:
        pass

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level == "sentence":
            emit(f"{self.shown.log(score.log_prob)!r}\n")
            return
        parts = score.parts or ()
        possible = [part.log_prob for part in parts if part.log_prob != -math.inf]
        log_prob = math.fsum(possible)
        self._sentences += 1
        self._words += 1 + len(parts)
        self._tokens += 1 + score.tokens
        self._predicted += len(possible)
        self._zero += len(parts) - len(possible)
        self._log_prob += log_prob
        emit(
            f"# Sentence {self._sentences}\n"
            + "".join(self._predictions(parts))
            + f"Sentence perplexity: {perplexity(_loss(log_prob, len(possible)))!r}\n\n"
        )

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            say_totals(total, sentences, self.shown.base)
            return
        emit(
            f"Number of sentences: {self._sentences}\n"
            f"Number of words: {self._words}\n"
            f"Number of tokens: {self._tokens}\n"
            f"Number of predicted probabilities: {self._predicted}\n"
            "Number of excluded (OOV) words: 0\n"
            f"Number of zero probabilities: {self._zero}\n"
        )
        if sentences:
            loss, base = _loss(self._log_prob, self._predicted), base_name(self.shown.base)
            emit(f"Cross entropy (base e): {loss!r}\n")
            if base != "e":
                emit(f"Cross entropy (base {base}): {in_base(loss, self.shown.base)!r}\n")
            emit(f"Perplexity: {perplexity(loss)!r}\n")

    def _predictions(self, parts: Sequence[PartScore]) -> list[str]:
        words, written = [_START], []
        for part in parts:
            word = as_word(part)
            read = ["..."] if len(words) > _HISTORY else []
            history = " ".join(read + words[-_HISTORY:])
            log_prob = self.shown.log(part.log_prob)
            known = "OOV" if part.unknown else "shortlist"
            written.append(f"log(p({word} | {history})) = {log_prob!r}  [{word}:{known}]\n")
            words.append(word)
        return written


def _loss(log_prob: float, parts: int) -> float:
    return -log_prob / parts if parts else math.nan
