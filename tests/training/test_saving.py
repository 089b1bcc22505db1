"""When ``last`` is saved: often enough to lose little, seldom enough to cost little."""

import pytest

from textgen.training.loop import SaveClock


@pytest.mark.parametrize("took", [0.01, 1.0, 1.3, 6.0, 11.9])
def test_saving_takes_under_a_fiftieth_of_the_time(took: float) -> None:
    clock, now, saving = SaveClock(), 0.0, 0.0
    while now < 50_000:
        now += 0.5
        if clock.is_due(now):
            clock.saved(now, took)
            now, saving = now + took, saving + took
    assert 0 < saving < 0.02 * now


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
