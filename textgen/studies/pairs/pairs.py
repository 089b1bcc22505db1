"""Minimal pairs: of two sentences that differ in one point, is the good one the likelier?

A pair is right where log p(good) > log p(bad), strictly, as in BLiMP (Warstadt et al. 2020): of
two equally likely sentences a model has found neither.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, tee

from textgen.errors import DataError
from textgen.results import Accuracy, Pair, PairScore

_GOOD, _BAD = "sentence_good", "sentence_bad"
_USUAL = ("UID", "linguistics_term", "field")
"""What BLiMP's pairs are grouped by, the finest first."""

Score = Callable[[Iterable[str]], Iterator[float]]
"""The log-probability of each text, in their order."""

_Reading = Callable[[str, str], dict[str, str]]
"""A line, and where it is, to what it has by name."""

_FORMS = f"give tab-separated columns {_GOOD} and {_BAD}, or JSON lines with these keys"


def read_pairs(lines: Iterable[str], name: str) -> Iterator[Pair]:
    """The pairs of a file: JSON lines such as BLiMP's, or columns separated by tabs.

    The columns have a header that names them, all but the two sentences being fields; or they
    are two, good and bad, without one. Quotes mean nothing. Of JSON the text, numbers and truth
    values are fields.

    name: of the file. Raises DataError, with the line, where a sentence is missing.
    """
    whole = iter(lines)
    first = next(whole, None)
    if first is None:
        raise DataError("empty", where=name, fix="give pairs of sentences")
    cells = first.split("\t")
    reading: _Reading
    if first.lstrip().startswith("{"):
        reading, start = _from_json, 1
    elif _GOOD in cells or _BAD in cells:
        reading, start = _columns(cells, f"{name}, line 1"), 2
    else:
        reading, start = _columns([_GOOD, _BAD], f"{name}, line 1"), 1
    rest = chain([first], whole) if start == 1 else whole
    found = False
    for number, line in enumerate(rest, start=start):
        where = f"{name}, line {number}"
        found = True
        yield _pair(number, reading(line, where), where)
    if not found:
        raise DataError("no pairs below the header", where=name, fix="give pairs of sentences")


def score_pairs(pairs: Iterable[Pair], score: Score) -> Iterator[PairScore]:
    """Each pair with the log-probabilities of its sentences, in order, as they are known."""
    waiting, to_score = tee(pairs)
    log_probs = score(side for pair in to_score for side in (pair.good, pair.bad))
    for pair in waiting:
        yield PairScore(pair, next(log_probs), next(log_probs))
    next(log_probs, None)  # raises what ended the pairs before their end


class Tally:
    """Counts the pairs that are right: all, and by what a field says of them.

    by: the field. Without it that is BLiMP's ``UID``, else ``linguistics_term``, else
    ``field``, whichever the first pair has; else there are no groups.
    """

    def __init__(self, by: str | None = None) -> None:
        self.by = by
        self.total = Accuracy()
        self.groups: dict[str, Accuracy] = {}

    def add(self, scored: PairScore) -> None:
        """Raises DataError where the pair lacks the field."""
        fields = scored.pair.fields
        if not self.total.pairs and self.by is None:
            self.by = next((name for name in _USUAL if name in fields), None)
        if self.by is not None:
            if self.by not in fields:
                raise DataError(
                    f"the pair has no {self.by!r}",
                    where=f"line {scored.pair.line}",
                    why=f"it has {', '.join(fields) or 'no fields'}",
                    fix="choose another with --by",
                )
            group = fields[self.by]
            self.groups[group] = self.groups.get(group, Accuracy()) + scored
        self.total = self.total + scored


def _from_json(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", where=where, why=str(error), fix=_FORMS) from error
    if not isinstance(record, dict):
        raise DataError("not a JSON object", where=where, fix=_FORMS)
    for name in (_GOOD, _BAD):
        if not isinstance(record.get(name, ""), str):
            raise DataError(f"{name} is not text", where=where, fix=_FORMS)
        if "\n" in record.get(name, ""):
            raise DataError(f"{name} has a newline in it", where=where, fix="give one sentence")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in record.items()
        if isinstance(value, str | int | float)
    }


def _columns(names: list[str], where: str) -> _Reading:
    """Reads rows of these columns."""
    for name in (_GOOD, _BAD):
        if names.count(name) != 1:
            raise DataError(
                f"{'no' if name not in names else 'more than one'} column {name}",
                where=where,
                fix=_FORMS,
            )

    def row(line: str, where: str) -> dict[str, str]:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise DataError(
                f"expected {len(names)} columns, found {len(cells)}", where=where, fix=_FORMS
            )
        return dict(zip(names, cells, strict=True))

    return row


def _pair(number: int, record: dict[str, str], where: str) -> Pair:
    for name in (_GOOD, _BAD):
        if not record.get(name, "").strip():
            raise DataError(f"no {name}", where=where, fix="give both sentences of each pair")
    return Pair(number, record.pop(_GOOD), record.pop(_BAD), record)
