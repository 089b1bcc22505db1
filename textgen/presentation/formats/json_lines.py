"""Scores for scripts: one JSON object per line."""

from textgen.presentation import records
from textgen.presentation.formats import ScoreWriter
from textgen.results import ScoreSum, SentenceScore


class JsonScores(ScoreWriter):
    """A line per sentence, then the totals. ``log_prob`` is natural, whatever the base."""

    shows_pseudo = True

    def sentence(self, score: SentenceScore) -> None:
        records.emit_record(records.score_record(score, self.shown.level))

    def end(self, total: ScoreSum, sentences: int) -> None:
        adapted = {"adapted": True} if self.shown.adapted else {}
        records.emit_record(records.total_record(total) | adapted)
