"""How text is written."""

import math
from dataclasses import dataclass

from textgen.config.options import Config, check_flag, check_real, check_whole, option


@dataclass(frozen=True)
class SamplingConfig(Config):
    """How text is written."""

    temperature: float = option(
        1.0, "Below 1 keeps to the likely, above 1 strays; 0 is greedy.", panel="Decoding"
    )
    top_k: int | None = option(None, "Draw from the K likeliest tokens only.", panel="Decoding")
    top_p: float | None = option(
        None, "Draw from the likeliest tokens that make up this much probability.", panel="Decoding"
    )
    allow_unk: bool = option(False, "Let the model write <UNK>.", panel="Decoding")
    length: int = option(500, "Tokens to write, at most.", panel="Text")
    sentences: int | None = option(None, "Stop after this many sentences.", panel="Text")
    count: int = option(1, "How many samples to write.", panel="Text")
    seed: int = option(1, "Same seed, same text.", panel="Text")

    def __post_init__(self) -> None:
        check_real("temperature", self.temperature, 0, math.inf)
        check_whole("top_k", self.top_k, 1)
        check_real("top_p", self.top_p, 0, 1, open_low=True, closed_high=True)
        check_flag("allow_unk", self.allow_unk)
        check_whole("length", self.length, 1)
        check_whole("sentences", self.sentences, 1)
        check_whole("count", self.count, 1)
        check_whole("seed", self.seed, 0, 2**63 - 1)
