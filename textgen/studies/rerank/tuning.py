"""The weights at which the best of each list make the fewest errors, found along lines.

A total is linear in the weights, so along any line through them the errors of the best
hypotheses are a step function, known exactly from where totals cross (Och 2003, "Minimum Error
Rate Training in Statistical Machine Translation"). From the best places of a coarse grid the
search goes along one line after another, to the best place on it, until none is better.

The weights at which reranking makes the fewest word errors on utterances that are known.

The words that each hypothesis has wrong are counted once, before any weight is tried.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from textgen.errors import DataError, UsageError, named
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.mixing import Score, mixed_score, total_score
from textgen.studies.rerank.results import Hypothesis, TuningResult, Utterance

Array = npt.NDArray[np.float64]

_MOST_SCALE, _MOST_PENALTY = 100.0, 1000.0
_WEIGHTS, _SCALES = (0.0, 0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_WORDS_WORTH = (0.0, 0.5, 1.0)  # how much of what a word costs the grid's penalties give back
_BEST_OF_GRID = 4
_RANDOM_LINES = 8
_FARTHEST_IN = 0.5  # how far into a wide interval a line is followed
_IMPOSSIBLE = -1e30  # for a log-probability of -inf: infinities have no differences


@dataclass(frozen=True)
class Found:
    """Weights, and the errors that the best hypotheses make by them."""

    weights: RerankingConfig
    errors: int


@dataclass(frozen=True)
class Table:
    """Of every hypothesis its scores and errors, in arrays of (utterances, hypotheses).

    Where an utterance has fewer hypotheses than another, ``there`` is false.
    """

    acoustic: Array
    old: Array
    new: Array
    words: Array
    wrong: npt.NDArray[np.int64]
    there: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, utterances: Sequence[Utterance], new: Iterable[float], errors: Iterable[int]
    ) -> "Table":
        lengths = np.array([len(each.hypotheses) for each in utterances])
        there = np.arange(lengths.max()) < lengths[:, None]
        flat = [one for each in utterances for one in each.hypotheses]

        def laid_out(values: Iterable[float], dtype: Any = np.float64) -> npt.NDArray[Any]:
            array = np.zeros(there.shape, dtype)
            array[there] = np.fromiter(values, dtype, count=len(flat))
            return array

        return cls(
            acoustic=laid_out(each.acoustic or 0.0 for each in flat),
            old=laid_out(each.lm or 0.0 for each in flat),
            new=np.maximum(laid_out(new), _IMPOSSIBLE),
            words=laid_out(each.words for each in flat),
            wrong=laid_out(errors, np.int64),
            there=there,
        )

    def totals(self, weights: RerankingConfig) -> Array:
        assert weights.weight is not None
        lm = mixed_score(self.old, self.new, weights.weight)
        return total_score(self.acoustic, lm, self.words, weights)

    def errors(self, weights: RerankingConfig) -> int:
        """Of the best hypotheses together; of equals the first, as in reranking."""
        best = np.where(self.there, self.totals(weights), -np.inf).argmax(axis=1)
        return int(self.wrong[np.arange(len(best)), best].sum())

    def line(self, weights: RerankingConfig, direction: Array) -> tuple[Array, Array]:
        """The totals at these weights, and what each gains along a direction of ``_point``."""
        gained = direction[0] * self.old + direction[1] * self.new + direction[2] * self.words
        at = np.where(self.there, self.totals(weights), -np.inf)
        return at, np.where(self.there, gained, 0.0)


def _point(weights: RerankingConfig) -> Array:
    """What the old score, the new one and each word are multiplied by in the total."""
    assert weights.weight is not None
    shares = np.array([1 - weights.weight, weights.weight])
    return np.append(shares * weights.lm_scale, weights.length_penalty)


def _weights(point: Array, otherwise: RerankingConfig) -> RerankingConfig:
    """The weights of a point; where neither model counts, the share is as it was."""
    old, new, penalty = point.tolist()
    share = new / (old + new) if old + new > 0 else otherwise.weight
    return RerankingConfig(share, old + new, penalty)


def grid(table: Table, first: Hypothesis) -> Iterator[RerankingConfig]:
    """Places all over, as far as they make a difference for a list like this."""
    if first.acoustic is None:
        return  # one line goes through all there is
    possible = table.there & (table.new > _IMPOSSIBLE)
    worth = -float(table.new[possible].sum() / max(1.0, table.words[possible].sum()))
    weights = _WEIGHTS if first.lm is not None else (1.0,)
    for weight, scale, part in product(weights, _SCALES, _WORDS_WORTH):
        yield RerankingConfig(weight, scale, min(part * scale * worth, _MOST_PENALTY))


def search(
    table: Table, settled: RerankingConfig, others: Iterable[RerankingConfig], first: Hypothesis
) -> Found:
    """The best weights on the lines from ``settled`` and from the best of the others.

    Never worse than any of them, and ``settled`` where none is better. first: any hypothesis;
    it tells which scores the list has.
    """
    chance = np.random.default_rng(0)  # the same lines each time
    starts = [Found(each, table.errors(each)) for each in (settled, *others)]
    best = starts[0]
    ordered = sorted(starts[1:], key=lambda each: each.errors)
    for start in [starts[0], *ordered[:_BEST_OF_GRID]]:
        found, before = start, None
        while found != before:
            before = found
            for direction in _directions(found.weights, first, chance):
                found = _along(table, found, direction)
        best = min(best, found, key=lambda each: each.errors)
    return _shortened(table, best) if best.weights != settled else best


def _shortened(table: Table, found: Found) -> Found:
    """With fewer digits, where that makes no more errors."""
    for digits in (6, 3):
        values = [float(f"{each:.{digits}g}") for each in dataclasses.astuple(found.weights)]
        short = RerankingConfig(*values)
        found = min(Found(short, table.errors(short)), found, key=lambda each: each.errors)
    return found


def _directions(
    weights: RerankingConfig, first: Hypothesis, chance: np.random.Generator
) -> Iterator[Array]:
    """Lines to follow: of each weight alone, of all against the acoustic score, and others."""
    point, scale = _point(weights), max(weights.lm_scale, 0.1)
    if first.acoustic is None:
        yield np.array([0.0, 0.0, 1.0])
        return
    assert weights.weight is not None
    matters = np.array([first.lm is not None, True, True])
    if first.lm is not None:
        yield np.array([-scale, scale, 0.0])
    yield np.array([scale * (1 - weights.weight), scale * weights.weight, 0.0])
    yield np.array([0.0, 0.0, 1.0])
    yield point
    for _ in range(_RANDOM_LINES):
        drawn = chance.standard_normal(3) * [scale, scale, max(abs(point[2]), scale)]
        yield np.where(matters, drawn, 0.0)


def _along(table: Table, found: Found, direction: Array) -> Found:
    """The best place on a line, if it is better than where we are."""
    point = _point(found.weights)
    low, high = _room(point, direction)
    if not low < high:
        return found
    places, errors = errors_along(table, found.weights, direction, low, high)
    fewest = errors.min()
    if fewest >= found.errors:
        return found
    lows, highs = places[:-1], places[1:]
    distance = np.where(errors == fewest, np.maximum(lows, -highs), np.inf)
    nearest = int(distance.argmin())
    moved = point + _inside(float(lows[nearest]), float(highs[nearest])) * direction
    moved[:2] = np.maximum(moved[:2], 0.0)  # rounding
    weights = _weights(moved, found.weights)
    # Counted anew: where lines all but touch, rounding may have them cross elsewhere.
    return min(found, Found(weights, table.errors(weights)), key=lambda each: each.errors)


def _room(point: Array, direction: Array) -> tuple[float, float]:
    """How far back and forth a direction can be followed from a point."""
    most = np.array([_MOST_SCALE, _MOST_SCALE, _MOST_PENALTY])
    least = np.array([0.0, 0.0, -_MOST_PENALTY])
    moving = direction != 0
    if not moving.any() or (point < least).any() or (point > most).any():
        return 0.0, 0.0
    ends = np.stack([least - point, most - point])[:, moving] / direction[moving]
    return float(ends.min(axis=0).max()), float(ends.max(axis=0).min())


def errors_along(
    table: Table, weights: RerankingConfig, direction: Array, low: float, high: float
) -> tuple[Array, npt.NDArray[np.int64]]:
    """The errors of the best hypotheses along a line through weights, as a step function.

    direction: of the line, as what the old score, the new one and each word are multiplied by.
    Returns the ends of the function's intervals, from ``low`` to ``high`` times the direction,
    and the errors in each. All utterances go along the line at once, each from one best
    hypothesis to the next.
    """
    at_0, slope = table.line(weights, direction)
    rows = np.arange(len(at_0))
    best = (at_0 + low * slope).argmax(axis=1)
    errors = int(table.wrong[rows, best].sum())
    places, changes = [np.array([low])], [np.array([0])]
    place = np.full(len(rows), low)
    while len(rows):
        gained = slope[rows] - slope[rows, best][:, None]
        behind = at_0[rows, best][:, None] - at_0[rows]
        crossing = np.full(gained.shape, np.inf)
        np.divide(behind, gained, out=crossing, where=gained > 0)
        first = crossing.min(axis=1)
        then = crossing.argmin(axis=1)
        on = np.flatnonzero(first < high)
        rows, before, best = rows[on], best[on], then[on]
        place = np.maximum(first[on], place[on])
        places.append(place)
        changes.append(table.wrong[rows, best] - table.wrong[rows, before])
    return _merged(np.concatenate(places), errors, np.concatenate(changes), high)


def _merged(
    places: Array, errors: int, changes: npt.NDArray[np.int64], high: float
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Changes in any order as a step function whose neighbouring steps differ."""
    starts, group = np.unique(places, return_inverse=True)
    change = np.zeros(len(starts), np.int64)
    np.add.at(change, group, changes)
    change[0] += errors
    kept = (change != 0) | (np.arange(len(starts)) == 0)
    return np.append(starts[kept], high), np.cumsum(change)[kept]


def _inside(low: float, high: float) -> float:
    """A place well inside an interval: its middle, or not far in from the end nearer to 0."""
    depth = min((high - low) / 2, _FARTHEST_IN)
    return low + depth if low >= 0 else high - depth


_COMPARED = 1024  # hypotheses whose alignments are held at once


def tune(
    utterances: Iterable[Utterance],
    references: Mapping[str, str],
    score: Score,
    config: RerankingConfig | None = None,
) -> TuningResult:
    """The weights that minimise the word error rate of the best hypotheses.

    references: what was said, by utterance. config: where the search begins; it stays there
    unless fewer errors are found. What the list has no use for is left as it is: ``weight``
    without old scores, ``lm_scale`` without acoustic ones. All utterances are held in memory.

    The result is the same each time, and on these utterances never worse than the old scores.
    Raises DataError where utterances and references are not the same; UsageError where
    ``jiwer``, which counts the errors, is not installed.
    """
    config = config or RerankingConfig()
    heard = list(utterances)
    _check_ids([each.id for each in heard], references)
    words = sum(len(references[each.id].split()) for each in heard)
    if not words:
        raise DataError("no words in the references", fix="give what was said")
    first = heard[0].hypotheses[0]
    before, settled = _old_scores_alone(first, config), config.settled(old=first.lm is not None)
    said = [references[each.id] for each in heard for _ in each.hypotheses]
    # Before the scores, which take long, so that nothing is found missing after them.
    errors = _word_errors(said, [one.text for each in heard for one in each.hypotheses])
    new = score(one.text for each in heard for one in each.hypotheses)
    table = Table.of(heard, new, errors)
    best = search(table, settled, [before, *grid(table, first)], first)
    wer_before, wer_after = table.errors(before) / words, best.errors / words
    return TuningResult(best.weights, wer_before, wer_after, words, len(heard))


def _check_ids(ids: Sequence[str], references: Mapping[str, str]) -> None:
    if not ids:
        raise DataError("empty", where="n-best list", fix="give an n-best list")
    known = Counter(ids)
    twice = [id for id, times in known.items() if times > 1]
    for what, found, fix in (
        ("hypotheses in two places of the list", twice, "put each utterance's together"),
        ("no reference", [id for id in ids if id not in references], "give one for each utterance"),
        (
            "references for utterances that are not in the list",
            [id for id in references if id not in known],
            "leave them out",
        ),
    ):
        if found:
            raise DataError(f"{what}: {named(found)}", fix=fix)


def _word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """The words to be put in, left out and replaced to make each hypothesis its reference."""
    try:
        import jiwer
    except ImportError as error:
        raise UsageError(
            "--tune needs the package jiwer",
            why="it is not installed",
            fix="pip install 'textgen[rerank]'",
        ) from error
    # With one space between words, so that all count the same words.
    said = [" ".join(text.split()) for text in references]
    heard = [" ".join(text.split()) for text in hypotheses]
    errors: list[int] = []
    for start in range(0, len(said), _COMPARED):
        part = slice(start, start + _COMPARED)
        for chunks in jiwer.process_words(said[part], heard[part]).alignments:
            wrong = [each for each in chunks if each.type != "equal"]
            left_out = [each.ref_end_idx - each.ref_start_idx for each in wrong]
            put_in = [each.hyp_end_idx - each.hyp_start_idx for each in wrong]
            errors.append(sum(map(max, left_out, put_in)))
    return errors


def _old_scores_alone(first: Hypothesis, config: RerankingConfig) -> RerankingConfig:
    """What a list was ordered by; without old scores, the new model alone."""
    if first.lm is not None:
        return dataclasses.replace(config, weight=0.0, length_penalty=0.0)
    scale = config.lm_scale if first.acoustic is None else 0.0
    return RerankingConfig(weight=1.0, lm_scale=scale)
