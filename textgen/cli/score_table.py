"""``textgen score --words`` and ``--column``: the rows of a table, with figures in them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from textgen.config import TableConfig
from textgen.data import lines
from textgen.data.lines import Text
from textgen.data.stimuli import Item, SentenceRows, Stimuli, WordRows
from textgen.errors import DataError, TextgenError
from textgen.presentation import console, records
from textgen.presentation.formats import Shown, UnknownReport
from textgen.presentation.formats.lines import write_totals
from textgen.results import PartScore, ScoreSum, SentenceScore

if TYPE_CHECKING:
    from textgen.checkpoint import Header
    from textgen.scoring.scorer import Skipped

Figures = dict[str, Any]
Frequencies = Mapping[str, float]


def word_figures(part: PartScore, word: str, frequencies: Frequencies) -> Figures:
    """What is added to the row of a word: bits, nats, a count, 1 or 0, a count, nats."""
    return {
        "surprisal": part.surprisal,
        "log_prob": part.log_prob,
        "tokens": part.tokens,
        "unknown": part.unknown,
        "characters": len(word),
        "log_frequency": frequencies.get(word),
    }


def sentence_figures(score: SentenceScore) -> Figures:
    """What is added to the row of a sentence: bits, then what TSV has of sentences."""
    bits = {} if score.pseudo else {"surprisal": score.surprisal}
    return bits | records.sums(score)


def region_figures(part: PartScore) -> Figures:
    figures = word_figures(part, part.text, {})
    return {f"region_{name}": figures[name] for name in list(figures)[:4]}


_NO_PART = PartScore("", "", 0.0)


def figure_names(stimuli: Stimuli, *, pseudo: bool = False) -> list[str]:
    """The names of the columns that are added to a table."""
    if isinstance(stimuli, WordRows):
        return list(word_figures(_NO_PART, "", {}))
    has_region = isinstance(stimuli, SentenceRows) and stimuli.has_region
    region = region_figures(_NO_PART) if has_region else {}
    return [*sentence_figures(SentenceScore(pseudo=pseudo)), *region]


def check_names(stimuli: Stimuli, *, unique: bool) -> None:
    """Refuse a table that has the name of a figure.

    Args:
        unique: Whether two columns of the table may not have one name either.

    Raises:
        DataError: The column is named.
    """
    taken = {*figure_names(stimuli), *figure_names(stimuli, pseudo=True)}
    for name in stimuli.table.header:
        if name in taken:
            raise DataError(
                f"the column {name!r} is there already",
                where=f"{stimuli.table.name}, line 1",
                why="a row that is written has one of each name",
                fix="rename it",
            )
        taken |= {name} if unique else set()


def read_stimuli(rows: Iterable[str], name: str, config: TableConfig) -> Stimuli:
    """The texts of a table. rows: the lines of the file of this name."""
    if config.column is not None:
        prefix, region = config.prefix_column, config.region
        return SentenceRows(rows, name, column=config.column, prefix=prefix, region=region)
    assert config.words is not None
    if config.by is None:
        console.note("all rows are one text; --by COLUMN makes one of the rows of each item")
    separator = " " if config.separator is None else config.separator
    return WordRows(rows, name, words=config.words, by=config.by, separator=separator)


def score_table(
    stimuli: Stimuli,
    scores: Callable[..., Iterable[SentenceScore]],
    shown: Shown,
    header: "Header",
) -> None:
    """Score the items of a table, and write its rows as they are scored, then the totals.

    Args:
        scores: ``LanguageModel.scores`` with its configuration.
        shown: Its sink is opened and closed by the caller.
        header: Of the checkpoint, which names the training text.
    """
    assert shown.sink is not None
    # An item of words has the line of its first row, which is not that of an unknown word in it.
    unknown = UnknownReport(in_lines=isinstance(stimuli, SentenceRows))
    items: Iterable[Item] = stimuli.items()
    frequencies: Frequencies = {}
    if isinstance(stimuli, WordRows):
        items = list(items)  # so that the frequencies of its words alone are counted
        frequencies = _frequencies(items, header, spaced=stimuli.separator.isspace())
    writer = _RowWriter(stimuli, shown, frequencies)
    waiting = deque[Item]()

    def texts() -> Iterator[Text]:
        for item in items:
            waiting.append(item)
            yield item.text

    def skip(skipped: "Skipped") -> None:
        unknown.skipped(skipped.given.line, skipped.unknown)
        writer.write(waiting.popleft(), None)

    total, number = ScoreSum(), 0
    try:
        for score in unknown.counted(scores(lines.arriving(texts()), on_skip=skip)):
            writer.write(waiting.popleft(), score)
            total, number = total + score, number + 1
    except TextgenError:
        if writer.line and shown.sink.is_stdout:
            console.note(f"the scores end after line {writer.line}")
        raise
    shown.sink.end()
    write_totals(total, number, shown)
    unknown.say()


def _frequencies(items: Iterable[Item], header: "Header", *, spaced: bool) -> Frequencies:
    """The log-frequencies of the words; none, and a note, where the training text is gone."""
    from textgen.data.training_text import log_frequencies, training_text

    words = {word for item in items for word in item.words}
    console.detail("counting the words of the training text")
    try:
        pieces = training_text(header.source, header.training, header.corpus)
        return log_frequencies(pieces, words, spaced=spaced)
    except TextgenError as error:
        console.note(f"log_frequency is empty: {error.for_command(())}")
        return {}


class _RowWriter:
    """Writes the rows of items. line: the last that was written."""

    def __init__(self, stimuli: Stimuli, shown: Shown, frequencies: Frequencies) -> None:
        assert shown.sink is not None
        self._sink, self._at_once = shown.sink, shown.at_once
        self._in_words, self._frequencies = isinstance(stimuli, WordRows), frequencies
        self._header = stimuli.table.header
        self._names = figure_names(stimuli, pseudo=shown.pseudo)
        self.line = 0

    def write(self, item: Item, score: SentenceScore | None) -> None:
        """Write the rows of an item. score: None if it was skipped."""
        if not self.line:
            types = records.score_types(self._names, of_parts=self._in_words)
            self._sink.begin([*((name, str) for name in self._header), *types.items()])
        figures = [Figures()] * len(item.rows) if score is None else self._figures(item, score)
        rows = [
            [*row.cells, *map(known.get, self._names)]
            for row, known in zip(item.rows, figures, strict=True)
        ]
        self._sink.write(rows)
        self.line = item.rows[-1].line
        if self._at_once:
            console.finish_output()

    def _figures(self, item: Item, score: SentenceScore) -> list[Figures]:
        parts = score.parts or ()
        if self._in_words:
            pairs = zip(parts, item.words, strict=True)
            return [word_figures(part, word, self._frequencies) for part, word in pairs]
        return [sentence_figures(score) | (region_figures(parts[1]) if item.words else {})]
