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

from textgen.errors import DataError

_SCORES = {0: (), 2: ("acoustic",), 3: ("acoustic", "language model")}
"""The scores in a line by the number of its tabs."""
_FORMS = (
    "write 'utterance-id hypothesis', or utterance-id, acoustic score, language model score and"
    " hypothesis separated by tabs"
)
_NUMBERED_ID = re.compile(r"(.+)-([1-9][0-9]*)", re.DOTALL)
_LOOK_AHEAD = 4096  # lines

NumberedId = tuple[str, int]
"""The id of the utterance and the number of the hypothesis, 0 if the id has none."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A possible transcript of an utterance.

    Attributes:
        id: The id in the list.
        text: The transcript without white space around it.
        acoustic: The recognizer's natural log-probability, however scaled; None if the list has
            none.
        old_lm: That of the old language model, likewise.
    """

    id: str
    text: str
    acoustic: float | None = None
    old_lm: float | None = None

    @property
    def words(self) -> int:
        """The number of words between white space."""
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

    Args:
        name: The name of the file, for errors.

    Raises:
        DataError: A line has another form than the first, an id or a score is missing, or the
            numbers of Kaldi's ids do not increase one by one.
    """
    hypotheses = _read_hypotheses(lines, name)
    head = list(islice(hypotheses, _LOOK_AHEAD))
    if not head:
        raise DataError("empty", where=name, fix="give an n-best list")
    numbered = [_numbered(each.id) for _, each in head]
    if any(number > 1 for _, number in numbered) and all(
        map(_continues, [None, *numbered], numbered)
    ):
        yield from _kaldi_utterances(chain(head, hypotheses), name)
    else:
        each_hypothesis = (each for _, each in chain(head, hypotheses))
        for id, group in groupby(each_hypothesis, key=lambda each: each.id):
            yield Utterance(id, tuple(group))


def read_references(lines: Iterable[str], name: str) -> dict[str, str]:
    """Read the true transcript of each utterance from lines of ``utterance-id words``.

    Args:
        name: The name of the file, for errors.

    Raises:
        DataError: An id is missing or repeated, or there is no line.
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


def _kaldi_utterances(
    hypotheses: Iterable[tuple[int, Hypothesis]], name: str
) -> Iterator[Utterance]:
    group: list[Hypothesis] = []
    previous: NumberedId | None = None
    for line, hypothesis in hypotheses:
        current = _numbered(hypothesis.id)
        if not _continues(previous, current):
            raise DataError(
                f"the id {hypothesis.id!r} does not follow {group[-1].id!r}",
                where=f"{name}, line {line}",
                fix="let each utterance's ids end in -1, -2 and so on, or give them all one id",
            )
        if previous is not None and current[1] == 1:
            yield Utterance(previous[0], tuple(group))
            group = []
        group.append(hypothesis)
        previous = current
    if previous is not None:
        yield Utterance(previous[0], tuple(group))


def _continues(previous: NumberedId | None, current: NumberedId) -> bool:
    """Whether an id is the next one of an utterance, or the first of another utterance."""
    utterance, number = current
    if number == 1:
        return previous is None or previous[0] != utterance
    return previous == (utterance, number - 1)


def _numbered(id: str) -> NumberedId:
    match = _NUMBERED_ID.fullmatch(id)
    return (match[1], int(match[2])) if match else (id, 0)
