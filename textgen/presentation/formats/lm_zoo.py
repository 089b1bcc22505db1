"""Scores as the models of lm-zoo give them."""

from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, cell
from textgen.results import SentenceScore


class LmZooScores(ScoreWriter):
    r"""The table of ``lm-zoo get-surprisals`` (Gauthier et al. 2020): a row per token, in bits.

    Sentences are numbered by their lines and tokens from 1; ``<EOS>`` is the last. Surprisals
    have full precision. Inside a token a tab is ``\t``, a newline ``\n``, a backslash ``\\``; a
    space stays as it is. The totals, which lm-zoo does not have, go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("token", "word", "character")

    def begin(self) -> None:
        emit("sentence_id\ttoken_id\ttoken\tsurprisal\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = enumerate(score.parts or (), start=1)
        emit("".join(f"{score.line}\t{i}\t{cell(t.text)}\t{t.surprisal!r}\n" for i, t in rows))
