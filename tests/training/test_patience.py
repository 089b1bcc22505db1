"""A run is given up when the held-out text only gets worse, and not before."""

import pytest

from textgen.results import Validation
from textgen.training.schedule import Patience


def verdict(losses: list[float], a_run_of: int = 10) -> str | None:
    """What patience says of the last of these validations, one a step."""
    patience, best, said = Patience(), None, None
    for step, loss in enumerate(losses, start=1):
        found = Validation(loss, 10, 10, step=step)
        best = found if best is None or loss < best.loss else best
        said = patience.exhausted(found, best, step / a_run_of)
    return said


def test_three_ever_worse_validations_end_a_run_and_the_reason_names_the_best() -> None:
    assert verdict([2.0, 1.5, 1.6, 1.7]) is None
    said = verdict([2.0, 1.5, 1.6, 1.7, 1.8])
    assert said is not None
    assert "step 2" in said and "1.5000" in said


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 1.9, 1.8, 1.7, 1.6],
        [1.5, 1.6, 1.8, 1.7],  # one was better than the one before
        [1.5, 1.51, 1.52, 1.53],  # hardly worse
        [1.5, 1.6, 1.7, 1.4, 1.6, 1.7],  # a new best between
        [1.5, float("nan"), 1.6, 1.7],
        [1.5, 1.6, float("inf"), 1.7],
    ],
)
def test_a_run_that_may_still_gain_goes_on(losses: list[float]) -> None:
    assert verdict(losses) is None


def test_the_last_fifth_is_always_run() -> None:
    assert verdict([1.5, 1.6, 1.7, 1.8], a_run_of=6) is not None
    assert verdict([1.5, 1.6, 1.7, 1.8], a_run_of=5) is None


def test_frequent_validations_do_not_make_it_hasty() -> None:
    worse = [1.5 + step / 10 for step in range(30)]
    assert verdict(worse[:10], a_run_of=100) is None
    assert verdict([*worse, 9.0, 9.0], a_run_of=100) is not None
