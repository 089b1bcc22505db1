"""What a person can set. Every default lives here and nowhere else.

Each dataclass is frozen and checks itself where it is made. A field's metadata holds what the
command line shows of it, so that the option, its help and its default are one fact.
"""

from typing import Literal

from textgen.config.modelling import ModelConfig
from textgen.config.novelty import NoveltyConfig
from textgen.config.options import (
    Config,
    check_options,
    flag,
    option_names,
    parse_duration,
    parse_sizes,
)
from textgen.config.sampling import SamplingConfig
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
    "UNIT_TERMINATORS",
    "VALID_FRACTION",
    "Config",
    "Context",
    "Device",
    "Level",
    "LogBase",
    "ModelConfig",
    "NoveltyConfig",
    "Precision",
    "SamplingConfig",
    "Split",
    "SubwordModel",
    "TokenizerConfig",
    "TrainingConfig",
    "Unit",
    "check_options",
    "flag",
    "option_names",
    "parse_duration",
    "parse_sizes",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
Context = Literal["sentence", "document"]
LogBase = Literal["e", "2", "10"]
