"""What is asked of a model at each token, by the level at which its scores are wanted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from textgen.config import ScoringConfig
from textgen.models.gauges import Alternatives, Entropy, Gauge, LogMass, PrefixMasses, Rank
from textgen.models.likelihood import Readings
from textgen.scoring.spellings import Spellings
from textgen.tokenizers.base import Tokenizer

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What was read off each token (tokens,), as far as it was asked.

    log_probs: natural. entropies: of the distribution, in nats. ranks: 1 is the likeliest.
    boundaries: ln of the probability that a word begins there, or the sentence ends.
    prefixes: (tokens, characters) the probability of its first character, its first two, ...
    alternatives: (tokens, 2 count) ids of the likeliest, then the ln p of each.
    """

    log_probs: Floats
    entropies: Floats | None = None
    ranks: Floats | None = None
    boundaries: Floats | None = None
    prefixes: Floats | None = None
    alternatives: Floats | None = None


def gauges_for(tokenizer: Tokenizer, config: ScoringConfig) -> Mapping[str, Gauge]:
    """The gauges that give the measures of these names."""
    gauges: dict[str, Gauge] = {}
    if config.level in ("token", "word"):
        gauges |= {"entropies": Entropy(), "ranks": Rank()}
    if config.level == "word":
        spellings = Spellings(tokenizer)
        gauges["boundaries"] = LogMass(torch.from_numpy(spellings.starts_word()), spellings.way)
    if config.level == "character" and tokenizer.level != "char":
        spellings = Spellings(tokenizer)
        gauges["prefixes"] = PrefixMasses(spellings.prefixes(), spellings.way)
    if config.alternatives:
        count = min(config.alternatives, tokenizer.vocabulary_size)
        gauges["alternatives"] = Alternatives(count)
    return gauges


def measures(gauges: Mapping[str, Gauge], readings: Readings) -> Measures:
    """The readings of some tokens (tokens, columns) by the names of the gauges."""
    ends = np.cumsum([1, *(gauge.columns for gauge in gauges.values())])
    log_probs, *columns = np.split(readings, ends[:-1], axis=1)
    named = {
        name: part[:, 0] if gauge.columns == 1 and name != "prefixes" else part
        for (name, gauge), part in zip(gauges.items(), columns, strict=True)
    }
    return Measures(log_probs[:, 0], **named)
