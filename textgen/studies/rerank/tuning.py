"""The weights of reranking with the fewest word errors on utterances whose transcript is known.

A total is linear in the weights, so along any line through them the errors of the best
hypotheses are a step function, known exactly from where totals cross (Och 2003, "Minimum Error
Rate Training in Statistical Machine Translation"). From the best points of a coarse grid the
search follows one line after another, to the best point on it, until none is better. The word
errors of each hypothesis are counted once, before the search.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from textgen.errors import DataError, missing_package, quoted
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.nbest import Utterance
from textgen.studies.rerank.reranking import Score, mixed_score, total_score

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_LARGEST_SCALE, _LARGEST_PENALTY = 100.0, 1000.0
_GRID_WEIGHTS, _GRID_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_GRID_PENALTIES = (0.0, 0.5, 1.0)  # shares of the mean cost of a word
_BEST_OF_GRID = 4
_RANDOM_LINES = 8
_FARTHEST_INSIDE = 0.5  # how far inside a wide interval the chosen point is
_IMPOSSIBLE = -1e30  # in place of a log-probability of -inf: infinities have no differences


@dataclass(frozen=True)
class TuningResult:
    """The weights at which the best hypotheses have the fewest word errors.

    Attributes:
        wer_before: The word error rate of the best by the old scores or, in a list without any,
            by the new language model alone; as a share of the words of the references.
        wer_after: That of the best by ``weights``.
        words: Of the references.
    """

    weights: RerankingConfig
    wer_before: float
    wer_after: float
    words: int
    utterances: int


@dataclass(frozen=True)
class Table:
    """The scores and the word errors of every hypothesis, (utterances, hypotheses) each.

    exists: False where an utterance has fewer hypotheses than another.
    """

    acoustic: Array
    old_lm: Array
    new_lm: Array
    words: Array
    word_errors: Counts
    exists: npt.NDArray[np.bool_]
    has_acoustic: bool
    has_old_lm: bool

    @classmethod
    def of(
        cls, utterances: Sequence[Utterance], new: Iterable[float], word_errors: Iterable[int]
    ) -> "Table":
        """The table of a list, with the new model's scores and the errors of each hypothesis."""
        lengths = np.array([len(each.hypotheses) for each in utterances])
        exists = np.arange(lengths.max()) < lengths[:, None]
        flat = [one for each in utterances for one in each.hypotheses]

        def laid_out(values: Iterable[float], dtype: Any = np.float64) -> npt.NDArray[Any]:
            array = np.zeros(exists.shape, dtype)
            array[exists] = np.fromiter(values, dtype, count=len(flat))
            return array

        return cls(
            acoustic=laid_out(each.acoustic or 0.0 for each in flat),
            old_lm=laid_out(each.old_lm or 0.0 for each in flat),
            new_lm=np.maximum(laid_out(new), _IMPOSSIBLE),
            words=laid_out(each.words for each in flat),
            word_errors=laid_out(word_errors, np.int64),
            exists=exists,
            has_acoustic=flat[0].acoustic is not None,
            has_old_lm=flat[0].old_lm is not None,
        )

    def totals(self, weights: RerankingConfig) -> Array:
        lm = mixed_score(self.old_lm, self.new_lm, weights)
        totals = total_score(self.acoustic, lm, self.words, weights)
        return np.where(self.exists, totals, -np.inf)

    def errors(self, weights: RerankingConfig) -> int:
        """The word errors of the best hypotheses together; of equals the first is the best."""
        best = self.totals(weights).argmax(axis=1)
        return int(self.word_errors[np.arange(len(best)), best].sum())


def tune(
    utterances: Iterable[Utterance],
    references: Mapping[str, str],
    score: Score,
    config: RerankingConfig,
) -> TuningResult:
    """Find the weights that minimise the word error rate of the best hypotheses.

    The result is deterministic, and on these utterances never worse than the old scores. All
    utterances are held in memory.

    Args:
        references: The true transcript by utterance.
        config: Where the search begins, and the result unless fewer errors are found. What the
            list cannot determine is unchanged: ``weight`` without old scores, ``lm_scale``
            without acoustic ones.

    Raises DataError if utterances and references are not the same, or the references have no
    words, and UsageError if ``jiwer``, which counts the errors, is not installed.
    """
    listed = list(utterances)
    _check_ids([each.id for each in listed], references)
    words = sum(len(references[each.id].split()) for each in listed)
    if not words:
        raise DataError("no words in the references", fix="give the true transcripts")
    first = listed[0].hypotheses[0]
    start = config.resolved(has_old_lm=first.old_lm is not None)
    transcripts = [references[each.id] for each in listed for _ in each.hypotheses]
    hypotheses = [one.text for each in listed for one in each.hypotheses]
    # Counted before the scores, which take long, so that a missing package is noticed early.
    word_errors = _count_word_errors(transcripts, hypotheses)
    table = Table.of(listed, score(hypotheses), word_errors)
    if first.old_lm is not None:
        before = dataclasses.replace(config, weight=0.0, length_penalty=0.0)
    else:
        before = RerankingConfig(1.0, config.lm_scale if first.acoustic is None else 0.0)
    best = search(table, start, [before, *_grid(table)])
    wer_before, wer_after = table.errors(before) / words, table.errors(best) / words
    return TuningResult(best, wer_before, wer_after, words, len(listed))


def _check_ids(ids: Sequence[str], references: Mapping[str, str]) -> None:
    if not ids:
        raise DataError("empty", where="n-best list", fix="give an n-best list")
    counts = Counter(ids)
    repeated = [id for id, times in counts.items() if times > 1]
    missing = [id for id in ids if id not in references]
    surplus = [id for id in references if id not in counts]
    for what, found, fix in (
        ("hypotheses in two places of the list", repeated, "put each utterance's together"),
        ("no reference", missing, "give one for each utterance"),
        ("references for utterances that are not in the list", surplus, "leave them out"),
    ):
        if found:
            raise DataError(f"{what}: {quoted(found)}", fix=fix)


def _count_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """The insertions, deletions and substitutions between each hypothesis and its reference."""
    try:
        import jiwer
    except ImportError as error:
        raise missing_package("--tune", "jiwer", "rerank") from error
    errors: list[int] = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        # With one space between words, so that words are the same for jiwer as elsewhere.
        spoken, recognized = " ".join(reference.split()), " ".join(hypothesis.split())
        found = jiwer.process_words(spoken, recognized)
        errors.append(found.insertions + found.deletions + found.substitutions)
    return errors


def _grid(table: Table) -> Iterator[RerankingConfig]:
    """Points all over, as far as they can make a difference for this list."""
    if not table.has_acoustic:
        return  # a single line covers all weights that matter
    possible = table.exists & (table.new_lm > _IMPOSSIBLE)
    cost_of_word = -float(table.new_lm[possible].sum() / max(1.0, table.words[possible].sum()))
    weights = _GRID_WEIGHTS if table.has_old_lm else (1.0,)
    for weight, scale, part in product(weights, _GRID_SCALES, _GRID_PENALTIES):
        yield RerankingConfig(weight, scale, min(part * scale * cost_of_word, _LARGEST_PENALTY))


def search(
    table: Table, start: RerankingConfig, others: Iterable[RerankingConfig]
) -> RerankingConfig:
    """The best weights on the lines from ``start`` and from the best of the others.

    Never worse than any of them, and ``start`` if none is better.
    """
    generator = np.random.default_rng(0)  # the same lines each time
    errors = functools.cache(table.errors)
    best = start
    for origin in [start, *sorted(others, key=errors)[:_BEST_OF_GRID]]:
        found, before = origin, None
        while found != before:
            before = found
            for direction in _directions(table, found, generator):
                along = _best_along(table, found, errors(found), direction)
                # Counted again: where lines nearly touch, rounding can move their crossing.
                found = min(found, along, key=errors)
        best = min(best, found, key=errors)
    if best == start:
        return best
    for digits in (6, 3):  # with fewer digits, if that makes no more errors
        rounded = (float(f"{each:.{digits}g}") for each in dataclasses.astuple(best))
        best = min(RerankingConfig(*rounded), best, key=errors)
    return best


def _point(weights: RerankingConfig) -> Array:
    """The factors of the old score, the new score and the number of words in the total."""
    weight, scale, penalty = dataclasses.astuple(weights)
    return np.array([(1 - weight) * scale, weight * scale, penalty])


def _directions(
    table: Table, weights: RerankingConfig, generator: np.random.Generator
) -> Iterator[Array]:
    """The lines to follow: each weight alone, all against the acoustic score, and random ones."""
    if not table.has_acoustic:
        yield np.array([0.0, 0.0, 1.0])
        return
    point, scale = _point(weights), max(weights.lm_scale, 0.1)
    assert weights.weight is not None
    if table.has_old_lm:
        yield np.array([-scale, scale, 0.0])
    yield np.array([scale * (1 - weights.weight), scale * weights.weight, 0.0])
    yield np.array([0.0, 0.0, 1.0])
    yield point
    for _ in range(_RANDOM_LINES):
        drawn = generator.standard_normal(3) * [scale, scale, max(abs(point[2]), scale)]
        yield np.where([table.has_old_lm, True, True], drawn, 0.0)


def _best_along(
    table: Table, start: RerankingConfig, start_errors: int, direction: Array
) -> RerankingConfig:
    """The best point on a line, or ``start`` if that is not worse."""
    point = _point(start)
    least = np.array([0.0, 0.0, -_LARGEST_PENALTY])
    most = np.array([_LARGEST_SCALE, _LARGEST_SCALE, _LARGEST_PENALTY])
    moving = direction != 0
    if not moving.any() or (point < least).any() or (point > most).any():
        return start
    # How far back and forth the line stays within these bounds.
    ends = np.stack([least - point, most - point])[:, moving] / direction[moving]
    first, last = float(ends.min(axis=0).max()), float(ends.max(axis=0).min())
    if not first < last:
        return start
    places, errors = errors_along(table, start, direction, first, last)
    fewest = errors.min()
    if fewest >= start_errors:
        return start
    # The nearest of the best intervals: its middle, or not far inside a wide one.
    distance = np.where(errors == fewest, np.maximum(places[:-1], -places[1:]), np.inf)
    nearest = int(distance.argmin())
    low, high = float(places[nearest]), float(places[nearest + 1])
    depth = min((high - low) / 2, _FARTHEST_INSIDE)
    moved = point + (low + depth if low >= 0 else high - depth) * direction
    moved[:2] = np.maximum(moved[:2], 0.0)  # rounding
    old, new, penalty = moved.tolist()
    share = new / (old + new) if old + new > 0 else start.weight
    return RerankingConfig(share, old + new, penalty)


def errors_along(
    table: Table, weights: RerankingConfig, direction: Array, low: float, high: float
) -> tuple[Array, Counts]:
    """The errors of the best hypotheses along a line through weights, as a step function.

    All utterances follow the line at once, each from one best hypothesis to the next.

    Args:
        direction: Of the line, in the coordinates of ``_point``.
        low, high: The ends of the line, as multiples of the direction.

    Returns:
        The ends of the intervals (intervals + 1,), and the errors in each interval (intervals,).
        Adjacent intervals have different errors.
    """
    gain = direction[0] * table.old_lm + direction[1] * table.new_lm + direction[2] * table.words
    at_0, slope = table.totals(weights), np.where(table.exists, gain, 0.0)
    rows = np.arange(len(at_0))
    best = (at_0 + low * slope).argmax(axis=1)
    errors_at_low = int(table.word_errors[rows, best].sum())
    places, changes = [np.array([low])], [np.array([errors_at_low])]
    place = np.full(len(rows), low)
    while len(rows):
        gained = slope[rows] - slope[rows, best][:, None]
        behind = at_0[rows, best][:, None] - at_0[rows]
        crossing = np.full(gained.shape, np.inf)
        np.divide(behind, gained, out=crossing, where=gained > 0)
        first, successor = crossing.min(axis=1), crossing.argmin(axis=1)
        on_line = np.flatnonzero(first < high)
        rows, before, best = rows[on_line], best[on_line], successor[on_line]
        place = np.maximum(first[on_line], place[on_line])
        places.append(place)
        changes.append(table.word_errors[rows, best] - table.word_errors[rows, before])
    starts, interval = np.unique(np.concatenate(places), return_inverse=True)
    change = np.zeros(len(starts), np.int64)
    np.add.at(change, interval, np.concatenate(changes))
    kept = (change != 0) | (np.arange(len(starts)) == 0)
    return np.append(starts[kept], high), np.cumsum(change)[kept]
