"""Scores as neural-complexity gives them."""

import math
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.presentation.console import emit
from textgen.presentation.scores.base import ScoreWriter, part_name
from textgen.presentation.scores.totals import say_totals
from textgen.results import PartScore, ScoreSum, SentenceScore

_UNKNOWN = "<unk>"


class NeuralComplexityScores(ScoreWriter):
    """The table of neural-complexity's ``--test --words --nopp`` (van Schijndel and Linzen 2018).

    As there: columns are between spaces, sentences and positions count from 0, what is unknown is
    ``<unk>``, ``<EOS>`` has no row, and bits are at full precision; an entropy reduction that is
    none is ``0``. A sentence's number is that of its line, less 1. ``wlen`` is the length before
    white space inside a word is escaped as in tables, where a space is ``␣``. An entropy that is
    not known is ``nan``. The totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def begin(self) -> None:
        emit("word sentid sentpos wlen surp entropy entred\n")

    def sentence(self, score: SentenceScore) -> None:
        words = [part for part in score.parts or () if not part.ends]
        rows = (_row(score.line - 1, position, word) for position, word in enumerate(words))
        emit("".join(rows))

    def end(self, total: ScoreSum, sentences: int) -> None:
        say_totals(total, sentences, self.shown.base)


def _row(sentence: int, position: int, part: PartScore) -> str:
    word = _UNKNOWN if part.unknown else part_name(part)
    length = len(_UNKNOWN if part.unknown else part.text)
    entropy = math.nan if part.entropy is None else part.entropy
    # The original prints max(0, difference), which is the whole number 0 where nothing is lost.
    reduction = repr(part.entropy_reduction) if part.entropy_reduction else "0"
    return f"{word} {sentence} {position} {length} {part.surprisal!r} {entropy!r} {reduction}\n"
