"""How often each token stands in a text."""

import numpy as np

from textgen.models.base import frequencies


def test_frequencies_are_those_of_a_sample_from_all_over_the_text() -> None:
    short = np.arange(2, 102) % 7
    assert frequencies(short, 9).tolist() == np.bincount(short, minlength=9).tolist()
    halves = np.repeat(np.array([2, 3], np.uint16), 5_000_000)
    counts = frequencies(halves, 5)
    assert counts.sum() < 2**22
    assert 0.45 < counts[2] / counts.sum() < 0.55
