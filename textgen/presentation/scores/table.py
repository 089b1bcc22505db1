"""Scores for people: a table."""

from collections.abc import Sequence

from rich.text import Text

from textgen.presentation.columns import Cell, Column, Columns
from textgen.presentation.console import emit, out_console, show
from textgen.presentation.console import shown as escaped
from textgen.presentation.numbers import count, figure, fixed
from textgen.presentation.scores.base import ScoreWriter, Shown, part_name
from textgen.presentation.scores.totals import bits, footnotes, per_unit, sentence_count, sum_line
from textgen.results import PartScore, ScoreSum, SentenceScore

_BAR_BITS = 16.0
_LONGEST_BAR, _SHORTEST_BAR = 20, 10
_PART_WIDTHS = {"word": 16, "token": 12, "character": 9}


class TableScores(ScoreWriter):
    """A table whose rows appear as they are known, in columns of fixed width.

    A part's rank and entropy are shown where the width allows.
    """

    tells_pseudo = True

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self._console = out_console()
        self._sentences = Columns(_sentence_columns(shown), self._console)
        self._parts = Columns(self._part_columns(wide=True), self._console, indent=2)
        self._wide = self._parts.room >= _SHORTEST_BAR
        if not self._wide:
            self._parts = Columns(self._part_columns(wide=False), self._console, indent=2)

    def begin(self) -> None:
        if self.shown.level == "sentence":
            emit(self._sentences.header())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), escaped(score.text)
        if self.shown.level == "sentence":
            emit(self._sentences.row(self._sum_cells(name, text, score)))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        emit(self._parts.header())
        for part in score.parts or ():
            emit(self._parts.row(self._part_cells(part)))
        show(sum_line(score, self.shown), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        name = sentence_count(sentences)
        if self.shown.level == "sentence":
            emit(self._sentences.rule())
            emit(self._sentences.row(self._sum_cells("all", name, total)))
            emit("\n")
        else:
            show(Text.assemble(("all  ", "label"), (name, "heading")))
            show(sum_line(total, self.shown), "")
        emit(per_unit(total, self.shown, self._console) + "\n")
        show(*footnotes(total, self.shown))

    def _sum_cells(self, name: str, text: str, score: ScoreSum) -> Sequence[Cell]:
        perplexity = figure(score.perplexity)
        if score.unknown:
            perplexity += f"\n({figure(score.perplexity_without_unknown)})"
        per_character = (bits(score), "" if score.comparable else "warning")
        return (
            (name, "label"),
            text,
            fixed(self.shown.log(score.log_prob), 2),
            count(score.tokens),
            (count(score.unknown), "unknown" if score.unknown else "faint"),
            perplexity,
            *([] if self.shown.pseudo else [per_character]),
        )

    def _part_columns(self, *, wide: bool) -> tuple[Column, ...]:
        level = self.shown.level
        ids = [Column("id", 5)] if level == "token" else []
        ranks = [Column("rank", 6)] if level == "token" and wide else []
        return (
            Column(level, _PART_WIDTHS.get(level, 0), right=False),
            *ids,
            Column(self.shown.log_name, 12 if self.shown.pseudo else 8),
            *([Column("pseudo bits", 11)] if self.shown.pseudo else [Column("bits", 7)]),
            *ranks,
            *([Column("entropy", 7)] if wide else []),
            Column("", None, right=False),
        )

    def _part_cells(self, part: PartScore) -> Sequence[Cell]:
        is_token = self.shown.level == "token"
        length = min(1.0, part.surprisal / _BAR_BITS) * min(_LONGEST_BAR, self._parts.room)
        ids = [("" if part.id is None else str(part.id), "label")] if is_token else []
        ranks = ["" if part.rank is None else count(part.rank)] if is_token and self._wide else []
        entropy = "" if part.entropy is None else fixed(part.entropy, 3)
        return (
            (part_name(part), "unknown" if part.unknown else ""),
            *ids,
            fixed(self.shown.log(part.log_prob), 3),
            fixed(part.surprisal, 3),
            *ranks,
            *([entropy] if self._wide else []),
            ("▇" * round(length), "unknown" if part.unknown else "accent"),
        )


def _sentence_columns(shown: Shown) -> tuple[Column, ...]:
    columns = (
        Column("line", 4),
        Column("text", None, right=False, least=20),
        Column(shown.log_name, 12 if shown.pseudo else 9),
        Column("tokens", 6),
        Column("unk", 3),
    )
    if shown.pseudo:
        return (*columns, Column("pseudo-perplexity", 17))
    return (*columns, Column("perplexity", 10), Column("bits/char", 9))
