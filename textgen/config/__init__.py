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
    MixtureConfig,
    ModelConfig,
    NgramConfig,
    RecurrentConfig,
    RNNConfig,
)
from textgen.config.options import (
    Config,
    check_arguments,
    check_options,
    check_whole,
    closest,
    field_type,
    flag,
    option_names,
    parse_duration,
    suggestion,
)
from textgen.config.sampling import NoveltyConfig, SamplingConfig
from textgen.config.scoring import AdaptationConfig, ScoreLevel, ScoringConfig, ScoringPrecision
from textgen.config.tokenizer import UNIT_TERMINATORS, Level, Split, TokenizerConfig, Unit
from textgen.config.training import PRESETS, VALID_FRACTION, Precision, TrainingConfig, with_preset

__all__ = [
    "KINDS",
    "LEARNED_BY_COUNTING",
    "PRESETS",
    "UNIT_TERMINATORS",
    "VALID_FRACTION",
    "Activation",
    "AdaptationConfig",
    "Config",
    "Device",
    "FeedForwardConfig",
    "HiddenMarkovConfig",
    "LayersConfig",
    "Level",
    "LogBase",
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
    "TokenizerConfig",
    "TrainingConfig",
    "Unit",
    "check_arguments",
    "check_options",
    "check_whole",
    "closest",
    "field_type",
    "flag",
    "option_names",
    "parse_duration",
    "suggestion",
    "with_preset",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
LogBase = float
"""The base of logarithms that are shown: math.e or any finite number above 1."""
