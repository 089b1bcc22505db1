"""Scores for R, pandas and awk: values between tabs, under a header."""

from collections.abc import Sequence

from textgen.presentation.console import emit
from textgen.presentation.records import pseudo_sums
from textgen.presentation.scores.base import ScoreWriter, base_name, cell
from textgen.presentation.scores.totals import say_totals
from textgen.results import PartScore, ScoreSum, SentenceScore

_SUMS = (
    "tokens",
    "unknown",
    "perplexity",
    "perplexity_without_unknown",
    "bits_per_character",
    "words",
    "characters",
    "bytes",
    "perplexity_per_word",
    "bits_per_byte",
    "comparable",
)


class TsvScores(ScoreWriter):
    r"""A row a sentence and one of totals, or a row a part; the totals then go to stderr.

    The log-probability's column names its base: ``log_prob`` is natural, ``log2_prob`` to base 2.
    Surprisal and entropy are in bits. What is true is 1, what is not is 0, what is not known is
    empty. Tabs, newlines and backslashes inside a text are written ``\t``, ``\n`` and ``\\``;
    quotation marks are ordinary characters.
    """

    tells_pseudo = True

    def begin(self) -> None:
        base = base_name(self.shown.base)
        log_prob = "log_prob" if base == "e" else f"log{base}_prob"
        if self.shown.pseudo:
            self._begin_pseudo(f"pseudo_{log_prob}")
            return
        if self.shown.level == "sentence":
            prefix = ("prefix",) if self.shown.prefixed else ()
            head: Sequence[str] = ("line", log_prob, *_SUMS, *prefix, "text")
        else:
            own = ("id", "rank") if self.shown.level == "token" else ()
            known = ("entropy", "entropy_reduction", "unknown", *own)
            head = ("line", "number", self.shown.level, log_prob, "surprisal", *known)
        emit("\t".join(head) + "\n")

    def _begin_pseudo(self, log_prob: str) -> None:
        if self.shown.level == "sentence":
            _, *sums = pseudo_sums(ScoreSum())
            head = ("line", log_prob, *sums, "text")
        else:
            known = ("pseudo_surprisal", "pseudo_entropy", "unknown", "id", "rank")
            head = ("line", "number", self.shown.level, log_prob, *known)
        emit("\t".join(head) + "\n")

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level == "sentence":
            emit(self._sum(str(score.line), score, score.prefix or "", score.text))
            return
        parts = enumerate(score.parts or (), start=1)
        emit("".join(f"{score.line}\t{number}\t{self._part(part)}\n" for number, part in parts))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            emit(self._sum("total", total, "", ""))
        else:
            say_totals(total, sentences, self.shown.base)

    def _sum(self, name: str, score: ScoreSum, prefix: str, text: str) -> str:
        if self.shown.pseudo:
            _, *sums = pseudo_sums(score).values()
        else:
            sums = [getattr(score, each) for each in _SUMS]
        numbers = (self.shown.log(score.log_prob), *sums)
        texts = (prefix, text) if self.shown.prefixed else (text,)
        return "\t".join((name, *map(_value, numbers), *map(cell, texts))) + "\n"

    def _part(self, part: PartScore) -> str:
        own = (part.id, part.rank) if self.shown.level == "token" else ()
        reduction = () if self.shown.pseudo else (part.entropy_reduction,)
        known = (part.entropy, *reduction, part.unknown, *own)
        values = (self.shown.log(part.log_prob), part.surprisal, *known)
        return "\t".join((cell(part.text), *map(_value, values)))


def _value(value: float | None) -> str:
    """A number at full precision."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else repr(value)
