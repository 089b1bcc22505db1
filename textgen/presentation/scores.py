"""Scores as they come: a table for people, TSV for the tools of the field, JSON for scripts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from rich.text import Text

from textgen.config import LogBase
from textgen.metrics import in_base
from textgen.presentation import records
from textgen.presentation.columns import Cell, Column, Columns
from textgen.presentation.console import emit, out_console, say, show, shown
from textgen.presentation.numbers import count, figure, fixed, times
from textgen.presentation.tokens import visible
from textgen.results import ScoreSum, SentenceScore, TokenScore

LOG_NAMES: Mapping[LogBase, str] = {"e": "ln p", "2": "log2 p", "10": "log10 p"}
_TSV_LOG_NAMES: Mapping[LogBase, str] = {"e": "log_prob", "2": "log2_prob", "10": "log10_prob"}
_BAR_BITS = 16.0


class ScoreWriter(ABC):
    """Writes scores one by one, so that a long input needs no memory and shows at once."""

    def __init__(self, base: LogBase, *, tokens: bool) -> None:
        self.base, self.tokens = base, tokens

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def sentence(self, score: SentenceScore) -> None: ...

    @abstractmethod
    def end(self, total: ScoreSum, sentences: int) -> None: ...


class JsonScores(ScoreWriter):
    """A line a sentence, then the totals. ``log_prob`` is natural, whatever the base."""

    def begin(self) -> None:
        pass

    def sentence(self, score: SentenceScore) -> None:
        records.emit_record(records.score_record(score))

    def end(self, total: ScoreSum, sentences: int) -> None:
        records.emit_record(records.total_record(total))


class TsvScores(ScoreWriter):
    r"""A row a sentence and one of totals; of tokens, lm-zoo's table of surprisals in bits.

    Tabs, newlines and backslashes inside a text are written ``\t``, ``\n`` and ``\\``.
    """

    def begin(self) -> None:
        if self.tokens:
            emit("sentence_id\ttoken_id\ttoken\tsurprisal\n")
            return
        names = ("tokens", "unknown", "perplexity", "perplexity_without_unknown")
        head = ("line", _TSV_LOG_NAMES[self.base], *names, "bits_per_character", "text")
        emit("\t".join(head) + "\n")

    def sentence(self, score: SentenceScore) -> None:
        if self.tokens:
            rows = enumerate(score.token_scores or (), start=1)
            emit(
                "".join(f"{score.line}\t{i}\t{_cell(t.token)}\t{t.surprisal!r}\n" for i, t in rows)
            )
        else:
            self._row(str(score.line), score, score.text)

    def end(self, total: ScoreSum, sentences: int) -> None:
        if not self.tokens:
            self._row("total", total, "")

    def _row(self, name: str, score: ScoreSum, text: str) -> None:
        numbers = (
            in_base(score.log_prob, self.base),
            score.tokens,
            score.unknown,
            score.perplexity,
            score.perplexity_without_unknown,
            score.bits_per_character,
        )
        emit("\t".join((name, *map(repr, numbers), _cell(text))) + "\n")


class TableScores(ScoreWriter):
    """A table whose rows appear as they are known, in columns of fixed width."""

    def __init__(self, base: LogBase, *, tokens: bool) -> None:
        super().__init__(base, tokens=tokens)
        console = out_console()
        self._sentences = Columns(_sentence_columns(LOG_NAMES[base]), console)
        self._tokens = Columns(_token_columns(LOG_NAMES[base]), console, indent=2)

    def begin(self) -> None:
        if not self.tokens:
            emit(self._sentences.header())

    def sentence(self, score: SentenceScore) -> None:
        name, text = str(score.line), shown(score.text)
        if not self.tokens:
            emit(self._sentences.row(_sum_cells(name, text, score, self.base)))
            return
        show(Text.assemble((f"{name}  ", "label"), (text, "heading")))
        emit(self._tokens.header())
        for token in score.token_scores or ():
            emit(self._tokens.row(self._token_cells(token)))
        show(_sum_line(score, self.base), "")

    def end(self, total: ScoreSum, sentences: int) -> None:
        name = f"{count(sentences)} sentence{'s' if sentences != 1 else ''}"
        if self.tokens:
            show(Text.assemble(("all  ", "label"), (name, "heading")))
            show(_sum_line(total, self.base), "")
        else:
            emit(self._sentences.rule())
            emit(self._sentences.row(_sum_cells("all", name, total, self.base)))
        show(*_footnotes(total, self.base, tokens=self.tokens))

    def _token_cells(self, token: TokenScore) -> Sequence[Cell]:
        full = min(20, self._tokens.room)
        bar = "▇" * round(min(1.0, token.surprisal / _BAR_BITS) * full)
        return (
            (visible(token.token, token.id), "unknown" if token.unknown else ""),
            (str(token.id), "label"),
            fixed(in_base(token.log_prob, self.base), 3),
            fixed(token.surprisal, 3),
            (bar, "unknown" if token.unknown else "accent"),
        )


FORMATS: Mapping[str, Callable[..., ScoreWriter]] = {
    "table": TableScores,
    "tsv": TsvScores,
    "json": JsonScores,
}


def comparison(first: ScoreSum, second: ScoreSum, base: LogBase) -> Text:
    """Which of two texts is likelier and by how much: in the base, as odds, and a token."""
    difference = first.log_prob - second.log_prob
    if difference == 0:
        return Text("Both are equally likely.")
    scores = (first, second) if difference > 0 else (second, first)
    name, log_name = "first" if difference > 0 else "second", LOG_NAMES[base]
    by = fixed(in_base(abs(difference), base), 2)
    said = Text.assemble(
        (f"The {name} is {times(abs(difference))} times likelier", "good"),
        f": its {log_name} is greater by {by}.\n",
    )
    each = [fixed(in_base(score.log_prob, base) / max(1, score.tokens), 3) for score in scores]
    said.append(f"Per token its {log_name} is {each[0]} and the other's {each[1]}")
    tokens = [count(score.tokens) for score in scores]
    over = f"{tokens[0]} and {tokens[1]}" if tokens[0] != tokens[1] else f"{tokens[0]} each"
    said.append(f" (tokens: {over}).")
    if first.unknown or second.unknown:
        said.append("\nUnknown tokens stand for anything unseen: compare with care.", "warning")
    return said


def say_totals(total: ScoreSum, sentences: int, base: LogBase) -> None:
    """The totals on stderr, for a format on stdout that has no room for them."""
    log_prob = fixed(in_base(total.log_prob, base), 2)
    say(
        Text(
            f"{count(sentences)} sentences, {count(total.tokens)} tokens, {count(total.unknown)}"
            f" unknown, {LOG_NAMES[base]} {log_prob}, perplexity {figure(total.perplexity)},"
            f" {_bits(total)} bits a character",
            style="label",
            no_wrap=True,
        )
    )


def _sentence_columns(log_name: str) -> tuple[Column, ...]:
    return (
        Column("line", 4),
        Column("text", None, right=False, least=20),
        Column(log_name, 9),
        Column("tokens", 6),
        Column("unk", 3),
        Column("perplexity", 10),
        Column("bits/char", 9),
    )


def _token_columns(log_name: str) -> tuple[Column, ...]:
    return (
        Column("token", 12, right=False),
        Column("id", 5),
        Column(log_name, 8),
        Column("bits", 7),
        Column("", None, right=False),
    )


def _sum_cells(name: str, text: str, score: ScoreSum, base: LogBase) -> Sequence[Cell]:
    perplexity = figure(score.perplexity)
    if score.unknown:
        perplexity += f"\n({figure(score.perplexity_without_unknown)})"
    return (
        (name, "label"),
        text,
        fixed(in_base(score.log_prob, base), 2),
        count(score.tokens),
        (count(score.unknown), "unknown" if score.unknown else "faint"),
        perplexity,
        (_bits(score), "warning" if score.unknown else ""),
    )


def _sum_line(score: ScoreSum, base: LogBase) -> Text:
    """What a row of sentences says, in one line."""
    log_prob = fixed(in_base(score.log_prob, base), 3)
    without = f" ({figure(score.perplexity_without_unknown)})" if score.unknown else ""
    unknown = f" ({count(score.unknown)} unknown)" if score.unknown else ""
    return Text.assemble(
        (f"  {LOG_NAMES[base]} ", "label"),
        f"{log_prob}  {count(score.tokens)}",
        (" tokens", "label"),
        (unknown, "unknown"),
        ("  perplexity ", "label"),
        f"{figure(score.perplexity)}{without}  {_bits(score)}",
        (" bits/char", "label"),
    )


def _bits(score: ScoreSum) -> str:
    return fixed(score.bits_per_character, 3) + ("*" if score.unknown else "")


def _footnotes(total: ScoreSum, base: LogBase, *, tokens: bool) -> Sequence[Text]:
    name = {"e": "e (nats)", "2": "2 (bits)", "10": "10"}[base]
    said = f"Logarithms are to base {name}. Each sentence's <EOS> is counted."
    if tokens:
        said += " A token's bits are its surprisal, -log2 p."
    notes = [Text(said, style="label")]
    if total.unknown:
        notes.append(Text("( ) without the unknown tokens, which are <UNK>.", style="warning"))
        notes.append(
            Text("* <UNK> stands for anything unseen: not comparable between models.", "warning")
        )
    return notes


def _cell(text: str) -> str:
    return shown(text.replace("\\", "\\\\"))
