"""The errors along a line, against every place on it tried."""

import numpy as np
import pytest

from textgen.studies.rerank.config import RerankingConfig
from textgen.studies.rerank.results import Hypothesis, Utterance
from textgen.studies.rerank.tuning import Table, errors_along, search

START = RerankingConfig(weight=0.5, lm_scale=2.0, length_penalty=0.0)


def drawn(seed: int) -> Table:
    """Whole numbers, so that many totals meet in one place."""
    chance = np.random.default_rng(seed)
    utterances = [
        Utterance(
            str(number),
            tuple(
                Hypothesis("", "a " * chance.integers(4), *map(float, chance.integers(-9, 0, 2)))
                for _ in range(chance.integers(1, 8))
            ),
        )
        for number in range(40)
    ]
    hypotheses = sum(len(each.hypotheses) for each in utterances)
    new, wrong = chance.integers(-9, 0, hypotheses), chance.integers(0, 6, hypotheses)
    return Table.of(utterances, map(float, new), map(int, wrong))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("direction", [(-2.0, 2.0, 0.0), (2.0, 2.0, 0.0), (0.0, 0.0, 9.0)])
def test_the_errors_of_every_interval_are_those_of_the_places_in_it(
    seed: int, direction: tuple[float, float, float]
) -> None:
    table = drawn(seed)
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
    table = drawn(seed)
    first = Hypothesis("", "", -1.0, -1.0)
    others = [RerankingConfig(w, s, p) for w in (0, 1) for s in (0, 1, 9) for p in (-2, 0, 2)]
    found = search(table, START, others, first)
    assert found.errors == table.errors(found.weights)
    assert found.errors <= min(table.errors(each) for each in (START, *others))
