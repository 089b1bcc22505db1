"""The options of reranking: how the scores are combined, and how two models are mixed."""

import dataclasses
from dataclasses import dataclass
from typing import Self

from textgen.config.options import Bounds, Config, option
from textgen.errors import UsageError

_LARGEST = 1e6


@dataclass(frozen=True)
class RerankingConfig(Config):
    """How the scores of a hypothesis are combined into a total; higher is better.

    total = acoustic + lm_scale * ((1 - weight) * old + weight * new) + length_penalty * words

    All scores are natural logarithms: the recognizer's acoustic score, that of the old language
    model and that of the new one, ``<EOS>`` included. A score that the list lacks is left out.
    """

    weight: float | None = option(
        None,
        "The new language model's share of the language models' score; the old one has the rest.",
        shown="0.5, or 1 where the list has no old one",
        bounds=Bounds(0, 1, closed_high=True),
    )
    lm_scale: float = option(
        1.0,
        "Factor on the language models' score before the acoustic score is added.",
        bounds=Bounds(0, _LARGEST),
    )
    length_penalty: float = option(
        0.0,
        "Added for each word, in nats; below 0 it favours shorter hypotheses.",
        bounds=Bounds(-_LARGEST, _LARGEST),
    )

    def resolved(self, *, has_old_lm: bool) -> Self:
        """The same with a weight, for a list with or without scores of an old language model.

        Raises:
            UsageError: A weight other than 1 was given, and the list has no old scores.
        """
        if not has_old_lm and self.weight not in (None, 1):
            raise UsageError(
                "--weight is the share of two language models, and the list has no old scores",
                where="--weight",
                fix="leave it out, or use --lm-scale against the acoustic score",
            )
        default = 0.5 if has_old_lm else 1.0
        return dataclasses.replace(self, weight=default if self.weight is None else self.weight)


@dataclass(frozen=True)
class MixingConfig(Config):
    """How two language models are mixed: p = (1 - mix_weight) p1 + mix_weight p2 for each word."""

    mix_weight: float = option(
        0.5,
        "The --mix model's share of each word's probability.",
        bounds=Bounds(0, 1, closed_high=True),
    )
