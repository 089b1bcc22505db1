"""Layouts of scores: their registry, their interface, and what several of them use."""

import math
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text

from textgen.config import LogBase, ScoreLevel
from textgen.metrics import in_base
from textgen.presentation.console import note, say
from textgen.presentation.numbers import count, figure, fixed, label
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

if TYPE_CHECKING:
    from textgen.presentation.formats.lines import Sink

FORMATS: Mapping[str, str] = {
    "table": "table:TableScores",
    "csv": "lines:CsvScores",
    "tsv": "lines:TsvScores",
    "parquet": "lines:ParquetScores",
    "json": "lines:JsonScores",
    "heatmap": "table:HeatMapScores",
    "kenlm": "other_tools:KenlmScores",
    "lm-zoo": "other_tools:LmZooScores",
    "neural-complexity": "other_tools:NeuralComplexityScores",
    "theanolm": "other_tools:TheanolmScores",
}
"""Module and class of each layout. The module is imported when the layout is chosen."""

TIDY_FORMATS = ("csv", "tsv", "parquet")
"""Those that are tables for data frames, and can go into a file."""

ADAPTED = "the model was updated while scoring: not the figures of the trained weights"


def score_writer(name: str) -> "type[ScoreWriter]":
    module, _, cls = FORMATS[name].partition(":")
    found: type[ScoreWriter] = getattr(import_module(f"{__name__}.{module}"), cls)
    return found


@dataclass(frozen=True)
class Shown:
    """How scores are shown: logarithms to this base, parts of this level."""

    base: LogBase = math.e
    level: ScoreLevel = "sentence"
    eos: bool = True  # whether the ``<EOS>`` of each sentence is counted
    prefixed: bool = False  # whether texts continue a prefix, which is shown beside them
    adapted: bool = False  # whether the model was updated on the text while scoring it
    pseudo: bool = False  # whether log-probabilities are pseudo-log-probabilities
    at_once: bool = False  # whether each sentence is shown as it comes, none waits for another
    sink: "Sink | None" = None  # where the rows of a table go; None: to stdout
    totals: str | None = None  # the file for its totals; None: stderr

    def log(self, log_prob: float) -> float:
        return in_base(log_prob, self.base)

    @property
    def base_name(self) -> str:
        return "e" if self.base == math.e else repr(float(self.base)).removesuffix(".0")

    @property
    def log_name(self) -> str:
        """``ln p``, ``log2 p``, ``pseudo ln p``."""
        return self.label("ln p" if self.base == math.e else f"log{self.base_name} p")

    def label(self, name: str) -> str:
        return label(name, pseudo=self.pseudo)


class ScoreWriter(ABC):
    """Writes scores one by one, so that a long input needs no memory and shows at once."""

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")
    """Those that it can show, its default first."""
    shows_pseudo: ClassVar[bool] = False
    """Whether it names pseudo-log-probabilities as such."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown

    def begin(self) -> None:
        """Write what stands above the first sentence."""
        return

    @abstractmethod
    def sentence(self, score: SentenceScore) -> None:
        """Write a sentence. It has parts unless the level is ``sentence``."""

    def flush(self) -> None:
        """Write the sentences that wait for others."""
        return

    def end(self, total: ScoreSum, sentences: int) -> None:
        """Write the totals: to stderr, where the layout has no room for them."""
        say_totals(total, sentences, self.shown)


def say_totals(total: ScoreSum, sentences: int, shown: Shown) -> None:
    """Write the totals to stderr, in one line."""
    bits = "" if total.pseudo else f", {bits_per_character(total)} bits per character"
    totals = (
        f"{sentence_count(sentences)}, {count(total.tokens)} tokens, {count(total.unknown)}"
        f" unknown, {shown.log_name} {fixed(shown.log(total.log_prob), 2)},"
        f" {shown.label('perplexity')} {figure(total.perplexity)}{bits}"
    )
    say(Text(totals, style="label", no_wrap=True))


def part_name(part: PartScore) -> str:
    """A part as in tables, without white space; a text that spells ``<EOS>`` is escaped."""
    return "<EOS>" if part.ends else visible(part.text, -1 if part.id is None else part.id)


def bits_per_character(score: ScoreSum) -> str:
    """Bits per character, starred where they do not compare between models."""
    return fixed(score.bits_per_character, 3) + ("" if score.comparable else "*")


def sentence_count(sentences: int) -> str:
    return f"{count(sentences)} sentence{'' if sentences == 1 else 's'}"


_MOST_NAMED, _MOST_COUNTED = 5, 10_000
_MOST_CODES = 4  # of one name


class UnknownReport:
    """Counts unknown words or characters in bounded memory, and reports them at the end.

    Args:
        in_lines: Whether the number of a sentence is that of its line.
    """

    def __init__(self, *, in_lines: bool = True) -> None:
        self._in_lines = in_lines
        self._counts: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._total = ScoreSum()
        self._skipped = self._empty = self._left_out = 0

    def counted(self, scores: Iterable[SentenceScore]) -> Iterator[SentenceScore]:
        """The same scores, as they come."""
        for score in scores:
            self._total += score
            self._count(score.line, score.unknown_texts)
            yield score

    def skipped(self, line: int, unknown: tuple[str, ...]) -> None:
        """A sentence that was skipped because it has unknown tokens or is empty."""
        self._skipped += bool(unknown)
        self._empty += not unknown
        self._left_out += len(unknown)
        self._count(line, unknown)

    def _count(self, line: int, unknown: tuple[str, ...]) -> None:
        for name in unknown:
            if name in self._first or len(self._first) < _MOST_COUNTED:
                self._counts[name] += 1
                self._first.setdefault(name, line)

    def say(self) -> None:
        """Write notes to stderr, if anything was unknown or skipped."""
        if self._empty:
            note(f"empty sentences skipped: {count(self._empty)}")
        if self._skipped:
            note(f"sentences with unknown tokens skipped: {count(self._skipped)}")
        number = self._total.unknown + self._left_out
        if not number:
            return
        message = f"unknown to the model: {count(number)}"
        if self._total.unknown:
            message += f" ({self._total.unknown / self._total.tokens:.2%} of the tokens)"
        named = []
        for name, times in self._counts.most_common(_MOST_NAMED):
            unclear = [each for each in name if _looks_like_another(each)]
            if len(name) == 1 and not name.isascii():
                unclear = [name]
            codes = " ".join(f"U+{ord(each):04X}" for each in unclear)
            spelled = f" ({codes})" if 0 < len(unclear) <= _MOST_CODES else ""
            where = f", first in line {self._first[name]}" if self._in_lines else ""
            named.append(f"{name!r}{spelled} {times} time{'s' * (times != 1)}{where}")
        if named:
            many = "" if len(self._counts) < _MOST_COUNTED else "more than "
            message += f", {many}{count(len(self._counts))} different: {', '.join(named)}"
        note(message)
        if not self._total.comparable:
            note("the figures exclude the spelling of unknown words; --open-vocabulary includes it")


def _looks_like_another(character: str) -> bool:
    """Whether sight does not tell a character: it is no plain Latin letter, and not ASCII.

    >>> [_looks_like_another(each) for each in "bé\N{CYRILLIC SMALL LETTER A}\N{EN DASH}"]
    [False, False, True, True]
    """
    plain = unicodedata.name(character, "").startswith("LATIN ")
    is_plain_letter = plain and unicodedata.is_normalized("NFKC", character)
    return not (character.isascii() or is_plain_letter)
