"""Text to pieces and to sentences: where they end does not depend on the blocks that are read."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.config import Unit
from textgen.data import sources
from textgen.data.text import sentences, split_into_pieces

UNITS: tuple[Unit, ...] = ("line", "paragraph", "document")


@given(
    st.lists(st.text(st.sampled_from("ab  \n\n"), max_size=12)),
    st.sampled_from(UNITS),
    st.integers(2, 9),
)
def test_pieces_depend_on_the_text_and_not_on_the_blocks(
    blocks: list[str], unit: Unit, largest: int
) -> None:
    text = "".join(blocks)
    pieces = list(split_into_pieces(blocks, unit, largest))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= largest for piece in pieces)
    for other_blocks in (text, [text]):
        assert list(split_into_pieces(other_blocks, unit, largest)) == pieces
    if unit == "paragraph":
        with_marks = "".join(piece.replace("\n\n", "<>") for piece in pieces)
        assert with_marks == text.replace("\n\n", "<>")


def test_an_over_long_sentence_is_cut_before_spaces_from_its_own_start() -> None:
    assert list(split_into_pieces(["ab cd  ef gh\n"], "line", 8)) == ["ab cd", "  ef gh\n"]
    assert list(split_into_pieces(["x\nabcdefgh\n"], "line", 4)) == ["x\n", "abcd", "efgh", "\n"]


@pytest.mark.parametrize("block", [1, 2, 5, 2**20])
@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("line", "a b\n\nc", ["a b", "", "c"]),
        ("paragraph", "a\nb\n\n\nc\n", ["a\nb", "\nc"]),
        ("document", "a\n\nb", ["a\n\nb\n"]),
    ],
)
def test_sentences_come_whole_and_without_terminators(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    unit: Unit,
    text: str,
    expected: list[str],
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", block)
    (tmp_path / "text").write_text(text)
    assert list(sentences(tmp_path / "text", unit=unit)) == expected


def test_sentences_of_stdin_come_before_its_end() -> None:
    code = "from textgen.data.text import sentences\nfor s in sentences('-'): print(s, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("first\nsec")
        process.stdin.flush()
        assert process.stdout.readline() == "first\n"
        process.stdin.write("ond")
        process.stdin.close()
        assert process.stdout.read() == "second\n"
