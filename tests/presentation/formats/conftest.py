"""Two sentences with made-up scores: powers of two, so that every figure is known by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from textgen.config import ScoreLevel
from textgen.presentation.formats import Shown, score_writer
from textgen.results import PartScore, ScoreSum, SentenceScore


def _parts(*rows: tuple[Any, ...]) -> tuple[PartScore, ...]:
    """From (span, bits, entropy, its reduction, and what else is known)."""
    parts = []
    for span, bits, entropy, reduction, *more in rows:
        known = {"text": span.strip(), **(more[0] if more else {})}
        parts.append(
            PartScore(
                span=span,
                log_prob=-bits * math.log(2),
                entropy=entropy,
                entropy_reduction=reduction,
                **known,
            )
        )
    return tuple(parts)


END = {"text": "<EOS>", "ends": True}
WORDS = (
    _parts(
        ("the", 1, 3.0, 0.0),
        (" cats", 4, 2.5, 0.5, {"tokens": 2}),
        (" xyzzy", 10, 2.75, 0.0, {"unknown": True}),
        (" sat", 2, 1.0, 1.75),
        ("", 3, 0.5, 0.5, END),
    ),
    _parts(("a\tb", 2, 3.0, 0.0), ("", 1, 2.0, 1.0, END)),
)
TOKENS = (
    _parts(
        ("the", 1, 3.0, 0.0, {"id": 5, "rank": 1}),
        (" cat", 3, 2.5, 0.5, {"text": " cat", "id": 9, "rank": 1234}),
        ("s", 1, 1.0, 1.5, {"id": 6, "rank": 2}),
        (" xyzzy", 10, 2.75, None, {"text": "<UNK>", "id": 0, "unknown": True, "rank": 3}),
        (" sat", 2, 1.0, 1.75, {"text": " sat", "id": 7, "rank": 2}),
        ("", 3, 0.5, 0.5, END | {"id": 1, "rank": 4}),
    ),
    _parts(
        ("a\tb", 2, 3.0, 0.0, {"id": 8, "rank": 1}), ("", 1, 2.0, 1.0, END | {"id": 1, "rank": 1})
    ),
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
            score = SentenceScore(
                log_prob=math.fsum(token.log_prob for token in tokens),
                tokens=len(tokens),
                unknown=len(unknown),
                unknown_log_prob=math.fsum(unknown),
                characters=len(text) + 1,
                words=len(words),
                bytes=len(text) + 1,
                spelled=spelled,
                line=number,
                text=text,
                parts={"token": tokens, "word": words}.get(level),
            )
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
