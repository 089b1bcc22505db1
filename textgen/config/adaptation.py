"""How a model learns from the text that it scores."""

import math
from dataclasses import dataclass

from textgen.config.options import Config, check_flag, check_real, option
from textgen.errors import UsageError

_ADAPTATION = "Adaptation"


@dataclass(frozen=True)
class AdaptationConfig(Config):
    """How a model learns from the text that it scores."""

    adapt: bool = option(
        False,
        "Let a copy of the model learn from what it has scored before it reads on.",
        panel=_ADAPTATION,
    )
    adapt_rate: float = option(
        1.0, "How far an update of that copy goes; 0 learns nothing.", panel=_ADAPTATION
    )

    def __post_init__(self) -> None:
        check_flag("adapt", self.adapt)
        if self.adapt_rate != type(self).adapt_rate and not self.adapt:
            raise UsageError("--adapt-rate is of --adapt", fix="give --adapt too")
        check_real("adapt_rate", self.adapt_rate, 0, math.inf)
