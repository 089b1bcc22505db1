"""When a run validates and saves, how its learning rate goes, and when it ends early."""

import itertools
import math

import numpy as np
import pytest

from textgen.config import TrainingConfig
from textgen.results import Validation
from textgen.training.schedule import Patience, SaveClock, Schedule


def by_steps(total: int, **options: object) -> Schedule:
    return Schedule(TrainingConfig.from_options({"steps": total} | options), total)


def by_clock(budget: float, **options: object) -> Schedule:
    return Schedule(TrainingConfig.from_options({"budget": budget} | options), None)


def due_steps(schedule: Schedule, total: int) -> list[int]:
    steps = range(1, total + 1)
    return [step for step in steps if schedule.validates((step - 1) / total, step / total, step)]


def test_the_rate_rises_to_its_peak_and_falls_to_exactly_zero() -> None:
    schedule = by_steps(100, learning_rate=0.01, warmup=0.2)
    rates = [schedule.learning_rate(schedule.progress(step, 0.0)) for step in range(101)]
    assert rates[:21] == pytest.approx([0.01 * step / 20 for step in range(21)])
    assert rates[20:] == pytest.approx([0.01 * (100 - step) / 80 for step in range(20, 101)])
    assert rates[-1] == 0.0
    assert max(rates) == pytest.approx(0.01)


def test_without_warmup_the_rate_starts_at_its_peak() -> None:
    schedule = by_steps(100, learning_rate=0.01, warmup=0)
    assert [schedule.learning_rate(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.01, 0.005, 0])


def test_progress_by_steps_does_not_look_at_the_clock() -> None:
    schedule = by_steps(40)
    assert [schedule.progress(10, seconds) for seconds in (0.0, 5.0, 1e9)] == [0.25] * 3
    assert schedule.progress(40, 0.0) == schedule.progress(41, 0.0) == 1.0
    assert schedule.progress(39, 1e9) < 1


def test_progress_by_the_clock_ends_exactly_with_the_budget_less_what_comes_after() -> None:
    schedule = by_clock(100.0)
    assert schedule.progress(0, 0.0) == 0
    assert schedule.progress(7, 50.0) == 0.5
    schedule.expect(2.0, 3.0)
    assert schedule.reserve >= 5.0
    end = 100.0 - schedule.reserve
    assert schedule.progress(8, end - 0.01) < 1
    assert schedule.progress(8, end) == 1.0
    assert schedule.learning_rate(1.0) == 0.0


def test_what_comes_after_takes_at_most_half_of_a_budget() -> None:
    schedule = by_clock(10.0)
    schedule.expect(1e6, 0.0)
    assert schedule.progress(0, 4.9) < 1
    assert schedule.progress(1, 5.0) == 1


def test_progress_never_goes_back_though_what_comes_after_gets_shorter() -> None:
    schedule, seen = by_clock(100.0), []
    random = np.random.default_rng(0)
    for step, seconds in enumerate(np.arange(0, 100, 0.25)):
        seen.append(schedule.progress(step, float(seconds)))
        if step % 20 == 0:
            schedule.expect(float(random.uniform(0.1, 10)), 0.5)
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("total", [1, 7, 10, 95, 1000])
def test_a_run_of_steps_is_validated_at_every_tenth_and_at_its_end(total: int) -> None:
    due = due_steps(by_steps(total), total)
    assert len(due) == min(10, total)
    assert due[-1] == total
    gaps = [after - before for before, after in itertools.pairwise([0, *due])]
    assert max(gaps) <= -(-total // 10)


def test_a_run_by_the_clock_is_validated_at_every_tenth_and_at_its_end() -> None:
    schedule, now, before, due = by_clock(90.0), 0.0, 0.0, []
    random = np.random.default_rng(0)
    while before < 1:
        now += float(random.uniform(0.02, 0.4))
        after = schedule.progress(0, now)
        if schedule.validates(before, after, 0):
            due.append(after)
            now += 0.2
            schedule.expect(float(random.uniform(0.1, 0.4)), 0.1)
        before = after
    assert len(due) == 10
    assert due[-1] == 1
    gaps = [after - before for before, after in itertools.pairwise([0.0, *due])]
    assert max(gaps) < 0.1 + 2 * 0.6 / 90


def test_costly_validations_are_fewer_but_the_last_is_made() -> None:
    schedule = by_clock(100.0)
    schedule.expect(2.0, 0.0)
    progress = np.linspace(0, 1, 1001)
    due = [
        after
        for before, after in itertools.pairwise(progress)
        if schedule.validates(before, after, 0)
    ]
    assert due == pytest.approx([0.5, 1.0])
    schedule.expect(30.0, 0.0)
    assert not schedule.validates(0.0, 0.99, 0)
    assert schedule.validates(0.99, 1.0, 0)


def test_the_asked_steps_are_validated_and_the_end() -> None:
    assert due_steps(by_steps(100, valid_every=30), 100) == [30, 60, 90, 100]


def test_the_places_of_the_validations_stay_when_one_takes_longer_than_thought() -> None:
    schedule = by_clock(1000.0)
    schedule.expect(5.0, 0.0)  # ten are affordable
    places = []
    for tenth_percent in range(1000):
        before, after = tenth_percent / 1000, (tenth_percent + 1) / 1000
        if schedule.validates(before, after, tenth_percent):
            places.append(after)
            schedule.expect(9.0, 0.0)  # now five would be
    assert places == pytest.approx([0.1 * place for place in range(1, 11)])


# Saves


def test_a_quick_save_is_made_every_minute_and_a_slow_one_every_ten() -> None:
    clock = SaveClock()
    clock.saved(0.0, 0.1)
    assert not clock.is_due(60.0)
    assert clock.is_due(60.2)
    clock.saved(100.0, 3600.0)
    assert not clock.is_due(3700.0 + 599)
    assert clock.is_due(3700.0 + 600)


@pytest.mark.parametrize("asked", [0.5, 3600.0])
def test_an_interval_that_was_asked_for_is_heeded(asked: float) -> None:
    clock = SaveClock(asked)
    clock.saved(0.0, 5.0)
    assert not clock.is_due(5.0 + 0.99 * asked)
    assert clock.is_due(5.0 + asked)


# Early stopping


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


@pytest.mark.parametrize(
    ("total", "every", "step"),
    [
        *((100, None, 0), (100, None, 10), (3, None, 0), (7, None, 6)),
        *((100, 30, 0), (100, 30, 95), (100, 200, 0)),
    ],
)
def test_the_next_validation_is_said_beforehand(total: int, every: int | None, step: int) -> None:
    schedule = by_steps(total, valid_every=every)
    due = [each for each in due_steps(schedule, total) if each > step]
    assert schedule.next_validation(step / total, step) == pytest.approx(due[0] / total)


def test_under_a_budget_the_next_validation_is_known_after_the_first_update() -> None:
    schedule = by_clock(100.0)
    assert math.isnan(schedule.next_validation(0.0, 0))
    schedule.expect(0.01, 0.01)
    schedule.validates(0.0, 0.01, 1)
    assert schedule.next_validation(0.01, 1) == pytest.approx(0.1)
    short = by_clock(100.0)
    short.expect(20.0, 0.01)
    short.validates(0.0, 0.01, 1)
    assert short.next_validation(0.01, 1) == 1.0
    assert math.isnan(by_clock(100.0, valid_every=5).next_validation(0.0, 0))
    assert by_clock(100.0, valid_every=5).next_validation(0.1, 5) == pytest.approx(0.2)
