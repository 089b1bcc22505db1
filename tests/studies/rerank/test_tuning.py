"""Weights whose best place is known."""

import random
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise

import jiwer
import numpy as np
import pytest

from textgen.errors import DataError, UsageError
from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.nbest import Hypothesis, Utterance
from textgen.studies.rerank.reranking import Score, rerank
from textgen.studies.rerank.tuning import Table, TuningResult, errors_along, search, tune

Scores = tuple[float, ...]
Problem = tuple[list[Utterance], dict[str, str], Score, RerankingConfig]


def table_score(table: dict[str, float]) -> Score:
    def score(sentences: Iterable[str]) -> Iterator[float]:
        return (table[sentence] for sentence in sentences)

    return score


def case(*utterances: dict[str, Scores]) -> Problem:
    """Utterances whose first hypothesis is right, from each text's scores, the new one last."""
    new = {text: scores[-1] for each in utterances for text, scores in each.items()}
    given = [
        Utterance(f"u{i}", tuple(Hypothesis(f"u{i}", text, *scores[:-1]) for text, scores in all_))
        for i, all_ in enumerate(tuple(each.items()) for each in utterances)
    ]
    references = {each.id: each.hypotheses[0].text for each in given}
    return given, references, table_score(new), RerankingConfig()


def drawn(seed: int, scores: int) -> Problem:
    """Whole scores, so that many totals meet in one place."""
    rng = random.Random(seed)
    texts: dict[str, float] = {}
    utterances, references = [], {}
    for number in range(12):
        said = [rng.choice("abcd") for _ in range(4)]
        hypotheses = []
        for _ in range(rng.randint(1, 6)):
            heard = [word for word in said if rng.random() < 0.8] + ["e"] * rng.randint(0, 2)
            text = " ".join(heard)
            texts.setdefault(text, float(rng.randint(-20, 0)))
            old = [float(rng.randint(-20, 0)) for _ in range(scores)]
            hypotheses.append(Hypothesis("", text, *old))
        utterances.append(Utterance(f"u{number}", tuple(hypotheses)))
        references[f"u{number}"] = " ".join(said)
    return utterances, references, table_score(texts), RerankingConfig()


@pytest.mark.parametrize(
    ("utterances", "weights", "wer_before", "words"),
    [
        (  # Right minus wrong: -6 + 10 w in the first, 7 - 10 w in the second.
            [{"a b": (0, -6, 0), "a x": (0, 0, -4)}, {"c d": (0, 0, -3), "x y": (0, -7, 0)}],
            RerankingConfig(weight=0.65),
            1 / 4,
            4,
        ),
        (  # The first is right above 2, the second below 3.
            [{"a": (-10, -2), "b": (-8, -3)}, {"c": (-10, -5), "d": (-16, -3)}],
            RerankingConfig(weight=1, lm_scale=2.5),
            1 / 2,
            2,
        ),
        (  # The first is right above 2, the second below 3.
            [{"a b": (-3,), "a": (-1,)}, {"c": (-1,), "c d": (-4,)}],
            RerankingConfig(weight=1, length_penalty=2.5),
            1 / 3,
            3,
        ),
    ],
)
def test_a_single_weight_is_found(
    utterances: list[dict[str, Scores]], weights: RerankingConfig, wer_before: float, words: int
) -> None:
    assert tune(*case(*utterances)) == TuningResult(weights, wer_before, 0, words, utterances=2)


def test_two_weights_that_must_move_together_are_found() -> None:
    # Right only where 2 < scale < 3 and where the penalty makes up for a word.
    given = case(
        {"a": (-10, -2), "b": (-8, -3)},
        {"c": (-10, -5), "d": (-16, -3)},
        {"e f": (-9, -3), "e": (-3, -1)},
    )
    result = tune(*given)
    assert result.wer_after == 0
    assert 2 < result.weights.lm_scale < 3
    assert result.weights.length_penalty > 6 + 2 * result.weights.lm_scale


def test_weights_stay_where_no_others_are_better() -> None:
    given = case({"a": (0, -1, 0), "b": (0, 0, -3)}, {"x": (0, 0, 0), "y": (-1, 0, -1)})
    start = RerankingConfig(weight=0.61234567, lm_scale=1.5, length_penalty=-0.25)
    assert tune(*given[:3], start).weights == start
    assert tune(*given).weights == RerankingConfig(weight=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_along_one_weight_no_place_is_better(seed: int) -> None:
    utterances, references, score, start = drawn(seed, scores=0)
    result = tune(utterances, references, score, start)
    crossings = {-100.0, 100.0}
    for each in utterances:
        new = list(score(one.text for one in each.hypotheses))
        for first, s in zip(each.hypotheses, new, strict=True):
            for second, t in zip(each.hypotheses, new, strict=True):
                if first.words != second.words:
                    crossings.add((s - t) / (second.words - first.words))
    wers = [
        word_error_rate(utterances, references, score, RerankingConfig(length_penalty=(a + b) / 2))
        for a, b in pairwise(sorted(crossings))
    ]
    assert result.wer_after == pytest.approx(min(wers))
    assert min(wers) < max(wers)


@pytest.mark.parametrize("scores", [0, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_reranking_has_the_word_error_rate_that_was_found(seed: int, scores: int) -> None:
    given = drawn(seed, scores)
    before = [RerankingConfig(), RerankingConfig(lm_scale=0), RerankingConfig(weight=0)][scores]
    result = tune(*given)
    assert word_error_rate(*given[:3], result.weights) == pytest.approx(result.wer_after)
    assert word_error_rate(*given[:3], before) == pytest.approx(result.wer_before)
    assert result.wer_after <= result.wer_before
    assert tune(*given) == result


def word_error_rate(
    utterances: list[Utterance], references: dict[str, str], score: Score, weights: RerankingConfig
) -> float:
    best = [each.hypotheses[0].hypothesis.text for each in rerank(utterances, score, weights)]
    return jiwer.wer([references[each.id] for each in utterances], best)


def test_what_is_impossible_is_never_the_best() -> None:
    assert tune(*case({"a": (-9, 0), "b": (-1, -float("inf"))})).wer_after == 0


def test_empty_texts_and_uneven_white_space_count_words_as_elsewhere() -> None:
    utterances = [
        Utterance("u0", (Hypothesis("u0", "a  b\u00a0c"),)),
        Utterance("u1", (Hypothesis("u1", ""),)),
        Utterance("u2", (Hypothesis("u2", "x y"),)),
    ]
    references = {"u0": "a b c", "u1": "d", "u2": ""}
    score = table_score({"a  b\u00a0c": 0.0, "": 0.0, "x y": 0.0})
    result = tune(utterances, references, score, RerankingConfig())
    assert (result.wer_after, result.words) == (3 / 4, 4)


@pytest.mark.parametrize(
    ("ids", "known", "message"),
    [
        (["a", "b", "c"], ["b"], r"no reference: 'a', 'c'"),
        (["a"], ["a", "b", "c"], r"references for .* not in the list: 'b', 'c'"),
        (["a", "b", "a"], ["a", "b"], r"two places of the list: 'a'"),
    ],
)
def test_utterances_and_references_must_be_the_same(
    ids: list[str], known: list[str], message: str
) -> None:
    utterances = [Utterance(id, (Hypothesis(id, "x"),)) for id in ids]
    with pytest.raises(DataError, match=message):
        tune(utterances, dict.fromkeys(known, "x"), table_score({"x": 0.0}), RerankingConfig())


def test_references_need_words() -> None:
    with pytest.raises(DataError, match="no words in the references"):
        tune(*case({"": (0,)}))


def test_a_missing_jiwer_is_named_before_anything_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def score(sentences: Iterable[str]) -> Iterator[float]:
        raise AssertionError("scored")

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UsageError, match=r"jiwer.*pip install 'textgen-lm\[rerank\]'"):
        tune(*case({"a": (-1,)})[:2], score, RerankingConfig())


def test_a_weight_without_old_scores_is_refused() -> None:
    with pytest.raises(UsageError, match="--weight"):
        tune(*case({"a": (-1, -1)})[:3], RerankingConfig(weight=0.5))


START = RerankingConfig(weight=0.5, lm_scale=2.0, length_penalty=0.0)


def drawn_table(seed: int) -> Table:
    utterances, _, score, _ = drawn(seed, scores=2)
    texts = [one.text for each in utterances for one in each.hypotheses]
    wrong = np.random.default_rng(seed).integers(0, 6, len(texts))
    return Table.of(utterances, score(texts), map(int, wrong))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("direction", [(-2.0, 2.0, 0.0), (2.0, 2.0, 0.0), (0.0, 0.0, 20.0)])
def test_the_errors_of_every_interval_are_those_of_the_places_in_it(
    seed: int, direction: tuple[float, float, float]
) -> None:
    table = drawn_table(seed)
    places, errors = errors_along(table, START, np.array(direction), -0.5, 0.5)
    assert places[0] == -0.5
    assert places[-1] == 0.5
    assert len(places) == len(errors) + 1
    assert (np.diff(places) > 0).all()
    assert (np.diff(errors) != 0).all()
    assert len(errors) > 3
    # Arithmetic is exact in these places, and no totals meet in them.
    for at in np.arange(-511, 512, 4) / 1024:
        old, new, penalty = np.array([1.0, 1.0, 0.0]) + at * np.array(direction)
        weights = RerankingConfig(float(new / (old + new)), float(old + new), float(penalty))
        interval = int(np.searchsorted(places, at, side="right")) - 1
        assert table.errors(weights) == errors[interval], at


@pytest.mark.parametrize("seed", range(5))
def test_a_search_is_never_worse_than_any_of_its_starts(seed: int) -> None:
    table = drawn_table(seed)
    others = [RerankingConfig(w, s, p) for w in (0, 1) for s in (0, 1, 9) for p in (-2, 0, 2)]
    found = search(table, START, others)
    assert table.errors(found) <= min(table.errors(each) for each in (START, *others))
