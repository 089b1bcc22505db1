"""Minimal pairs: of two sentences that differ in one point, is the good one more probable?

A pair is right where log p(good) > log p(bad), strictly, as in BLiMP (Warstadt et al. 2020).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, tee

from textgen.errors import DataError
from textgen.results import Accuracy

_SIDES = _GOOD, _BAD = "sentence_good", "sentence_bad"
_BLIMP_GROUPS = ("UID", "linguistics_term", "field")
"""The fields by which BLiMP groups pairs, the finest first."""
_FORMS = f"give tab-separated columns {_GOOD} and {_BAD}, or JSON lines with these keys"

Score = Callable[[Iterable[str]], Iterator[float]]
"""Computes the log-probability of each text, in order."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in one point, which makes one of them good.

    line: in the file, from 1. fields: what else the file has about the pair.
    """

    line: int
    good: str
    bad: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairScore:
    """A pair and the natural log-probability of each sentence."""

    pair: Pair
    good_log_prob: float
    bad_log_prob: float

    @property
    def right(self) -> bool:
        """Whether the good sentence is more probable than the bad one."""
        return self.good_log_prob > self.bad_log_prob


def read_pairs(lines: Iterable[str], name: str) -> Iterator[Pair]:
    """Read pairs from JSON lines such as BLiMP's, or from columns separated by tabs.

    The first line of the columns names them, or there are two, good and bad, without names. All
    other columns are fields of the pair, as are text, numbers and truth values in JSON. Quotes
    have no meaning in columns. name: of the file, for errors.

    Raises DataError if a sentence is missing, or a line has another form than the first.
    """
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        raise DataError("empty", where=name, fix="give pairs of sentences")
    is_json, columns = first.lstrip().startswith("{"), first.split("\t")
    has_header = not is_json and (_GOOD in columns or _BAD in columns)
    if not has_header:
        columns, rest = [*_SIDES], chain([first], rest)
    for side in _SIDES:
        if not is_json and columns.count(side) != 1:
            how_many = "no" if side not in columns else "more than one"
            raise DataError(f"{how_many} column {side}", where=f"{name}, line 1", fix=_FORMS)
    number = None
    for number, line in enumerate(rest, start=2 if has_header else 1):
        where = f"{name}, line {number}"
        if is_json:
            fields = _read_json(line, where)
        else:
            cells = line.split("\t")
            if len(cells) != len(columns):
                message = f"expected {len(columns)} columns, found {len(cells)}"
                raise DataError(message, where=where, fix=_FORMS)
            fields = dict(zip(columns, cells, strict=True))
        for side in _SIDES:
            if not fields.get(side, "").strip():
                raise DataError(f"no {side}", where=where, fix="give both sentences of each pair")
        yield Pair(number, fields.pop(_GOOD), fields.pop(_BAD), fields)
    if number is None:
        raise DataError("no pairs below the header", where=name, fix="give pairs of sentences")


def _read_json(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", where=where, why=str(error), fix=_FORMS) from error
    if not isinstance(record, dict):
        raise DataError("not a JSON object", where=where, fix=_FORMS)
    for side in _SIDES:
        if not isinstance(record.get(side, ""), str):
            raise DataError(f"{side} is not text", where=where, fix=_FORMS)
        if "\n" in record.get(side, ""):
            raise DataError(f"{side} has a newline in it", where=where, fix="give one sentence")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in record.items()
        if isinstance(value, str | int | float)
    }


def score_pairs(pairs: Iterable[Pair], score: Score) -> Iterator[PairScore]:
    """Compute the log-probabilities of both sentences of each pair, in order and as a stream."""
    waiting, to_score = tee(pairs)
    log_probs = score(side for pair in to_score for side in (pair.good, pair.bad))
    for pair in waiting:
        yield PairScore(pair, next(log_probs), next(log_probs))
    next(log_probs, None)  # raises the error that ended the pairs before their end


@dataclass
class Tally:
    """Counts the pairs that are right, in total and by the value of a field.

    Attributes:
        by: The field. If it is None, the first pair decides: the first of ``UID``,
            ``linguistics_term`` and ``field`` that it has. If it has none there are no groups.
    """

    by: str | None = None
    total: Accuracy = field(default_factory=Accuracy)
    groups: dict[str, Accuracy] = field(default_factory=dict)

    def add(self, scored: PairScore) -> None:
        """Count a pair. Raises DataError if it lacks the field."""
        fields, tied = scored.pair.fields, scored.good_log_prob == scored.bad_log_prob
        one = Accuracy(int(scored.right), pairs=1, tied=int(tied))
        if not self.total.pairs and self.by is None:
            self.by = next((name for name in _BLIMP_GROUPS if name in fields), None)
        if self.by is not None:
            if self.by not in fields:
                raise DataError(
                    f"the pair has no {self.by!r}",
                    where=f"line {scored.pair.line}",
                    why=f"it has {', '.join(fields) or 'no fields'}",
                    fix="choose another with --by",
                )
            group = fields[self.by]
            self.groups[group] = self.groups.get(group, Accuracy()) + one
        self.total += one
