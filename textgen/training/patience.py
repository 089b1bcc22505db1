"""When there is nothing left to gain: the held-out text has long been getting less probable."""

import math
from dataclasses import dataclass, field

from textgen.results import Validation

_WORSE, _TIMES, _WAITS, _LATEST = 1.03, 3, 0.3, 0.8


@dataclass
class Patience:
    """Watches the validations of a run.

    A network that has learned its text by heart gives the held-out part ever less, and a lower
    rate does not bring that back. So a run is given up when three tenths of it brought no better
    validation, the last three were none better than the other and all at least 3 % above the
    best; but not in the last fifth, where the falling rate gains most. losses: since the best.
    """

    losses: list[float] = field(default_factory=list)

    def exhausted(
        self, validation: Validation, best: Validation | None, progress: float
    ) -> str | None:
        """Why the run should end here, or None. Told of every validation, in order."""
        if best is None or not validation.loss > best.loss:
            self.losses = []
            return None
        if math.isinf(validation.loss):  # which says nothing of the text
            return None
        self.losses.append(validation.loss)
        newest = self.losses[-_TIMES:]
        if len(newest) < _TIMES or newest != sorted(newest) or newest[0] < _WORSE * best.loss:
            return None
        whole_run = validation.step / progress
        if progress >= _LATEST or validation.step - best.step < _WAITS * whole_run:
            return None
        return (
            f"nothing left to gain: the validation loss has been rising since step {best.step:,}"
            f" ({best.loss:.4f}, now {validation.loss:.4f})"
        )
