"""N-best lists and references as speech recognizers write them, read line by line.

A line is ``utterance-id hypothesis``, or, separated by tabs, utterance id, acoustic score and
hypothesis, or utterance id, acoustic score, language model score and hypothesis. All lines have
the form of the first. A hypothesis may be empty.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import itemgetter

from textgen.errors import DataError

_SCORES = {0: (), 2: ("acoustic",), 3: ("acoustic", "language model")}  # by the number of tabs
_FORMS = (
    "write 'utterance-id hypothesis', or utterance-id, acoustic score, language model score and"
    " hypothesis separated by tabs"
)
_NUMBERED_ID = re.compile(r"(.+)-([1-9][0-9]*)", re.DOTALL)
_LOOK_AHEAD = 4096  # lines


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A possible transcript of an utterance, with the scores that the list has.

    Attributes:
        text: Without white space around it.
        acoustic: The recognizer's natural log-probability, however scaled.
        old_lm: That of the old language model.
    """

    id: str
    text: str
    acoustic: float | None = None
    old_lm: float | None = None

    @property
    def words(self) -> int:
        return len(self.text.split())


@dataclass(frozen=True, slots=True)
class Utterance:
    """All hypotheses of one utterance, in the order of the list."""

    id: str
    hypotheses: tuple[Hypothesis, ...]


def read_nbest(lines: Iterable[str], name: str) -> Iterator[Utterance]:
    """Read the utterances of a list, each as soon as it is complete.

    Adjacent hypotheses with the same id are an utterance. In Kaldi's lists every hypothesis has
    its own id, with increasing numbers: ``utt7-1``, ``utt7-2``; the utterance is then
    ``utt7``. The first few thousand lines decide whether a list is of this kind.

    name: of the file, for errors. Raises DataError if a line has another form than the first, an
    id or a score is missing, or the numbers of Kaldi's ids do not increase one by one.
    """
    hypotheses = _read_hypotheses(lines, name)
    head = list(islice(hypotheses, _LOOK_AHEAD))
    if not head:
        raise DataError("empty", where=name, fix="give an n-best list")
    ids = [each.id for _, each in head]
    every = chain(head, hypotheses)
    if any(_numbered(id)[1] > 1 for id in ids) and all(map(_continues, [None, *ids], ids)):
        by_utterance = _numbered_hypotheses(every, name)
    else:
        by_utterance = ((each.id, each) for _, each in every)
    for id, group in groupby(by_utterance, key=itemgetter(0)):
        yield Utterance(id, tuple(hypothesis for _, hypothesis in group))


def read_references(lines: Iterable[str], name: str) -> dict[str, str]:
    """Read the true transcript of each utterance from lines of ``utterance-id words``.

    name: of the file, for errors. Raises DataError if an id is missing or repeated, or there is
    no line.
    """
    references: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        id, text = _id_and_text(line, where)
        if id in references:
            message = f"a second reference for {id!r}"
            raise DataError(message, where=where, fix="give each utterance one")
        references[id] = text
    if not references:
        raise DataError("empty", where=name, fix="give lines of 'utterance-id words'")
    return references


def _read_hypotheses(lines: Iterable[str], name: str) -> Iterator[tuple[int, Hypothesis]]:
    """The number and the hypothesis of each line."""
    expected: int | None = None
    for number, line in enumerate(lines, start=1):
        where, tabs = f"{name}, line {number}", line.count("\t")
        expected = tabs if expected is None else expected
        if expected not in _SCORES:
            raise DataError(f"{tabs + 1} columns in an n-best list", where=where, fix=_FORMS)
        if tabs != expected:
            message = f"{tabs + 1} columns where the first line has {expected + 1}"
            raise DataError(message, where=where, fix="write all lines alike")
        if not tabs:
            yield number, Hypothesis(*_id_and_text(line, where))
            continue
        id, *cells, text = line.split("\t")
        if not id:
            raise DataError("no utterance id", where=where, fix="begin each line with one")
        if len(id.split()) != 1 or id != id.strip():
            message = f"white space in the utterance id {id!r}"
            raise DataError(message, where=where, fix="take it out")
        scores = [_score(*pair, where) for pair in zip(cells, _SCORES[tabs], strict=True)]
        yield number, Hypothesis(id, text.strip(), *scores)


def _id_and_text(line: str, where: str) -> tuple[str, str]:
    parts = line.split(maxsplit=1)
    if not parts or line[0].isspace():
        raise DataError("no utterance id", where=where, fix="begin each line with one")
    return parts[0], parts[1].strip() if len(parts) > 1 else ""


def _score(cell: str, name: str, where: str) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        message = f"{cell!r} is no {name} score" if cell.strip() else f"no {name} score"
        raise DataError(message, where=where, fix="give a finite number")
    return score


def _numbered_hypotheses(
    hypotheses: Iterable[tuple[int, Hypothesis]], name: str
) -> Iterator[tuple[str, Hypothesis]]:
    """The utterance of each hypothesis, by Kaldi's ids."""
    previous = None
    for line, hypothesis in hypotheses:
        if not _continues(previous, hypothesis.id):
            raise DataError(
                f"the id {hypothesis.id!r} does not follow {previous!r}",
                where=f"{name}, line {line}",
                fix="let each utterance's ids end in -1, -2 and so on, or give them all one id",
            )
        previous = hypothesis.id
        yield _numbered(previous)[0], hypothesis


def _continues(previous: str | None, current: str) -> bool:
    """Whether an id is the next one of an utterance, or the first of another utterance."""
    utterance, number = _numbered(current)
    before = (None, 0) if previous is None else _numbered(previous)
    return before[0] != utterance if number == 1 else before == (utterance, number - 1)


def _numbered(id: str) -> tuple[str, int]:
    """The id of the utterance and the number of the hypothesis, 0 if the id has none."""
    match = _NUMBERED_ID.fullmatch(id)
    return (match[1], int(match[2])) if match else (id, 0)
