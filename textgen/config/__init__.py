"""What a person can set. Every default lives here and nowhere else.

Each dataclass is frozen and checks itself where it is made. A field's metadata holds what the
command line shows of it, so that the option, its help and its default are one fact.
"""

from typing import Literal

from textgen.config.adaptation import AdaptationConfig
from textgen.config.comparing import SHARED, ComparisonConfig, Variant
from textgen.config.kinds import KINDS, LEARNED_BY_COUNTING, Kind
from textgen.config.modelling import Activation, ModelConfig
from textgen.config.novelty import NoveltyConfig
from textgen.config.options import (
    Config,
    check_options,
    check_whole,
    closest,
    field_type,
    flag,
    option_names,
    parse_duration,
    parse_sizes,
)
from textgen.config.picturing import LossOver, MapMethod
from textgen.config.presets import PRESETS, with_preset
from textgen.config.reranking import MixingConfig, NbestFormat, PairsFormat, RerankingConfig
from textgen.config.sampling import SamplingConfig
from textgen.config.scoring import Context, ScoreFormat, ScoreLevel, ScoringConfig
from textgen.config.tokenizing import (
    UNIT_TERMINATORS,
    Level,
    Split,
    SubwordModel,
    TokenizerConfig,
    Unit,
)
from textgen.config.training import VALID_FRACTION, Precision, TrainingConfig

__all__ = [
    "KINDS",
    "LEARNED_BY_COUNTING",
    "PRESETS",
    "SHARED",
    "UNIT_TERMINATORS",
    "VALID_FRACTION",
    "Activation",
    "AdaptationConfig",
    "ComparisonConfig",
    "Config",
    "Context",
    "Device",
    "Kind",
    "Level",
    "LogBase",
    "LossOver",
    "MapMethod",
    "MixingConfig",
    "ModelConfig",
    "NbestFormat",
    "NoveltyConfig",
    "PairsFormat",
    "Precision",
    "RerankingConfig",
    "SamplingConfig",
    "ScoreFormat",
    "ScoreLevel",
    "ScoringConfig",
    "Split",
    "SubwordModel",
    "TokenizerConfig",
    "TrainingConfig",
    "Unit",
    "Variant",
    "check_options",
    "check_whole",
    "closest",
    "field_type",
    "flag",
    "option_names",
    "parse_duration",
    "parse_sizes",
    "with_preset",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
LogBase = float
"""The base of logarithms that are shown: math.e or any finite number above 1."""
