"""How the scores of an n-best list become one, and how two models become one."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from textgen.config.options import Config, check_real, option
from textgen.errors import UsageError

NbestFormat = Literal["nbest", "1best", "transcripts", "json"]

_EVENLY = 0.5
_MOST = 1e6


@dataclass(frozen=True)
class RerankingConfig(Config):
    """How the scores of a hypothesis become one: the higher, the better.

    total = acoustic + lm_scale * ((1 - weight) * old + weight * new) + length_penalty * words

    All scores are natural logarithms: a recogniser's acoustic one, the old language model's, and
    the new one's, ``<EOS>`` counted. A score that the list does not have is left out.
    """

    weight: float | None = option(
        None,
        "The new language model's share of the language models' score; the old one has the rest.",
        shown="0.5, or 1 where the list has no old one",
    )
    lm_scale: float = option(
        1.0,
        "What the language models' score is multiplied by before the acoustic score is added.",
    )
    length_penalty: float = option(
        0.0, "Added for each word, in nats; below 0 it favours the shorter."
    )

    def __post_init__(self) -> None:
        check_real("weight", self.weight, 0, 1, closed_high=True)
        check_real("lm_scale", self.lm_scale, 0, _MOST)
        check_real("length_penalty", self.length_penalty, -_MOST, _MOST)

    def settled(self, *, old: bool) -> Self:
        """With a weight for a list that has the old language model's scores, or has not.

        Raises UsageError where there is nothing to weigh the new score against.
        """
        if not old and self.weight not in (None, 1):
            raise UsageError(
                "--weight is the share of two language models, and the list has no old scores",
                where="--weight",
                fix="leave it out, or use --lm-scale against the acoustic score",
            )
        default = _EVENLY if old else 1.0
        return dataclasses.replace(self, weight=default if self.weight is None else self.weight)


@dataclass(frozen=True)
class MixingConfig(Config):
    """How two language models become one: p = (1 - mix_weight) p1 + mix_weight p2, word by word."""

    mix_weight: float = option(0.5, "The --mix model's share of each word's probability.")

    def __post_init__(self) -> None:
        check_real("mix_weight", self.mix_weight, 0, 1, closed_high=True)
