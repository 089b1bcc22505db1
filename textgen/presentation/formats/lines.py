"""Scores for programs: values between tabs under a header, and JSON, an object per line."""

from textgen.presentation.formats import ScoreWriter
from textgen.presentation.numbers import labelled
from textgen.presentation.records import (
    Value,
    emit_record,
    emit_rows,
    of_first_token,
    score_record,
    sums,
)
from textgen.results import PartScore, ScoreSum, SentenceScore


class TsvScores(ScoreWriter):
    """A row per sentence or per part, for data frames; the totals go to stderr.

    The log-probability's column names its base: ``log_prob`` is natural, ``log2_prob`` to base 2.
    Surprisal and entropy are in bits. Booleans are 1 and 0; what is not known is empty. Texts are
    quoted as by Python's ``csv``.
    """

    shows_pseudo = True

    def begin(self) -> None:
        if self.shown.level == "sentence":
            texts = ["prefix", "text"] if self.shown.prefixed else ["text"]
            head = ["line", *sums(ScoreSum(pseudo=self.shown.pseudo)), *texts]
        else:
            head = ["line", "number", *self._part(PartScore("", "", 0.0))]
        base = self.shown.base_name
        log_prob = "log_prob" if base == "e" else f"log{base}_prob"
        emit_rows([[name.replace("log_prob", log_prob) for name in head]])

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level != "sentence":
            parts = enumerate(score.parts or (), start=1)
            emit_rows([score.line, number, *self._part(part).values()] for number, part in parts)
            return
        log_prob, *rest = sums(score).values()
        texts = [score.prefix or "", score.text] if self.shown.prefixed else [score.text]
        emit_rows([[score.line, self.shown.log(log_prob), *rest, *texts]])

    def _part(self, part: PartScore) -> dict[str, Value]:
        level = self.shown.level
        values: dict[str, Value] = {
            level: part.text if part.token is None else part.token,
            "log_prob": self.shown.log(part.log_prob),
            "surprisal": part.surprisal,
        }
        if level == "word":
            values |= of_first_token(part) | {"unknown": part.unknown, "tokens": part.tokens}
        else:
            values["entropy"] = part.entropy
            if not self.shown.pseudo:
                values["entropy_reduction"] = part.entropy_reduction
            values["unknown"] = part.unknown
        if level == "token":
            values |= {"id": part.id, "rank": part.rank, "text": part.span}
        return labelled(values, pseudo=self.shown.pseudo)


class JsonScores(ScoreWriter):
    """A line per sentence, then the totals. ``log_prob`` is natural, whatever the base."""

    shows_pseudo = True

    def sentence(self, score: SentenceScore) -> None:
        emit_record(score_record(score, self.shown.level))

    def end(self, total: ScoreSum, sentences: int) -> None:
        emit_record({"total": sums(total)} | ({"adapted": True} if self.shown.adapted else {}))
