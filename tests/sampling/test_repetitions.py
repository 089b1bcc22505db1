"""How long a repetition each token would go on with, against a search that looks everywhere."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from textgen.sampling.repetitions import Breakers, Repetitions

SPELLINGS = [b"a", b"b", b"c", b"y", b"\n", b'says "', b"e", b"nd"]


def plainly(ids: Sequence[int], size: int, least: int, since: int) -> list[int]:
    """The longest repetition before each id, which does not reach across a breaker."""
    longest = [0] * size
    for place in range(1, len(ids)):
        same = 0
        while same < place and ids[place - 1 - same] == ids[-1 - same]:
            same += 1
        same = min(same, since)
        if same >= least:
            longest[ids[place]] = max(longest[ids[place]], same)
    return longest


def read(ids: Sequence[int], breakers: Breakers | None = None, size: int = 8) -> Repetitions:
    text = Repetitions(size, breakers)
    for id in ids:
        text.append(id)
    return text


def test_the_example_in_llama_cpp() -> None:
    a, b, c, y = range(4)
    lengths = read([a, b, c, c, b, c, y, a, b, c]).lengths(1).tolist()
    assert lengths[:4] == [0, 1, 3, 2]  # a b c -> c, c -> b, b c -> y


@pytest.mark.parametrize("least", [1, 2, 5])
def test_it_finds_what_a_search_finds(least: int) -> None:
    generator = random.Random(least)
    for size in (1, 2, 3):
        for length in (0, 1, 2, 10, 200):
            ids = [generator.randrange(size) for _ in range(length)]
            expected = plainly(ids, 8, least, length)
            assert read(ids).lengths(least).tolist() == expected


@pytest.mark.parametrize("string", ["\n", '"', "end"])
def test_no_repetition_reaches_across_a_breaker(string: str) -> None:
    generator = random.Random(string)
    breakers = Breakers([string], SPELLINGS)
    for _ in range(200):
        ids = [generator.choice([0, 1, 4, 5, 6, 7]) for _ in range(30)]
        text = b"".join(SPELLINGS[id] for id in ids)
        end = text.rfind(string.encode()) + len(string)
        lengths = np.cumsum([len(SPELLINGS[id]) for id in ids])
        since = int((lengths > lengths[np.searchsorted(lengths, end)]).sum())
        if string.encode() not in text:
            since = len(ids)
        expected = plainly(ids, 8, 1, since)
        for id in range(8):
            if string.encode() in SPELLINGS[id]:  # it is never penalized
                expected[id] = 0
        assert read(ids, breakers).lengths(1).tolist() == expected
