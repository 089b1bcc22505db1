"""Scores as ``theanolm score`` gives them."""

import math
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.metrics import in_base, perplexity
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, as_word
from textgen.results import ScoreSum, SentenceScore

_START = "<s>"
_HISTORY = 3  # words


class TheanolmScores(ScoreWriter):
    """What ``theanolm score`` (Enarvi and Kurimo 2016) writes to its ``--output-file``.

    The level ``sentence`` gives ``--output utterance-scores``, a number per line, for n-best lists;
    the others give ``--output word-scores``, which ends with what ``--output perplexity`` gives.
    Numbers are Python's, at full precision. As there, ``<s>`` is among the words and tokens that
    are counted, a part of probability 0 is left out of a perplexity, and a perplexity is of the
    parts that are shown. No word is ``OOS``: there is no shortlist. ``OOV`` are the parts with
    something unknown in them; none is excluded. White space inside a part is escaped as in
    tables: a space is ``␣``. With utterance scores the totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")

    _sentences = _parts = _possible = 0
    _log_prob = 0.0

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level == "sentence":
            emit(f"{self.shown.log(score.log_prob)!r}\n")
            return
        parts = score.parts or ()
        possible = [part.log_prob for part in parts if part.log_prob != -math.inf]
        log_prob = math.fsum(possible)
        self._sentences += 1
        self._parts += len(parts)
        self._possible += len(possible)
        self._log_prob += log_prob
        words, lines = [_START], [f"# Sentence {self._sentences}\n"]
        for part in parts:
            word, own = as_word(part), self.shown.log(part.log_prob)
            read = ["..."] if len(words) > _HISTORY else []
            history = " ".join(read + words[-_HISTORY:])
            known = "OOV" if part.unknown else "shortlist"
            lines.append(f"log(p({word} | {history})) = {own!r}  [{word}:{known}]\n")
            words.append(word)
        lines.append(f"Sentence perplexity: {perplexity(_loss(log_prob, len(possible)))!r}\n\n")
        emit("".join(lines))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            super().end(total, sentences)
            return
        emit(
            f"Number of sentences: {sentences}\n"
            f"Number of words: {sentences + self._parts}\n"
            f"Number of tokens: {sentences + total.tokens}\n"
            f"Number of predicted probabilities: {self._possible}\n"
            "Number of excluded (OOV) words: 0\n"
            f"Number of zero probabilities: {self._parts - self._possible}\n"
        )
        if sentences:
            loss, base = _loss(self._log_prob, self._possible), self.shown.base_name
            emit(f"Cross entropy (base e): {loss!r}\n")
            if base != "e":
                emit(f"Cross entropy (base {base}): {in_base(loss, self.shown.base)!r}\n")
            emit(f"Perplexity: {perplexity(loss)!r}\n")


def _loss(log_prob: float, parts: int) -> float:
    return -log_prob / parts if parts else math.nan
