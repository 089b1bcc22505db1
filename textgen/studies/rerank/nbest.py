"""N-best lists and references as speech recognisers write them, read line by line.

A line is ``utterance-id hypothesis``, or, separated by tabs, utterance-id, acoustic score,
hypothesis, or utterance-id, acoustic score, language model score, hypothesis. The first line
tells which, for all. A hypothesis may be empty.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice

from textgen.errors import DataError
from textgen.studies.rerank.results import Hypothesis, Utterance

_SCORES = {0: (), 2: ("acoustic",), 3: ("acoustic", "language model")}  # by the tabs in a line
_FORMS = (
    "write 'utterance-id hypothesis', or utterance-id, acoustic score, language model score and"
    " hypothesis separated by tabs"
)
_NUMBERED = re.compile(r"(.+)-([1-9][0-9]*)", re.DOTALL)
_LOOK_AHEAD = 4096

Numbered = tuple[str, int]
"""An id of Kaldi's: the utterance's, and the hypothesis's number."""


def read_nbest(lines: Iterable[str], name: str) -> Iterator[Utterance]:
    """The utterances of a list, each as soon as it is whole.

    An utterance is what lies together under one id. In Kaldi's lists every hypothesis has its
    own, which counts up: ``utt7-1``, ``utt7-2``; the utterance is then ``utt7``. Whether a list
    is Kaldi's is told from its first few thousand lines.

    name: of the file. Raises DataError, with the line, where a line is not as the first; where
    an id or a score is missing; where the numbers of Kaldi's ids do not count up.
    """
    hypotheses = _hypotheses(lines, name)
    head = list(islice(hypotheses, _LOOK_AHEAD))
    if not head:
        raise DataError("empty", where=name, fix="give an n-best list")
    whole = chain(head, hypotheses)
    if _is_kaldis([each.id for _, each in head]):
        yield from _kaldis_utterances(whole, name)
    else:
        for id, group in groupby((each for _, each in whole), key=lambda each: each.id):
            yield Utterance(id, tuple(group))


def read_references(lines: Iterable[str], name: str) -> dict[str, str]:
    """What was said in each utterance, from lines of ``utterance-id words``.

    Raises DataError, with the line, where an id is missing or comes a second time.
    """
    references: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        id, text = _without_scores(line, f"{name}, line {number}")
        if id in references:
            raise DataError(
                f"a second reference for {id!r}",
                where=f"{name}, line {number}",
                fix="give each utterance one",
            )
        references[id] = text
    if not references:
        raise DataError("empty", where=name, fix="give lines of 'utterance-id words'")
    return references


def _hypotheses(lines: Iterable[str], name: str) -> Iterator[tuple[int, Hypothesis]]:
    """Each line's number and hypothesis."""
    first: int | None = None
    for number, line in enumerate(lines, start=1):
        where, tabs = f"{name}, line {number}", line.count("\t")
        first = tabs if first is None else first
        if first not in _SCORES:
            raise DataError(f"{tabs + 1} columns in an n-best list", where=where, fix=_FORMS)
        if tabs != first:
            raise DataError(
                f"{tabs + 1} columns where the first line has {first + 1}",
                where=where,
                fix="write all lines alike",
            )
        yield number, _with_scores(line, where) if tabs else _plain(line, where)


def _plain(line: str, where: str) -> Hypothesis:
    return Hypothesis(*_without_scores(line, where))


def _without_scores(line: str, where: str) -> tuple[str, str]:
    parts = line.split(maxsplit=1)
    if not parts or line[0].isspace():
        raise DataError("no utterance id", where=where, fix="begin each line with one")
    return parts[0], parts[1].strip() if len(parts) > 1 else ""


def _with_scores(line: str, where: str) -> Hypothesis:
    id, *cells, text = line.split("\t")
    if not id:
        raise DataError("no utterance id", where=where, fix="begin each line with one")
    if len(id.split()) != 1 or id != id.strip():
        raise DataError(f"white space in the utterance id {id!r}", where=where, fix="take it out")
    names = _SCORES[len(cells) + 1]
    return Hypothesis(id, text.strip(), *map(_score, cells, names, [where] * len(cells)))


def _score(cell: str, name: str, where: str) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(
            f"no {name} score" if not cell.strip() else f"{cell!r} is no {name} score",
            where=where,
            fix="give a finite number",
        )
    return score


def _kaldis_utterances(
    hypotheses: Iterable[tuple[int, Hypothesis]], name: str
) -> Iterator[Utterance]:
    group: list[Hypothesis] = []
    before: Numbered | None = None
    for line, hypothesis in hypotheses:
        now = _numbered(hypothesis.id)
        if not _goes_on(before, now):
            raise DataError(
                f"the id {hypothesis.id!r} does not go on from {group[-1].id!r}",
                where=f"{name}, line {line}",
                fix="let each utterance's ids end in -1, -2 and so on, or give them all one id",
            )
        if before is not None and now[1] == 1:
            yield Utterance(before[0], tuple(group))
            group = []
        group.append(hypothesis)
        before = now
    if before is not None:
        yield Utterance(before[0], tuple(group))


def _is_kaldis(ids: Sequence[str]) -> bool:
    """Whether these ids count up, and some of them beyond 1."""
    numbered = [_numbered(id) for id in ids]
    pairs = zip([None, *numbered], numbered, strict=False)
    return all(_goes_on(*pair) for pair in pairs) and any(number > 1 for _, number in numbered)


def _goes_on(before: Numbered | None, now: Numbered) -> bool:
    """Whether an id is the next of an utterance, or the first of another."""
    base, number = now
    if number == 1:
        return before is None or before[0] != base
    return before == (base, number - 1)


def _numbered(id: str) -> Numbered:
    match = _NUMBERED.fullmatch(id)
    return (match[1], int(match[2])) if match else (id, 0)
