"""The progress of a run, its learning rate, and when it has nothing left to gain."""

import math
from dataclasses import dataclass, field

from textgen.config import TrainingConfig
from textgen.results import Validation

_VALIDATIONS = 10
_MOST_VALIDATING = 0.05
_MARGIN = 1.1
_SETTLED = 0.05  # of the run: from here on the places of its validations are fixed


@dataclass
class Schedule:
    """Progress from 0 to 1 by steps or by the clock, and the rate that follows it.

    Under a budget the last of the seconds are kept for the final validation and saving
    (``reserve``, as ``expect`` was told), so that all ends with the budget.
    validation_seconds: what one validation takes, as far as is known.
    """

    config: TrainingConfig
    total_steps: int | None
    reserve: float = 0.0
    validation_seconds: float = 0.0
    _reached: float = 0.0
    _places: int | None = None

    def progress(self, step: float, seconds: float) -> float:
        """The share of the run that is done after ``step`` updates and ``seconds`` of wall time."""
        if self.total_steps is not None:
            return min(1.0, step / self.total_steps)
        assert self.config.budget is not None
        # A shorter reserve must not turn the run back, or a tenth of it would come twice.
        self._reached = max(self._reached, seconds / (self.config.budget - self.reserve))
        return min(1.0, self._reached)

    def expect(self, validation_seconds: float, save_seconds: float) -> None:
        """Keep time at the end for one more validation and save, at most half of the budget."""
        self.validation_seconds = validation_seconds
        if self.config.budget is not None:
            needed = _MARGIN * (validation_seconds + save_seconds)
            self.reserve = min(needed, self.config.budget / 2)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up to the peak, then linear to zero."""
        warmup = self.config.warmup
        rising = progress / warmup if warmup else 1.0
        return self.config.learning_rate * min(rising, (1 - progress) / (1 - warmup))

    def validates(self, before: float, after: float, step: int) -> bool:
        """Whether a validation is due now that progress went from ``before`` to ``after``.

        It is at every tenth of the run; under a budget so short that ten would take more than
        a twentieth of it, at fewer places, and at the end always.
        """
        if after >= 1:
            return True
        if self.config.valid_every is not None:
            return step % self.config.valid_every == 0
        if self.total_steps is not None:
            return _VALIDATIONS * step // self.total_steps > (
                _VALIDATIONS * (step - 1) // self.total_steps
            )
        assert self.config.budget is not None
        if self._places is None or before < _SETTLED:
            # Settled while the first updates tell what a validation takes, before the first.
            affordable = _MOST_VALIDATING * self.config.budget / max(self.validation_seconds, 1e-9)
            self._places = min(_VALIDATIONS, int(affordable))
        return int(after * self._places) > int(before * self._places)


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
