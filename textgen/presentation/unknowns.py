"""What of a text a model did not know: where, what, how often."""

from collections import Counter
from collections.abc import Iterable, Iterator

from textgen.presentation.console import note
from textgen.presentation.numbers import count
from textgen.results import ScoreSum, SentenceScore

_MOST_NAMED, _MOST_KEPT = 5, 10_000
_LONGEST_SPELT = 4  # characters of which the code points are told


class UnknownReport:
    """Gathers what is unknown as scores come, in bounded memory, and says it at the end.

    in_lines: whether a sentence's number is that of its line.
    """

    def __init__(self, *, in_lines: bool = True) -> None:
        self._in_lines = in_lines
        self._counts: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._total = ScoreSum()
        self._skipped = self._empty = self._left_out = 0

    def told(self, scores: Iterable[SentenceScore]) -> Iterator[SentenceScore]:
        """The same scores, as they come."""
        for score in scores:
            self._total += score
            self._gather(score.line, score.unknown_surfaces)
            yield score

    def skipped(self, line: int, unknown: tuple[str, ...]) -> None:
        """A sentence that was left out, because of this or because it is empty."""
        self._skipped += bool(unknown)
        self._empty += not unknown
        self._left_out += len(unknown)
        self._gather(line, unknown)

    def say(self) -> None:
        """On stderr, if there is something to say."""
        if self._empty:
            note(f"empty sentences left out: {count(self._empty)}")
        if self._skipped:
            note(f"sentences left out for something unknown: {count(self._skipped)}")
        number = self._total.unknown + self._left_out
        if not number:
            return
        said = f"unknown to the model: {count(number)}"
        if self._total.unknown:
            said += f" ({self._total.unknown / self._total.tokens:.2%} of the tokens)"
        if self._counts:
            many = "" if len(self._counts) < _MOST_KEPT else "more than "
            named = ", ".join(map(self._described, self._counts.most_common(_MOST_NAMED)))
            said += f", {many}{count(len(self._counts))} different: {named}"
        note(said)
        if not self._total.comparable:
            note("the figures leave out how that is spelt; --open-vocabulary puts it in")

    def _described(self, counted: tuple[str, int]) -> str:
        name, times = counted
        where = f", first in line {self._first[name]}" if self._in_lines else ""
        return f"{_named(name)} {times} time{'s' * (times != 1)}{where}"

    def _gather(self, line: int, unknown: tuple[str, ...]) -> None:
        for name in unknown:
            if name in self._first or len(self._first) < _MOST_KEPT:
                self._counts[name] += 1
                self._first.setdefault(name, line)


def _named(name: str) -> str:
    """What is unknown; where it is short, with its code points, which tell look-alikes apart."""
    if len(name) > _LONGEST_SPELT:
        return repr(name)
    return f"{name!r} ({' '.join(f'U+{ord(character):04X}' for character in name)})"
