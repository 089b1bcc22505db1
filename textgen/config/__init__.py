"""The configurations: every option with its default, bounds and help.

Each dataclass is frozen and checks its values when it is made.
"""

from typing import Literal

from textgen.config.model import (
    KINDS,
    LEARNED_BY_COUNTING,
    Activation,
    FeedForwardConfig,
    HiddenMarkovConfig,
    LayersConfig,
    LSTMConfig,
    MixtureConfig,
    ModelConfig,
    NgramConfig,
    RecurrentConfig,
    RNNConfig,
    is_uncounted,
)
from textgen.config.options import (
    Amount,
    Bounds,
    Config,
    Count,
    Loss,
    check_arguments,
    check_options,
    check_whole,
    closest,
    field_type,
    flag,
    option_names,
    parse_duration,
    shortened,
    suggestion,
)
from textgen.config.sampling import NoveltyConfig, SamplingConfig
from textgen.config.scoring import (
    MOST_SEARCHED_WORDS,
    AdaptationConfig,
    ScoreLevel,
    ScoringConfig,
    ScoringPrecision,
    TableConfig,
)
from textgen.config.tokenizer import (
    UNIT_TERMINATORS,
    Level,
    Split,
    TokenizerConfig,
    Unit,
    ValidSplit,
)
from textgen.config.training import (
    PRESETS,
    VALID_FRACTION,
    VALID_OPTIONS,
    Precision,
    TextAmount,
    TrainingConfig,
    explaining_preset,
    with_preset,
)

__all__ = [
    "KINDS",
    "LEARNED_BY_COUNTING",
    "MOST_SEARCHED_WORDS",
    "PRESETS",
    "UNIT_TERMINATORS",
    "VALID_FRACTION",
    "VALID_OPTIONS",
    "Activation",
    "AdaptationConfig",
    "Amount",
    "Bounds",
    "Config",
    "Count",
    "Device",
    "FeedForwardConfig",
    "HiddenMarkovConfig",
    "LSTMConfig",
    "LayersConfig",
    "Level",
    "LogBase",
    "Loss",
    "MixtureConfig",
    "ModelConfig",
    "NgramConfig",
    "NoveltyConfig",
    "Precision",
    "RNNConfig",
    "RecurrentConfig",
    "SamplingConfig",
    "ScoreLevel",
    "ScoringConfig",
    "ScoringPrecision",
    "Split",
    "TableConfig",
    "TextAmount",
    "TokenizerConfig",
    "TrainingConfig",
    "Unit",
    "ValidSplit",
    "check_arguments",
    "check_options",
    "check_whole",
    "closest",
    "explaining_preset",
    "field_type",
    "flag",
    "is_uncounted",
    "option_names",
    "parse_duration",
    "shortened",
    "suggestion",
    "with_preset",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
LogBase = float
"""The base of logarithms that are shown: math.e or any finite number above 1."""
