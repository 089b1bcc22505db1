"""Texts taken some at a time: as many as are asked for, as soon as they have come."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from textgen.data.lines import Arriving, Text
from textgen.scoring import jobs as module
from textgen.scoring.jobs import groups


def test_texts_are_numbered_and_prefixed_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TEXTS", 2)
    given = ["a", ("own ", "b"), Text(7, "c", "its ")]
    assert list(groups(given, "the ")) == [
        [Text(1, "a", "the "), Text(2, "b", "own ")],
        [Text(7, "c", "its ")],
    ]
    assert list(groups([])) == []


def test_no_more_is_taken_than_a_group_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TEXTS", 5)
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 40)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "ab" if taken < 8 else "long" * 5

    some = groups(endless())
    assert [len(next(some)) for _ in range(3)] == [5, 4, 2]
    assert taken == 11


def test_what_came_before_an_error_is_given() -> None:
    def failing() -> Iterator[str]:
        yield "whole"
        raise ValueError("no more")

    for texts in (failing(), Arriving(failing())):
        some = groups(texts)
        assert next(some) == [Text(1, "whole")]
        with pytest.raises(ValueError, match="no more"):
            next(some)


def test_a_group_is_what_has_come_where_the_rest_is_slow() -> None:
    more = threading.Event()

    def typed() -> Iterator[str]:
        yield "first"
        yield "second"
        more.wait()
        yield "third"

    some = groups(Arriving(typed()))
    assert next(some) == [Text(1, "first"), Text(2, "second")]
    more.set()
    assert list(some) == [[Text(3, "third")]]


def test_reading_ahead_is_bounded_and_ends_with_its_reader() -> None:
    read, ended = threading.Semaphore(0), threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                read.release()
                yield "x" * 2**14
        finally:
            ended.set()

    arriving = iter(Arriving(endless()))
    assert next(arriving) == "x" * 2**14
    for _ in range(34):  # one taken, half a million characters, one that waits
        assert read.acquire(timeout=5)
    assert not read.acquire(timeout=0.3)
    arriving.close()
    assert ended.wait(5)


def test_a_text_longer_than_is_held_comes_all_the_same() -> None:
    long = "x" * 2**20
    assert list(Arriving([long, long, "y"])) == [long, long, "y"]
