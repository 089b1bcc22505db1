"""The longest stretches of a text that stand in another, against plain search."""

import random
from pathlib import Path

import numpy as np
import pytest

from textgen.sampling import novelty as suffixes
from textgen.sampling.novelty import Suffixes, TooLong, build


def longest(text: bytes, query: bytes) -> list[int]:
    """For each place of the query, plainly."""
    found = []
    for start in range(len(query)):
        length = 0
        while start + length < len(query) and query[start : start + length + 1] in text:
            length += 1
        found.append(length)
    return found


def index(folder: Path, text: str) -> Suffixes:
    return Suffixes(folder, build(folder, [text[at : at + 7] for at in range(0, len(text), 7)]))


@pytest.mark.parametrize("alphabet", ["ab", "abcdefgh", "aé€", "a\0"])
def test_it_finds_what_a_plain_search_finds(alphabet: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    for number in range(40):
        text = "".join(chance.choices(alphabet, k=chance.choice([0, 1, 7, 8, 9, 60, 300])))
        query = "".join(chance.choices(alphabet, k=40))
        if len(text) > 20:  # a stretch over several words of eight bytes, and the very end
            query += text[5:50] + alphabet[0] + text[-19:]
        folder = tmp_path / str(number)
        folder.mkdir()
        places = np.arange(len(query.encode()))
        found = index(folder, text).longest(query.encode(), places).tolist()
        assert found == longest(text.encode(), query.encode()), (text, query)


def test_the_whole_text_is_found_in_itself_and_no_more(tmp_path: Path) -> None:
    text = "".join(random.Random(1).choices("abc \n", k=5000))
    found = index(tmp_path, text).longest((text + "a").encode(), np.array([0, 4000]))
    assert found.tolist() == [5000, 1000]
    again = index(tmp_path, "a" * 1000).longest(b"a" * 2000, np.array([0, 999, 1000, 1999]))
    assert again.tolist() == [1000, 1000, 1000, 1]


def test_files_of_another_length_are_refused(tmp_path: Path) -> None:
    length = build(tmp_path, ["some text"])
    for wrong in (length - 1, length + 1):
        with pytest.raises(ValueError, match="not those of a text"):
            Suffixes(tmp_path, wrong)
    (tmp_path / "suffixes.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="not those of a text"):
        Suffixes(tmp_path, length)


def test_damaged_places_lead_nowhere_outside_the_text(tmp_path: Path) -> None:
    length = build(tmp_path, ["some text of a few words"])
    damaged = np.random.default_rng(0).integers(-(2**31), 2**31, length).astype("<i4")
    damaged.tofile(tmp_path / "suffixes.bin")
    found = Suffixes(tmp_path, length).longest(b"text of words", np.arange(13))
    assert ((found >= 0) & (found <= 13)).all()


def test_a_text_that_places_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suffixes, "_LONGEST", 10)
    build(tmp_path, ["0123456789"])
    with pytest.raises(TooLong):
        build(tmp_path, ["01234", "567890"])
