"""Configuration of scoring, and of adaptation while scoring."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from textgen.config.options import Bounds, Config, flag, option, setting
from textgen.config.sampling import OnUnknown
from textgen.errors import UsageError, not_both

ScoreLevel = Literal["sentence", "word", "token", "character"]
Context = Literal["sentence", "document"]
ScoringPrecision = Literal["float32", "float64", "bf16"]

MOST_SEARCHED_WORDS = 256
"""The words, the first of a text, whose alternatives are searched: each takes some 30 ms."""

_text = partial(option, panel="Text")
_adaptation = partial(option, panel="Adaptation")
_table = partial(option, panel="Tables", metavar="COLUMN")


@dataclass(frozen=True)
class ScoringConfig(Config):
    """How text is scored."""

    level: ScoreLevel = option(
        "sentence",
        "Score sentences, or also the words, tokens or characters of each.",
        shown="depends on --format",
    )
    context: Context = _text(
        "sentence",
        "Score each sentence by itself, or carry the state of the model over to the next.",
    )
    prefix: str | None = _text(
        None,
        "Score each text as the continuation of this; nothing is inserted between them.",
        bounds=Bounds(0),
    )
    eos: bool | None = _text(
        None, "Include the end of each text, <EOS>.", shown="yes, but not after a prefix"
    )
    open_vocabulary: bool = _text(
        False,
        "Give unknown words the probability of their spelling, so that models are comparable.",
    )
    on_unknown: OnUnknown = _text(
        "unk",
        "What to do with unknown words or characters: score <UNK>, stop, or skip the sentence.",
    )
    skip_empty: bool = _text(False, "Skip empty sentences.")
    alternatives: int = setting(0, Bounds(0, 2**10))
    own_words: bool = setting(False)  # the words of a text are those that it comes in, if any
    documents: bool = setting(False)  # a text may have several sentences, read one after another

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prefix is not None and self.context == "document":
            why = "each text continues the prefix, not the text before it"
            raise not_both("--prefix", "--context document", why, fix="leave one out")


@dataclass(frozen=True)
class TableConfig(Config):
    """The texts of a table: words, one per row, or sentences in a column."""

    words: str | None = _table(
        None,
        "Score the words in this column of FILE, a CSV or TSV with a header and a row per word, and"
        " give the rows back with the figures after their cells.",
    )
    by: str | None = _table(
        None,
        "The columns, separated by commas, whose equal values in consecutive rows make one text.",
        metavar="COLUMNS",
        shown="all rows are one",
    )
    separator: str | None = _table(
        None,
        'What joins the words; "" for scripts without spaces. A space is left out before'
        " punctuation, n't and 's, and after opening brackets and quotation marks.",
        metavar="TEXT",
        shown="a space",
        bounds=Bounds(0),
    )
    column: str | None = _table(None, "Score the sentences in this column of FILE, likewise.")
    prefix_column: str | None = _table(
        None, "The column with what each sentence of --column continues."
    )
    region: str | None = _table(
        None,
        "The columns with the beginning and the end of a region, in characters of the sentence of"
        " --column from 0; its figures are added.",
        metavar="START:END",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.words is not None and self.column is not None:
            raise not_both("--words", "--column")
        needs = {"by": "words", "separator": "words", "prefix_column": "column", "region": "column"}
        for name, needed in needs.items():
            if getattr(self, name) is not None and getattr(self, needed) is None:
                needed = flag(needed)
                raise UsageError(f"{flag(name)} applies to {needed} only", fix=f"give {needed} too")

    @property
    def option(self) -> str | None:
        """The option that says where the texts are; None if they are in no table."""
        if self.words is not None:
            return "--words"
        return None if self.column is None else "--column"


@dataclass(frozen=True)
class AdaptationConfig(Config):
    """How a model is adapted to the text that it scores."""

    adapt: bool = _adaptation(
        False, "Train a copy of the model on each part of the text after scoring it."
    )
    adapt_rate: float = _adaptation(
        1.0, "Scale of these updates; 0 disables them.", bounds=Bounds(0, 1e3, closed_high=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapt_rate != type(self).adapt_rate and not self.adapt:
            raise UsageError("--adapt-rate applies to --adapt only", fix="give --adapt too")
