"""Totals worked by hand, and the order they make."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import pytest

from textgen.errors import DataError, UsageError
from textgen.scoring.jobs import groups
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.mixing import rerank
from textgen.studies.rerank.results import Hypothesis, RankedUtterance, Utterance

NEW = {"a b": -2.0, "a c d": -3.0, "": -8.0}


def score(sentences: Iterable[str]) -> Iterator[float]:
    for sentence in sentences:
        yield NEW[sentence]


def utterance(*hypotheses: tuple[Any, ...]) -> Utterance:
    return Utterance("u", tuple(Hypothesis("u", *each) for each in hypotheses))


def ranked(given: Utterance, **weights: float) -> list[tuple[str, float]]:
    (result,) = rerank([given], score, RerankingConfig(**weights))
    return [(each.hypothesis.text, each.total) for each in result.hypotheses]


def test_two_scores_are_weighed_scaled_and_each_word_counted() -> None:
    given = utterance(("a c d", -9.0, -6.0), ("a b", -10.0, -4.0))
    assert ranked(given) == [("a b", -10 - 3), ("a c d", -9 - 4.5)]
    assert ranked(given, weight=0.25, lm_scale=2, length_penalty=0.5) == [
        ("a b", -10 + 2 * (0.75 * -4 + 0.25 * -2) + 0.5 * 2),
        ("a c d", -9 + 2 * (0.75 * -6 + 0.25 * -3) + 0.5 * 3),
    ]
    assert ranked(given, lm_scale=0) == [("a c d", -9.0), ("a b", -10.0)]
    assert ranked(given, weight=0) == [("a b", -14.0), ("a c d", -15.0)]


def test_without_an_old_score_the_new_one_is_all() -> None:
    assert ranked(utterance(("a c d", -9.0), ("a b", -10.5)), lm_scale=2) == [
        ("a b", -14.5),
        ("a c d", -15.0),
    ]
    assert ranked(utterance(("",), ("a c d",), ("a b",)), length_penalty=1.5) == [
        ("a c d", 1.5),
        ("a b", 1.0),
        ("", -8.0),
    ]
    with pytest.raises(UsageError, match=r"the list has no old scores.*leave it out"):
        ranked(utterance(("a b",)), weight=0.3)


def test_each_hypothesis_keeps_its_scores() -> None:
    (result,) = rerank([utterance(("a b", -10.0, -4.0))], score, RerankingConfig(weight=0.25))
    (best,) = result.hypotheses
    assert best.hypothesis == Hypothesis("u", "a b", -10.0, -4.0)
    assert (best.log_prob, best.lm, best.total) == (-2.0, -3.5, -13.5)


def test_equals_keep_the_lists_order() -> None:
    given = utterance(("a b", -5.0), ("a c d", -4.0))
    assert [text for text, _ in ranked(given)] == ["a b", "a c d"]


@pytest.mark.parametrize("weights", [{"weight": 0.0}, {"lm_scale": 0.0}])
def test_what_has_no_weight_does_not_count_though_it_be_infinite(
    monkeypatch: pytest.MonkeyPatch, weights: dict[str, float]
) -> None:
    monkeypatch.setitem(NEW, "a b", -float("inf"))
    given = utterance(("a c d", -9.0, -6.0), ("a b", -1.0, -4.0))
    assert [text for text, _ in ranked(given, **weights)] == ["a b", "a c d"]
    assert [text for text, _ in ranked(given)] == ["a c d", "a b"]


def test_a_list_without_end_is_reranked_as_it_comes() -> None:
    endless = (Utterance(str(number), (Hypothesis("", "a b"),)) for number in count())
    result: Iterator[RankedUtterance] = rerank(endless, score)
    assert [next(result).id for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", -0.1),
        ("weight", 1.1),
        ("lm_scale", -1),
        ("lm_scale", float("nan")),
        ("length_penalty", float("inf")),
    ],
)
def test_weights_lie_in_their_ranges(name: str, value: float) -> None:
    make: Callable[..., RerankingConfig] = RerankingConfig
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must lie in"):
        make(**{name: value})


def test_a_list_that_breaks_off_is_not_taken_for_all() -> None:
    """A model reads it some at a time, and scores what came before the error."""

    def in_groups(sentences: Iterable[str]) -> Iterator[float]:
        for group in groups(sentences):
            yield from (-1.0 for _ in group)

    def broken() -> Iterator[Utterance]:
        yield utterance(("a b",), ("c",))
        raise DataError("no score", where="list, line 3")

    given = rerank(broken(), in_groups)
    assert next(given).id == "u"
    with pytest.raises(DataError, match="line 3"):
        next(given)
