"""Numbers as people read them; the examples in the docstrings are run too."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest

from textgen.presentation.numbers import duration, figure, fixed, rounded, share, size


@pytest.mark.parametrize("name", ["console", "formats.other_tools", "numbers", "tables"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    module = importlib.import_module(f"textgen.presentation.{name}")
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.000"),
        (1.0, "1.000"),
        (9.99996, "10.000"),
        (0.00123456, "0.001235"),
        (123456.0, "123,456"),
        (2.5e12, "2.500e+12"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_a_figure_has_the_digits_that_mean_something(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_what_is_not_finite_has_a_sign_of_its_own() -> None:
    assert (fixed(-math.inf, 2), duration(math.inf)) == ("-∞", "–")


def test_units_change_where_numbers_grow() -> None:
    assert [*map(rounded, (999, 1e6, 2.5e9))] == ["999", "1.00 M", "2.50 G"]
    assert [*map(size, (999, 1000, 10**9))] == ["999 bytes", "1.00 kB", "1.00 GB"]
    assert [*map(duration, (0, 0.25, 59.7, 82.4, 3600))] == [
        "0s",
        "0.2s",
        "1m 00s",
        "1m 22s",
        "1h 00m",
    ]
    assert [*map(share, (0.0, 0.0123))] == ["0 %", "1.23 %"]
    assert fixed(-12.3456, 2) == "-12.35"
