"""Scores for programs: values between tabs under a header, and JSON, an object per line."""

from typing import Any

from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, cell
from textgen.presentation.numbers import labelled
from textgen.presentation.records import emit_record, score_record, sums
from textgen.results import PartScore, ScoreSum, SentenceScore


class TsvScores(ScoreWriter):
    r"""A row per sentence and one of totals, or a row per part; the totals then go to stderr.

    The log-probability's column names its base: ``log_prob`` is natural, ``log2_prob`` to base 2.
    Surprisal and entropy are in bits. Booleans are 1 and 0; what is not known is empty. Tabs,
    newlines and backslashes inside a text are written ``\t``, ``\n`` and ``\\``; quotation marks
    are ordinary characters.
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
        emit("\t".join(head).replace("log_prob", log_prob) + "\n")

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level == "sentence":
            emit(self._sum(score.line, score, score.prefix or "", score.text))
            return
        parts = enumerate(score.parts or (), start=1)
        rows = (_row(score.line, number, *self._part(part).values()) for number, part in parts)
        emit("".join(rows))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            emit(self._sum("total", total, "", ""))
        else:
            super().end(total, sentences)

    def _sum(self, name: str | int, score: ScoreSum, prefix: str, text: str) -> str:
        log_prob, *rest = sums(score).values()
        texts = [prefix, text] if self.shown.prefixed else [text]
        return _row(name, self.shown.log(log_prob), *rest, *texts)

    def _part(self, part: PartScore) -> dict[str, Any]:
        values = {self.shown.level: part.text, "log_prob": self.shown.log(part.log_prob)}
        values |= {"surprisal": part.surprisal, "entropy": part.entropy}
        if not self.shown.pseudo:
            values["entropy_reduction"] = part.entropy_reduction
        values["unknown"] = part.unknown
        if self.shown.level == "token":
            values |= {"id": part.id, "rank": part.rank}
        return labelled(values, pseudo=self.shown.pseudo)


def _row(*values: str | float | None) -> str:
    return "\t".join(map(_field, values)) + "\n"


def _field(value: str | float | None) -> str:
    """Numbers are at full precision."""
    if isinstance(value, str):
        return cell(value)
    if value is None:
        return ""
    return repr(int(value) if isinstance(value, bool) else value)


class JsonScores(ScoreWriter):
    """A line per sentence, then the totals. ``log_prob`` is natural, whatever the base."""

    shows_pseudo = True

    def sentence(self, score: SentenceScore) -> None:
        emit_record(score_record(score, self.shown.level))

    def end(self, total: ScoreSum, sentences: int) -> None:
        emit_record({"total": sums(total)} | ({"adapted": True} if self.shown.adapted else {}))
