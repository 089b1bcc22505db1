import random

import numpy as np
import pytest

from textgen.sampling.text import Automaton, Ban

STRINGS = ["ab", "abcab", "bcb", "c", "aaa", "aab"]


def first_found(strings: list[str], text: str) -> tuple[int, int] | None:
    """Where the first string ends, and the length of the longest that ends there, plainly."""
    for end in range(1, len(text) + 1):
        lengths = [len(each) for each in strings if text[:end].endswith(each)]
        if lengths:
            return end, max(lengths)
    return None


def found(strings: list[str], text: str) -> tuple[int, int] | None:
    automaton, state = Automaton(strings), 0
    for end, character in enumerate(text, start=1):
        state = automaton.step(state, character)
        if automaton.found[state]:
            return end, automaton.found[state]
    return None


def test_it_finds_what_a_plain_search_finds() -> None:
    chance = random.Random(0)
    for _ in range(3000):
        strings = chance.sample(STRINGS, chance.randint(1, 4))
        text = "".join(chance.choices("abc", k=chance.randint(0, 12)))
        assert found(strings, text) == first_found(strings, text), (strings, text)


def test_a_state_is_as_deep_as_the_end_that_may_yet_become_a_string() -> None:
    automaton = Automaton(["abcab", "bcx"])
    for text, depth in [
        ("", 0),
        ("x", 0),
        ("a", 1),
        ("abc", 3),
        ("abcx", 3),
        ("abca", 4),
        ("bc", 2),
    ]:
        assert automaton.depth[automaton.read(0, text)] == depth, text


def test_reading_in_pieces_is_reading_at_once() -> None:
    automaton = Automaton(STRINGS)
    assert automaton.read(automaton.read(0, "aab"), "cab") == automaton.read(0, "aabcab")
    assert automaton.completes(automaton.read(0, "b"), "cb")
    assert not Automaton(["xyz"]).completes(0, "xyxyyz")


@pytest.mark.parametrize("text", ["", "x", "the ca", "é", "ab"])
def test_what_would_complete_a_banned_string_is_marked(text: str) -> None:
    banned = ["cat", "é!", "bb"]
    spellings = [each.encode() for each in ("t", "at", "cat", "!", "b", "xbb", "ba", "s é!", "")]
    ban = Ban(banned)
    marked = ban.completing(ban.state(text), False, spellings)
    whole = [text.encode() + each for each in spellings]
    expected = [any(each.encode() in end[-8:] for each in banned) for end in whole]
    assert marked.tolist() == expected


def test_half_a_character_is_followed_too() -> None:
    ban = Ban(["é"])
    state = ban.after(ban.state("caf"), b"\xc3")
    assert ban.completing(state, False, [b"\xa9", b"\xa8", b"\xc3\xa9"]).tolist() == [
        True,
        False,
        True,
    ]


def test_a_mask_is_worked_out_once() -> None:
    ban, spellings = Ban(["cat"]), [b"c", b"a", b"t"]
    assert ban.completing(0, False, spellings) is ban.completing(0, False, spellings)
    assert np.array_equal(ban.completing(ban.state("ca"), False, spellings), [False, False, True])
