"""The progress of a run, its learning rate, when it validates and saves, and early stopping."""

import math
from dataclasses import dataclass, field

from textgen.config import TrainingConfig
from textgen.results import Validation

_VALIDATIONS = 10
_MOST_VALIDATING = 0.05
_MARGIN = 1.1
_FIXED_FROM = 0.05  # share of the run after which the places of its validations are fixed


@dataclass
class Schedule:
    """Progress from 0 to 1 by steps or by the clock, and the learning rate that follows it.

    Under a budget the last seconds are reserved for the final validation and save, so that
    everything ends within the budget.

    Attributes:
        total_steps: Updates of the whole run; None under a budget.
        reserve: Seconds reserved at the end, as ``expect`` estimates.
        validation_seconds: Duration of one validation, as far as it is known.
    """

    config: TrainingConfig
    total_steps: int | None
    reserve: float = 0.0
    validation_seconds: float = 0.0
    _reached: float = 0.0
    _places: int | None = None

    def progress(self, step: float, seconds: float) -> float:
        """The share of the run done after ``step`` updates and ``seconds`` of wall time."""
        if self.total_steps is not None:
            return min(1.0, step / self.total_steps)
        assert self.config.budget is not None
        # A shorter reserve must not lower the progress, or a validation would be due twice.
        self._reached = max(self._reached, seconds / (self.config.budget - self.reserve))
        return min(1.0, self._reached)

    def expect(self, validation_seconds: float, save_seconds: float) -> None:
        """Reserve time for one more validation and save, at most half of the budget."""
        self.validation_seconds = validation_seconds
        if self.config.budget is not None:
            needed = _MARGIN * (validation_seconds + save_seconds)
            self.reserve = min(needed, self.config.budget / 2)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up to the peak, then linear to zero."""
        warmup = self.config.warmup
        rising = progress / warmup if warmup else 1.0
        return self.config.learning_rate * min(rising, (1 - progress) / (1 - warmup))

    def validates(self, before: float, after: float, step: float) -> bool:
        """Whether a validation is due, now that progress went from ``before`` to ``after``.

        One is due at every tenth of the run and at its end; at fewer places under a budget so
        short that ten would take more than a twentieth of it.
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
        if self._places is None or before < _FIXED_FROM:
            # Estimated from the first updates, before there is a validation to measure.
            affordable = _MOST_VALIDATING * self.config.budget / max(self.validation_seconds, 1e-9)
            self._places = min(_VALIDATIONS, int(affordable))
        return int(after * self._places) > int(before * self._places)

    def next_validation(self, progress: float, step: float) -> float:
        """The share of the run at which the next one is due; NaN while it cannot be known."""
        if (every := self.config.valid_every) is not None:
            updates = self.total_steps or (step / progress if progress else math.nan)
            due = (step // every + 1) * every / updates
        elif self.total_steps is not None:
            tenths = _VALIDATIONS * step // self.total_steps + 1
            due = math.ceil(tenths * self.total_steps / _VALIDATIONS) / self.total_steps
        elif self._places is None:
            return math.nan
        else:
            due = (int(progress * self._places) + 1) / max(1, self._places)
        return due if math.isnan(due) else min(1.0, due)


_WORSE, _TIMES, _PATIENCE, _LAST_STOP = 1.03, 3, 0.3, 0.8


@dataclass
class Patience:
    """Early stopping.

    The validation loss of a network that overfits keeps rising, and a lower learning rate does
    not reverse that. So a run ends when three tenths of it gave no better validation and the last
    three rose, all at least 3 % above the best; but not in the last fifth, where the falling
    learning rate gains most.

    Attributes:
        losses: Of the validations since the best, in nats per token.
    """

    losses: list[float] = field(default_factory=list)

    def exhausted(
        self, validation: Validation, best: Validation | None, progress: float
    ) -> str | None:
        """Why the run should end here, or None; called with every validation, in order."""
        if best is None or not validation.loss > best.loss:
            self.losses = []
            return None
        if math.isinf(validation.loss):  # an overflow, not a property of the text
            return None
        self.losses.append(validation.loss)
        newest = self.losses[-_TIMES:]
        if len(newest) < _TIMES or newest != sorted(newest) or newest[0] < _WORSE * best.loss:
            return None
        whole_run = validation.step / progress
        if progress >= _LAST_STOP or validation.step - best.step < _PATIENCE * whole_run:
            return None
        return (
            f"nothing left to gain: the validation loss has been rising since step {best.step:,}"
            f" ({best.loss:.4f}, now {validation.loss:.4f})"
        )


_MAX_SAVING_SHARE = 0.02


@dataclass
class SaveClock:
    """Limits saving to a fiftieth of a run's time, whatever the model's size and the disk's speed.

    Attributes:
        requested: Seconds between saves, if the user chose them.
        saved_at: Seconds of the run at which the newest save was complete.
        save_seconds: How long it took.
    """

    requested: float | None = None
    saved_at: float = 0.0
    save_seconds: float = 0.0

    def is_due(self, seconds: float) -> bool:
        """Whether the requested interval is over; else a minute, up to ten if saving is slow."""
        interval = self.requested
        if interval is None:
            interval = min(600.0, max(60.0, self.save_seconds / _MAX_SAVING_SHARE))
        return seconds - self.saved_at >= interval

    def saved(self, begun_at: float, took: float) -> None:
        """Record a save that started at ``begun_at`` seconds of the run and took ``took``."""
        self.save_seconds = took
        self.saved_at = begun_at + took
