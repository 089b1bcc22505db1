"""What the layouts of scores share: what they are told, what they do, how a part is called."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from textgen.config import LogBase, ScoreLevel
from textgen.metrics import in_base
from textgen.presentation.console import shown as escaped
from textgen.presentation.tokens import visible
from textgen.results import PartScore, ScoreSum, SentenceScore

_EOS, _NO_ID = "<EOS>", -1


ADAPTED = "the model learned from the text as it went: not the figures of the trained weights"


@dataclass(frozen=True)
class Shown:
    """What is shown of scores: logarithms to this base, the parts of this level.

    eos: whether each sentence's ``<EOS>`` is counted. prefixed: whether texts go on from something,
    which is told beside them. adapted: whether the model learned from the
    text as it went, which makes the figures of another kind. pseudo: whether they are pseudo.
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
        """``ln p``, ``log2 p``, ``log10 p``."""
        return f"{'pseudo ' if self.pseudo else ''}{log_name(self.base)}"


class ScoreWriter(ABC):
    """Writes scores one by one, so that a long input needs no memory and shows at once.

    levels: those it can show, the one it shows unless another is asked for first. tells_pseudo:
    whether it can say that scores are pseudo.
    """

    levels: ClassVar[tuple[ScoreLevel, ...]] = ("sentence", "word", "token", "character")
    tells_pseudo: ClassVar[bool] = False

    def __init__(self, shown: Shown) -> None:
        self.shown = shown

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def sentence(self, score: SentenceScore) -> None:
        """Write a sentence. It has parts unless the level is ``sentence``."""

    @abstractmethod
    def end(self, total: ScoreSum, sentences: int) -> None: ...


def base_name(base: LogBase) -> str:
    """
    >>> base_name(math.e), base_name(2.0), base_name(2.5)
    ('e', '2', '2.5')
    """
    return "e" if base == math.e else repr(float(base)).removesuffix(".0")


def log_name(base: LogBase) -> str:
    """How a person calls a log-probability in a base: ``ln p``, ``log2 p``."""
    return "ln p" if base == math.e else f"log{base_name(base)} p"


def part_name(part: PartScore) -> str:
    """A part without white space, so that it can be told from every other."""
    if part.ends:
        return _EOS
    return visible(part.text, _NO_ID if part.id is None else part.id)


def as_word(part: PartScore) -> str:
    """A part for a layout of words: without white space, what is unknown as the text has it.

    White space, control characters and backslashes are escaped as in tables: a space is ``␣``.
    The end of a sentence is ``</s>``.
    """
    if part.ends:
        return "</s>"
    return visible(part.surface.strip() or part.text) if part.unknown else part_name(part)


def cell(text: str) -> str:
    r"""Text for a field between tabs: a tab is ``\t``, a newline ``\n``, a backslash ``\\``."""
    return escaped(text.replace("\\", "\\\\"))
