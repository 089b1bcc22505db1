"""What the layouts of scores share: their interface, the names of parts, totals on stderr."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text

from textgen.config import LogBase, ScoreLevel
from textgen.metrics import in_base
from textgen.presentation.console import say
from textgen.presentation.console import shown as escaped
from textgen.presentation.numbers import count, figure, fixed, label, times
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

ADAPTED = "the model learned from the text as it went: not the figures of the trained weights"


@dataclass(frozen=True)
class Shown:
    """How scores are shown: logarithms to this base, parts of this level.

    Attributes:
        eos: Whether each sentence's ``<EOS>`` is counted.
        prefixed: Whether texts continue a prefix, which is shown beside them.
        adapted: Whether the model learned from the text as it went.
        pseudo: Whether log-probabilities are pseudo-log-probabilities.
    """

    base: LogBase = math.e
    level: ScoreLevel = "sentence"
    eos: bool = True
    prefixed: bool = False
    adapted: bool = False
    pseudo: bool = False

    def log(self, log_prob: float) -> float:
        """A natural log-probability in the base."""
        return in_base(log_prob, self.base)

    @property
    def log_name(self) -> str:
        """``ln p``, ``log2 p``, ``pseudo ln p``."""
        return label(log_name(self.base), pseudo=self.pseudo)


class ScoreWriter(ABC):
    """Writes scores one by one, so that a long input needs no memory and shows at once.

    Attributes:
        levels: Those it can show, its default first.
        shows_pseudo: Whether it names pseudo-log-probabilities as such.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")
    shows_pseudo: ClassVar[bool] = False

    def __init__(self, shown: Shown) -> None:
        self.shown = shown

    def begin(self) -> None:
        """Write what stands above the first sentence."""
        return

    @abstractmethod
    def sentence(self, score: SentenceScore) -> None:
        """Write a sentence. It has parts unless the level is ``sentence``."""

    def end(self, total: ScoreSum, sentences: int) -> None:
        """Write the totals: on stderr, where the layout has no room for them."""
        say_totals(total, sentences, self.shown.base)


def base_name(base: LogBase) -> str:
    """
    >>> base_name(math.e), base_name(2.0), base_name(2.5)
    ('e', '2', '2.5')
    """
    return "e" if base == math.e else repr(float(base)).removesuffix(".0")


def log_name(base: LogBase) -> str:
    """A log-probability in a base, for people: ``ln p``, ``log2 p``."""
    return "ln p" if base == math.e else f"log{base_name(base)} p"


def part_name(part: PartScore) -> str:
    """A part without white space; a text that spells ``<EOS>`` is not taken for the end."""
    return "<EOS>" if part.ends else visible(part.text, -1 if part.id is None else part.id)


def as_word(part: PartScore) -> str:
    """A part for a layout of words: without white space, what is unknown as the text has it.

    White space, control characters and backslashes are escaped as in tables: a space is ``␣``.
    The end of a sentence is ``</s>``.
    """
    if part.ends:
        return "</s>"
    return visible(part.span.strip() or part.text) if part.unknown else part_name(part)


def cell(text: str) -> str:
    r"""Text for a field between tabs: a tab is ``\t``, a newline ``\n``, a backslash ``\\``."""
    return escaped(text.replace("\\", "\\\\"))


def per_character(score: ScoreSum) -> str:
    """Bits per character, starred where they do not compare between models."""
    return fixed(score.bits_per_character, 3) + ("" if score.comparable else "*")


def sentence_count(sentences: int) -> str:
    return f"{count(sentences)} sentence{'' if sentences == 1 else 's'}"


def say_totals(total: ScoreSum, sentences: int, base: LogBase) -> None:
    """Write the totals to stderr, for a layout that has no room for them."""
    log_prob = fixed(in_base(total.log_prob, base), 2)
    bits = "" if total.pseudo else f", {per_character(total)} bits per character"
    totals = (
        f"{sentence_count(sentences)}, {count(total.tokens)} tokens, {count(total.unknown)}"
        f" unknown, {label(log_name(base), pseudo=total.pseudo)} {log_prob},"
        f" {label('perplexity', pseudo=total.pseudo)} {figure(total.perplexity)}{bits}"
    )
    say(Text(totals, style="label", no_wrap=True))


def comparison(first: ScoreSum, second: ScoreSum, base: LogBase) -> Text:
    """Which of two texts is likelier and by how much: in the base, as odds, and per token."""
    difference = first.log_prob - second.log_prob
    if difference == 0:
        return Text("Both are equally likely.")
    name, scores = "first", (first, second)
    if difference < 0:
        name, scores = "second", (second, first)
    by, called = fixed(in_base(abs(difference), base), 2), log_name(base)
    if first.pseudo:
        return Text(f"The {name} fits better: its pseudo {called} is greater by {by}.", "good")
    each = [fixed(in_base(score.log_prob, base) / max(1, score.tokens), 3) for score in scores]
    tokens = [count(score.tokens) for score in scores]
    over = f"{tokens[0]} and {tokens[1]}" if tokens[0] != tokens[1] else f"{tokens[0]} each"
    compared = Text.assemble(
        (f"The {name} is {times(abs(difference))} times likelier", "good"),
        f": its {called} is greater by {by}.\n"
        f"Per token its {called} is {each[0]} and the other's {each[1]} (tokens: {over}).",
    )
    if not (first.comparable and second.comparable):
        unlike = "\nUnknown tokens stand for anything unseen: compare with care."
        compared.append(unlike, "warning")
    return compared
