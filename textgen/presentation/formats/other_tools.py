"""Scores in the layouts of other tools: KenLM, lm-zoo, neural-complexity and TheanoLM."""

import math
from decimal import Decimal
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.metrics import in_base, perplexity
from textgen.presentation.console import emit
from textgen.presentation.formats import ScoreWriter, as_word, cell, part_name
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


class LmZooScores(ScoreWriter):
    r"""The table of ``lm-zoo get-surprisals`` (Gauthier et al. 2020): a row per token, in bits.

    Sentences are numbered by their lines and tokens from 1; ``<EOS>`` is the last. Surprisals
    have full precision. Inside a token a tab is ``\t``, a newline ``\n``, a backslash ``\\``; a
    space stays as it is. The totals, which lm-zoo does not have, go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("token", "word", "character")

    def begin(self) -> None:
        emit("sentence_id\ttoken_id\ttoken\tsurprisal\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = enumerate(score.parts or (), start=1)
        emit("".join(f"{score.line}\t{i}\t{cell(t.text)}\t{t.surprisal!r}\n" for i, t in rows))


_UNKNOWN = "<unk>"


class NeuralComplexityScores(ScoreWriter):
    """The table of neural-complexity's ``--test --words --nopp`` (van Schijndel and Linzen 2018).

    As there: columns are between spaces, sentences and positions count from 0, what is unknown is
    ``<unk>``, ``<EOS>`` has no row, and bits are at full precision; an entropy reduction of zero
    is ``0``. A sentence's number is that of its line, less 1. ``wlen`` is the length before
    white space inside a word is escaped as in tables, where a space is ``␣``. An entropy that is
    not known is ``nan``. The totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def begin(self) -> None:
        emit("word sentid sentpos wlen surp entropy entred\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = []
        for position, part in enumerate(each for each in score.parts or () if not each.ends):
            word, length = part_name(part), len(part.text)
            if part.unknown:
                word, length = _UNKNOWN, len(_UNKNOWN)
            entropy = math.nan if part.entropy is None else part.entropy
            # The original prints max(0, difference), which is the integer 0 where nothing is lost.
            reduction = repr(part.entropy_reduction or 0)
            bits = f"{part.surprisal!r} {entropy!r} {reduction}"
            rows.append(f"{word} {score.line - 1} {position} {length} {bits}\n")
        emit("".join(rows))


_START = "<s>"
_HISTORY = 3  # words


class TheanolmScores(ScoreWriter):
    """What ``theanolm score`` (Enarvi and Kurimo 2016) writes to its ``--output-file``.

    The level ``sentence`` gives ``--output utterance-scores``, a number per line, for n-best lists;
    the others give ``--output word-scores``, which ends with what ``--output perplexity`` gives.
    Numbers are Python's, at full precision. As there, ``<s>`` is among the words and tokens that
    are counted, a part of probability 0 is left out of a perplexity, and a perplexity is of the
    parts that are shown. No word is ``OOS``: there is no shortlist. ``OOV`` are the parts with
    something unknown in them; none is excluded. White space inside a part is escaped as in
    tables: a space is ``␣``. With utterance scores the totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")

    _sentences = _parts = _possible = 0
    _log_prob = 0.0

    def sentence(self, score: SentenceScore) -> None:
        if self.shown.level == "sentence":
            emit(f"{self.shown.log(score.log_prob)!r}\n")
            return
        parts = score.parts or ()
        possible = [part.log_prob for part in parts if part.log_prob != -math.inf]
        log_prob = math.fsum(possible)
        self._sentences += 1
        self._parts += len(parts)
        self._possible += len(possible)
        self._log_prob += log_prob
        words, lines = [_START], [f"# Sentence {self._sentences}\n"]
        for part in parts:
            word, own = as_word(part), self.shown.log(part.log_prob)
            read = ["..."] if len(words) > _HISTORY else []
            history = " ".join(read + words[-_HISTORY:])
            known = "OOV" if part.unknown else "shortlist"
            lines.append(f"log(p({word} | {history})) = {own!r}  [{word}:{known}]\n")
            words.append(word)
        lines.append(f"Sentence perplexity: {perplexity(_loss(log_prob, len(possible)))!r}\n\n")
        emit("".join(lines))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self.shown.level == "sentence":
            super().end(total, sentences)
            return
        emit(
            f"Number of sentences: {sentences}\n"
            f"Number of words: {sentences + self._parts}\n"
            f"Number of tokens: {sentences + total.tokens}\n"
            f"Number of predicted probabilities: {self._possible}\n"
            "Number of excluded (OOV) words: 0\n"
            f"Number of zero probabilities: {self._parts - self._possible}\n"
        )
        if sentences:
            loss, base = _loss(self._log_prob, self._possible), self.shown.base_name
            emit(f"Cross entropy (base e): {loss!r}\n")
            if base != "e":
                emit(f"Cross entropy (base {base}): {in_base(loss, self.shown.base)!r}\n")
            emit(f"Perplexity: {perplexity(loss)!r}\n")


def _loss(log_prob: float, parts: int) -> float:
    return -log_prob / parts if parts else math.nan
