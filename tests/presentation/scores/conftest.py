"""Two sentences with made-up scores: powers of two, so that every figure is known by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from textgen.config import ScoreLevel
from textgen.presentation.scores import FORMATS, Shown
from textgen.results import PartScore, ScoreSum, SentenceScore

BIT = -math.log(2)


def _part(text: str, surface: str, bits: float, **known: Any) -> PartScore:
    return PartScore(text, surface, bits * BIT, **known)


WORDS = (
    (
        _part("the", "the", 1, entropy=3.0, entropy_reduction=0.0),
        _part("cats", " cats", 4, tokens=2, entropy=2.5, entropy_reduction=0.5),
        _part("xyzzy", " xyzzy", 10, unknown=True, entropy=2.75, entropy_reduction=0.0),
        _part("sat", " sat", 2, entropy=1.0, entropy_reduction=1.75),
        _part("<EOS>", "", 3, ends=True, entropy=0.5, entropy_reduction=0.5),
    ),
    (
        _part("a\tb", "a\tb", 2, entropy=3.0, entropy_reduction=0.0),
        _part("<EOS>", "", 1, ends=True, entropy=2.0, entropy_reduction=1.0),
    ),
)
TOKENS = (
    (
        _part("the", "the", 1, id=5, rank=1, entropy=3.0, entropy_reduction=0.0),
        _part(" cat", " cat", 3, id=9, rank=1234, entropy=2.5, entropy_reduction=0.5),
        _part("s", "s", 1, id=6, rank=2, entropy=1.0, entropy_reduction=1.5),
        _part("<UNK>", " xyzzy", 10, id=0, unknown=True, rank=3, entropy=2.75),
        _part(" sat", " sat", 2, id=7, rank=2, entropy=1.0, entropy_reduction=1.75),
        _part("<EOS>", "", 3, ends=True, id=1, rank=4, entropy=0.5, entropy_reduction=0.5),
    ),
    (
        _part("a\tb", "a\tb", 2, id=8, rank=1, entropy=3.0, entropy_reduction=0.0),
        _part("<EOS>", "", 1, ends=True, id=1, rank=1, entropy=2.0, entropy_reduction=1.0),
    ),
)


def _sentence(line: int, level: ScoreLevel) -> SentenceScore:
    tokens = TOKENS[line - 1]
    text = "".join(token.surface for token in tokens)
    parts = {"token": tokens, "word": WORDS[line - 1]}.get(level)
    return SentenceScore(
        log_prob=math.fsum(token.log_prob for token in tokens),
        tokens=len(tokens),
        unknown=sum(token.unknown for token in tokens),
        unknown_log_prob=math.fsum(token.log_prob for token in tokens if token.unknown),
        characters=len(text) + 1,
        words=len(WORDS[line - 1]),
        bytes=len(text) + 1,
        line=line,
        text=text,
        parts=parts,
    )


class Writing:
    """Writes the sentences in a format: write("kenlm", "word") gives what stood on stdout.

    said: what then stood on stderr.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self.said = capsys, ""

    def __call__(
        self,
        name: str,
        level: ScoreLevel,
        *,
        lines: int = 2,
        spelled: bool = False,
        **shown: Any,
    ) -> str:
        scores = [replace(_sentence(each + 1, level), spelled=spelled) for each in range(lines)]
        writer = FORMATS[name](Shown(level=level, **shown))
        total = ScoreSum(0.0, 0, 0, 0.0, 0)
        writer.begin()
        for score in scores:
            writer.sentence(score)
            total += score
        writer.end(total, lines)
        captured = self._capsys.readouterr()
        self.said = captured.err
        return captured.out


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str]) -> Writing:
    """Writes made-up scores."""
    return Writing(capsys)
