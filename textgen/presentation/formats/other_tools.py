"""Scores in the layouts of other tools: KenLM, lm-zoo, neural-complexity and TheanoLM.

Where columns are between spaces, white space inside a part is escaped as in tables: a space is
``␣``.
"""

import math
from decimal import Decimal
from typing import ClassVar

from textgen.config import ScoreLevel
from textgen.metrics import in_base, mean_perplexity
from textgen.presentation.console import emit, without_controls
from textgen.presentation.formats import ScoreWriter
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore


def entry(part: PartScore) -> str:
    """A token as its entry in the vocabulary, any other part as its text."""
    return part.text if part.token is None else part.token


def part_name(part: PartScore) -> str:
    """A part without white space; a text that spells ``<EOS>`` is escaped."""
    id = -1 if part.id is None else part.id
    return "<EOS>" if part.ends else visible(entry(part), id, escaped=without_controls)


def as_word(part: PartScore) -> str:
    """A part for a layout of words: an unknown one as in the text, the end as ``</s>``."""
    if part.ends:
        return "</s>"
    if not part.unknown:
        return part_name(part)
    return visible(part.span.strip() or part.text, escaped=without_controls)


def cell(text: str) -> str:
    r"""Text for a field between tabs: a tab is ``\t``, a newline ``\n``, a backslash ``\\``."""
    return without_controls(text.replace("\\", "\\\\"))


class KenlmScores(ScoreWriter):
    """What ``query`` of KenLM (Heafield 2011) prints; with the level ``sentence``, ``-v sentence``.

    All of it is on stdout, as there, and logarithms are to base 10, whatever the base. Each word
    has its id, 0 where it is unknown, 1 where it is known and has none of its own; and, as the
    n-gram's length, the number of tokens up to it, its own first included. ``OOV`` and the summary
    count the parts that are shown; without parts, tokens.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character", "sentence")

    _parts = _unknown = 0
    _unknown_log_prob = 0.0

    def sentence(self, score: SentenceScore) -> None:
        parts, unknown, words = score.tokens, score.unknown, ""
        unknown_log_prob, read = score.unknown_log_prob, 0
        if score.parts is not None and self.shown.level != "sentence":
            of_unknown = [part.log_prob for part in score.parts if part.unknown]
            parts, unknown = len(score.parts), len(of_unknown)
            unknown_log_prob = math.fsum(of_unknown)
            for part in score.parts:
                id = 0 if part.unknown else 1 if part.id is None else part.id
                words += f"{as_word(part)}={id} {read + 1} {number(in_base(part.log_prob, 10))}\t"
                read += part.tokens
        self._parts += parts
        self._unknown += unknown
        self._unknown_log_prob += unknown_log_prob
        emit(f"{words}Total: {number(in_base(score.log_prob, 10))} OOV: {unknown}\n")

    def end(self, total: ScoreSum, sentences: int) -> None:
        known, known_parts = total.log_prob - self._unknown_log_prob, self._parts - self._unknown
        emit(
            f"Perplexity including OOVs:\t{number(mean_perplexity(total.log_prob, self._parts))}\n"
            f"Perplexity excluding OOVs:\t{number(mean_perplexity(known, known_parts))}\n"
            f"OOVs:\t{self._unknown}\n"
            f"Tokens:\t{self._parts}\n"
        )


def number(value: float) -> str:
    """The fewest digits that read back as the same number, as KenLM and ECMAScript print them.

    >>> number(-2.0), number(0.0), number(1e-06), number(-1.5e-07), number(-math.inf)
    ('-2', '0', '0.000001', '-1.5e-7', '-inf')
    >>> number(100.0), number(1e20), number(1e21), number(1.25e22), number(math.nan)
    ('100', '100000000000000000000', '1e21', '1.25e22', 'NaN')
    """
    if math.isnan(value):
        return "NaN"
    text = repr(value).removesuffix(".0")
    digits, _, exponent = text.partition("e")
    if not exponent:
        return text
    return f"{Decimal(text):f}" if -7 < int(exponent) < 21 else f"{digits}e{int(exponent)}"


class LmZooScores(ScoreWriter):
    r"""The table of ``lm-zoo get-surprisals`` (Gauthier et al. 2020): a row per token, in bits.

    Sentences are numbered by their lines and tokens from 1; ``<EOS>`` is the last. Inside a token a
    tab is ``\t``, a newline ``\n``, a backslash ``\\``. The totals go to stderr.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("token", "word", "character")

    def begin(self) -> None:
        emit("sentence_id\ttoken_id\ttoken\tsurprisal\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = enumerate(score.parts or (), start=1)
        emit("".join(f"{score.line}\t{i}\t{cell(entry(t))}\t{t.surprisal!r}\n" for i, t in rows))


class NeuralComplexityScores(ScoreWriter):
    """The table of neural-complexity's ``--test --words --nopp`` (van Schijndel and Linzen 2018).

    As there, sentences and positions count from 0, what is unknown is ``<unk>``, and ``<EOS>`` has
    no row. ``wlen`` is the length before white space inside a word is escaped.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("word", "token", "character")

    def begin(self) -> None:
        emit("word sentid sentpos wlen surp entropy entred\n")

    def sentence(self, score: SentenceScore) -> None:
        rows = []
        for position, part in enumerate(each for each in score.parts or () if not each.ends):
            word, length = part_name(part), len(entry(part))
            if part.unknown:
                word, length = "<unk>", 5
            entropy = math.nan if part.entropy is None else part.entropy
            # The original prints max(0, difference), which is the integer 0 where nothing is lost.
            reduction = repr(part.entropy_reduction or 0)
            bits = f"{part.surprisal!r} {entropy!r} {reduction}"
            rows.append(f"{word} {score.line - 1} {position} {length} {bits}\n")
        emit("".join(rows))


class TheanolmScores(ScoreWriter):
    """What ``theanolm score`` (Enarvi and Kurimo 2016) writes to its ``--output-file``.

    The level ``sentence`` gives ``--output utterance-scores``, a number per line, for n-best lists;
    the others give ``--output word-scores``, which ends with what ``--output perplexity`` gives.
    As there, ``<s>`` is among the words and tokens that are counted, and a part of probability 0 is
    left out of a perplexity. ``OOV`` are parts with something unknown in them; none is excluded.
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
        words, lines = ["<s>"], [f"# Sentence {self._sentences}\n"]
        for part in parts:
            word, own = as_word(part), self.shown.log(part.log_prob)
            history = " ".join(words if len(words) <= 3 else ["...", *words[-3:]])
            known = "OOV" if part.unknown else "shortlist"
            lines.append(f"log(p({word} | {history})) = {own!r}  [{word}:{known}]\n")
            words.append(word)
        lines.append(f"Sentence perplexity: {mean_perplexity(log_prob, len(possible))!r}\n\n")
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
            loss = -self._log_prob / self._possible if self._possible else math.nan
            base = self.shown.base_name
            emit(f"Cross entropy (base e): {loss!r}\n")
            if base != "e":
                emit(f"Cross entropy (base {base}): {in_base(loss, self.shown.base)!r}\n")
            emit(f"Perplexity: {mean_perplexity(self._log_prob, self._possible)!r}\n")
