"""Scores as neural-complexity gives them."""

import math
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, part_name
from textgen.results import SentenceScore

_UNKNOWN = "<unk>"


class NeuralComplexityScores(ScoreWriter):
    """The table of neural-complexity's ``--test --words --nopp`` (van Schijndel and Linzen 2018).

    As there: columns are between spaces, sentences and positions count from 0, what is unknown is
    ``<unk>``, ``<EOS>`` has no row, and bits are at full precision; an entropy reduction of zero
    is ``0``. A sentence's number is that of its line, less 1. ``wlen`` is the length before
    white space inside a word is escaped as in tables, where a space is ``␣``. An entropy that is
    not known is ``nan``. The totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def begin(self) -> None:
        emit("word sentid sentpos wlen surp entropy entred\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = []
        for position, part in enumerate(each for each in score.parts or () if not each.ends):
            word, length = part_name(part), len(part.text)
            if part.unknown:
                word, length = _UNKNOWN, len(_UNKNOWN)
            entropy = math.nan if part.entropy is None else part.entropy
            # The original prints max(0, difference), which is the integer 0 where nothing is lost.
            reduction = repr(part.entropy_reduction or 0)
            bits = f"{part.surprisal!r} {entropy!r} {reduction}"
            rows.append(f"{word} {score.line - 1} {position} {length} {bits}\n")
        emit("".join(rows))
