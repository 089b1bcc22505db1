"""Scores as KenLM's ``query`` gives them."""

import math
from decimal import Decimal
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.metrics import in_base, perplexity
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, as_word
from textgen.results import PartScore, ScoreSum, SentenceScore

_KNOWN_ID = 1


class KenlmScores(ScoreWriter):
    """What ``query`` of KenLM (Heafield 2011) prints; with the level ``sentence``, ``-v sentence``.

    All of it is on stdout, as there, and logarithms are to base 10, whatever the base. Numbers
    have the form that KenLM gives them: the fewest digits that read back as the same number. They
    are of doubles, so there are up to 17 where KenLM, which sums floats, has up to 9.

    Each word has its id, 0 where it is unknown, 1 where it is known and has none of its own; and,
    as the n-gram's length, the number of tokens up to it, its own first included.
    ``OOV`` and the summary count the parts that are shown; without parts, tokens. White space
    inside a part is escaped as in tables: a space is ``␣``.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character", "sentence")

    _parts = _unknown = 0
    _unknown_log_prob = 0.0

    def sentence(self, score: SentenceScore) -> None:
        parts, unknown, words = score.tokens, score.unknown, ""
        unknown_log_prob = score.unknown_log_prob
        if score.parts is not None and self.shown.level != "sentence":
            of_unknown = [part.log_prob for part in score.parts if part.unknown]
            parts, unknown = len(score.parts), len(of_unknown)
            unknown_log_prob, words = math.fsum(of_unknown), _words(score.parts)
        self._parts += parts
        self._unknown += unknown
        self._unknown_log_prob += unknown_log_prob
        emit(f"{words}Total: {number(in_base(score.log_prob, 10))} OOV: {unknown}\n")

    def end(self, total: ScoreSum, sentences: int) -> None:
        known = total.log_prob - self._unknown_log_prob
        excluding = _perplexity(known, self._parts - self._unknown)
        emit(
            f"Perplexity including OOVs:\t{_perplexity(total.log_prob, self._parts)}\n"
            f"Perplexity excluding OOVs:\t{excluding}\n"
            f"OOVs:\t{self._unknown}\n"
            f"Tokens:\t{self._parts}\n"
        )


def number(value: float) -> str:
    """A number as KenLM prints it, which is as ECMAScript does, but for the plus of an exponent.

    >>> number(-2.0), number(1e-06), number(-1.5e-07), number(3e21), number(math.nan)
    ('-2', '0.000001', '-1.5e-7', '3e21', 'NaN')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    leading = exponent + len(digits) - 1 if any(digits) else 0
    if -6 <= leading < 21:
        return f"{Decimal(repr(value)).normalize():f}"
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{first}{'.' + rest if rest else ''}e{leading}"


def _words(parts: tuple[PartScore, ...]) -> str:
    """``word=id length log10p`` of every part, each with a tab after it."""
    written, read = [], 0
    for part in parts:
        id = 0 if part.unknown else _KNOWN_ID if part.id is None else part.id
        log_prob = number(in_base(part.log_prob, 10))
        written.append(f"{as_word(part)}={id} {read + 1} {log_prob}\t")
        read += part.tokens
    return "".join(written)


def _perplexity(log_prob: float, parts: int) -> str:
    return number(perplexity(-log_prob / parts) if parts else math.nan)
