"""How far a run is, and the learning rate there."""

from dataclasses import dataclass

from textgen.config import TrainingConfig

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
