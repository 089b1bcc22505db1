"""Two sentences with made-up scores: powers of two, so that every figure is known by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from textgen.config import ScoreLevel
from textgen.presentation.formats import Shown, score_writer
from textgen.results import PartScore, ScoreSum, SentenceScore


def _part(
    span: str, bits: float, entropy: float, reduction: float | None = 0.0, **known: Any
) -> PartScore:
    text, log_prob = known.pop("text", span.strip()), -bits * math.log(2)
    return PartScore(text, span, log_prob, entropy=entropy, entropy_reduction=reduction, **known)


def _end(bits: float, entropy: float, reduction: float, **known: Any) -> PartScore:
    return _part("", bits, entropy, reduction, text="<EOS>", ends=True, **known)


WORDS = (
    (
        _part("the", 1, 3.0),
        _part(" cats", 4, 2.5, 0.5, tokens=2),
        _part(" xyzzy", 10, 2.75, unknown=True),
        _part(" sat", 2, 1.0, 1.75),
        _end(3, 0.5, 0.5),
    ),
    (_part("a\tb", 2, 3.0), _end(1, 2.0, 1.0)),
)
TOKENS = (
    (
        _part("the", 1, 3.0, id=5, rank=1),
        _part(" cat", 3, 2.5, 0.5, text=" cat", id=9, rank=1234),
        _part("s", 1, 1.0, 1.5, id=6, rank=2),
        _part(" xyzzy", 10, 2.75, None, text="<UNK>", id=0, unknown=True, rank=3),
        _part(" sat", 2, 1.0, 1.75, text=" sat", id=7, rank=2),
        _end(3, 0.5, 0.5, id=1, rank=4),
    ),
    (_part("a\tb", 2, 3.0, id=8, rank=1), _end(1, 2.0, 1.0, id=1, rank=1)),
)


class Writing:
    """Writes the sentences in a format: write("kenlm", "word") gives what stood on stdout.

    said: what then stood on stderr.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self.said = capsys, ""

    def __call__(
        self, name: str, level: ScoreLevel, *, lines: int = 2, spelled: bool = False, **shown: Any
    ) -> str:
        scores = []
        for number, (tokens, words) in enumerate(zip(TOKENS, WORDS, strict=True), start=1):
            text = "".join(token.span for token in tokens)
            unknown = [token.log_prob for token in tokens if token.unknown]
            log_prob = math.fsum(token.log_prob for token in tokens)
            of_unknown, size = (len(unknown), math.fsum(unknown)), len(text) + 1
            sums = (log_prob, len(tokens), *of_unknown, size, len(words), size)
            parts = {"token": tokens, "word": words}.get(level)
            score = SentenceScore(*sums, spelled=spelled, line=number, text=text, parts=parts)
            scores.append(score)
        return self.of(name, scores[:lines], level=level, **shown)

    def of(self, name: str, scores: Iterable[SentenceScore], **shown: Any) -> str:
        """What a format makes of these scores."""
        writer, total, number = score_writer(name)(Shown(**shown)), ScoreSum(), 0
        writer.begin()
        for score in scores:
            writer.sentence(score)
            total, number = total + score, number + 1
        writer.end(total, number)
        captured = self._capsys.readouterr()
        self.said = captured.err
        return captured.out


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str]) -> Writing:
    """Writes made-up scores."""
    return Writing(capsys)
