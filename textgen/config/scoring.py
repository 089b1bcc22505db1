"""Configuration of scoring, and of adaptation while scoring."""

from dataclasses import dataclass
from typing import Literal

from textgen.config.options import Bounds, Config, option, setting
from textgen.config.sampling import OnUnknown
from textgen.errors import UsageError

ScoreLevel = Literal["sentence", "word", "token", "character"]
Context = Literal["sentence", "document"]
ScoringPrecision = Literal["float32", "float64", "bf16"]

_TEXT = "Text"


@dataclass(frozen=True)
class ScoringConfig(Config):
    """How text is scored."""

    level: ScoreLevel = option(
        "sentence",
        "Score sentences, or also the words, tokens or characters of each.",
        shown="depends on --format",
    )
    context: Context = option(
        "sentence",
        "Score each sentence by itself, or carry the state of the model over to the next.",
        panel=_TEXT,
    )
    prefix: str | None = option(
        None,
        "Score each text as the continuation of this; nothing is inserted between them.",
        panel=_TEXT,
        bounds=Bounds(0),
    )
    eos: bool | None = option(
        None,
        "Include the end of each text, <EOS>.",
        panel=_TEXT,
        shown="yes, but not after a prefix",
    )
    open_vocabulary: bool = option(
        False,
        "Give unknown words the probability of their spelling, so that models are comparable.",
        panel=_TEXT,
    )
    on_unknown: OnUnknown = option(
        "unk",
        "What to do with unknown words or characters: score <UNK>, stop, or skip the sentence.",
        panel=_TEXT,
    )
    skip_empty: bool = option(False, "Skip empty sentences.", panel=_TEXT)
    alternatives: int = setting(0, Bounds(0, 2**10))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prefix is not None and self.context == "document":
            raise UsageError(
                "--prefix and --context document cannot both be given",
                why="each text continues the prefix, not the text before it",
                fix="leave one out",
            )


_ADAPTATION = "Adaptation"


@dataclass(frozen=True)
class AdaptationConfig(Config):
    """How a model is adapted to the text that it scores."""

    adapt: bool = option(
        False,
        "Train a copy of the model on each part of the text after scoring it.",
        panel=_ADAPTATION,
    )
    adapt_rate: float = option(
        1.0, "Scale of these updates; 0 disables them.", panel=_ADAPTATION, bounds=Bounds(0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapt_rate != type(self).adapt_rate and not self.adapt:
            raise UsageError("--adapt-rate applies to --adapt only", fix="give --adapt too")
