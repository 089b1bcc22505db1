"""The training loop: updates, validations and saves until the steps or the seconds are spent."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from textgen import checkpoint
from textgen.config import TrainingConfig
from textgen.errors import DivergedError
from textgen.models.base import IdArray
from textgen.process_memory import resident_bytes
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStep,
    TrainingWarning,
    Validation,
)
from textgen.training.ranks import SINGLE_PROCESS, Ranks
from textgen.training.run_directory import RunDirectory
from textgen.training.schedule import Patience, SaveClock, Schedule
from textgen.training.state import TrainerState
from textgen.training.validation import validate

_MAX_ROLLBACKS = 3
_PASSES_TO_FIT_MIXTURE = 4
_EXPLODED = 2.0
"""Times the loss of a uniform guess; a model that learns at all stays below once."""


@dataclass
class Trainer:
    """One run of training, in one process or the same in each of several.

    Attributes:
        directory: Written by rank 0 only.
        valid_ids: The validation part, on rank 0.
        stop: Returns the number of the signal that asks the run to end, or None.
        write_sample: Samples some text from the model, every ``sample_every`` seconds.
        validation: The newest.
        validates_start: Whether to validate before the first step too.
        interrupted: The signal that ended the run.
        ended_early: Why the run ended before its time, where there was nothing left to gain.
    """

    state: TrainerState
    schedule: Schedule
    directory: RunDirectory
    config: TrainingConfig
    valid_ids: IdArray
    stop: Callable[[], int | None]
    ranks: Ranks = SINGLE_PROCESS
    write_sample: Callable[[], str] | None = None
    sample_every: float | None = None
    validation: Validation | None = None
    patience: Patience = field(default_factory=Patience)
    validates_start: bool = False
    interrupted: int | None = None
    ended_early: str | None = None
    _begun: float = 0.0
    _saves: SaveClock = field(default_factory=SaveClock)
    _exploded: bool = False
    _overrun: bool = False
    _measured: bool = False
    _fastest_update: float = float("inf")
    _sampled: float = 0.0
    _logged: tuple[int, float] = (0, 0.0)
    _metrics_bytes: int = 0

    def run(self) -> Iterator[TrainingEvent]:
        """Train to the end of the schedule or to a signal; a save is whole when its event comes.

        Every rank runs this loop and takes the same branches: they follow from the clock of
        rank 0, from signals to any rank, and from averaged losses and gradients.
        """
        state = self.state
        self._saves.asked = self.config.save_every
        if state.step == 0:
            yield self._save()
            if self.ranks.is_first:
                self.directory.start_afresh()
        self._start_clock()
        self._remember()
        progress = self._progress()
        if self._is_validation_due_at_start(progress):
            yield from self._validate(final=progress >= 1)
            progress = self._progress()
        while progress < 1:
            before = progress
            self._update()
            yield from self._warnings()
            if not self._measured:
                self.schedule.expect(self._estimated_validation_seconds(), self._saves.save_seconds)
            progress = self._progress(polls=True)
            due = self._is_validation_due(before, progress)
            saving = self._saves.is_due(state.seconds)
            # Only where the device would be waited for anyway, unless waiting costs nothing.
            checks = due or saving or self.interrupted is not None or self._logs()
            if (checks or state.model.device.type == "cpu") and not state.is_finite:
                progress = self._roll_back()
                if progress >= 1:  # the budget was spent meanwhile
                    yield from self._validate(final=True)
                continue
            yield from self._log(progress)
            if self.interrupted is not None:
                yield self._save()
                return
            if due:
                yield from self._validate(final=progress >= 1)
                if self.ended_early is not None:
                    return
            elif saving:
                yield self._save()
            yield from self._sample()

    def _start_clock(self) -> None:
        """Go on from the seconds that a resumed run had used."""
        state = self.state
        self._begun = time.perf_counter() - state.seconds
        self._saves.saved_at = self._sampled = state.seconds
        self._logged = (state.step, state.step_seconds)

    def _is_validation_due_at_start(self, progress: float) -> bool:
        """Whether a validation is due where the run begins, or was due where it was stopped."""
        step = self.state.step
        if step == 0:
            return self.validates_start
        made = self.validation is not None and self.validation.step == step
        return not made and self._is_validation_due(progress, progress)

    def _is_validation_due(self, before: float, progress: float) -> bool:
        updates = self.state.step if self.config.valid_every is not None else self._position()
        return self.schedule.validates(before, progress, updates)

    def _clock(self, *, polls: bool = False) -> float:
        """Seconds of the run by the clock of rank 0; ``polls``: also look for a signal to any."""
        first = self.ranks.is_first
        seconds, update_seconds, signum = self.ranks.maximum(
            time.perf_counter() - self._begun if first else 0.0,
            self._fastest_update if first else 0.0,
            (self.stop() or 0) if polls else 0,
        )
        self.state.seconds, self._fastest_update = seconds, update_seconds
        if polls:
            self.interrupted = int(signum) or None
        return seconds

    def _position(self) -> float:
        """Updates so far, or as many of today's as the same tokens make.

        A run of whole epochs that was resumed with another number of processes had updates of
        another size.
        """
        if self.config.epochs is None:
            return self.state.step
        return self.state.tokens_seen / self.state.tokens_per_step

    def _progress(self, *, polls: bool = False) -> float:
        return self.schedule.progress(self._position(), self._clock(polls=polls))

    def _update(self) -> None:
        begun = time.perf_counter()
        # An update has the learning rate of its middle, so that none is at 0.
        middle = self.schedule.progress(self._position() + 0.5, self.state.seconds)
        self.state.update(self.schedule.learning_rate(middle))
        seconds = time.perf_counter() - begun
        self._fastest_update = min(self._fastest_update, seconds)
        self.state.step_seconds += seconds

    def _warnings(self) -> Iterator[TrainingEvent]:
        for text in self.state.warnings:
            yield TrainingWarning(self.state.step, text)
        self.state.warnings = ()

    def _roll_back(self) -> float:
        """Return to the last good state and go on at a lower learning rate; the new progress.

        Raises:
            DivergedError: The whole run, resumptions included, did so too often.
        """
        state = self.state
        rollbacks = state.rollbacks + 1
        if rollbacks > _MAX_ROLLBACKS:
            best = self.directory.best
            raise DivergedError(
                "training diverged",
                where=f"step {state.step}",
                why=f"the loss was not finite {rollbacks} times, at ever lower learning rates",
                fix="lower --learning-rate"
                + (f"; the best model, of step {best.step}, is kept" if best else ""),
            )
        scale = state.learning_rate_scale * 0.5**rollbacks
        state.roll_back()
        state.learning_rate_scale, state.rollbacks = scale, rollbacks
        if self.ranks.is_first:
            self.directory.cut_back(self._metrics_bytes)
        self._logged = (state.step, state.step_seconds)
        return self._progress()

    def _remember(self) -> None:
        """Keep a copy of the present state to roll back to."""
        self.state.remember()
        if self.ranks.is_first:
            self._metrics_bytes = self.directory.length()

    def _logs(self) -> bool:
        return self.state.step % self.config.log_every == 0

    def _log(self, progress: float) -> Iterator[TrainingEvent]:
        state = self.state
        if not self._logs():
            return
        steps, used = state.step - self._logged[0], state.step_seconds - self._logged[1]
        self._logged = (state.step, state.step_seconds)
        event = TrainingStep(
            step=state.step,
            epoch=state.tokens_seen / self.directory.template.corpus.train.tokens,
            loss=state.take_mean_loss(),
            learning_rate=state.learning_rate,
            gradient_norm=state.gradient_norm,
            tokens_seen=state.tokens_seen,
            tokens_per_second=steps * state.tokens_per_step / max(used, 1e-9),
            progress=progress,
            seconds=state.seconds,
            remaining_seconds=self._remaining(progress),
            memory_bytes=resident_bytes(),
        )
        if self.ranks.is_first:
            self.directory.log_step(event)
        yield event
        yield from self._warn_of_explosion(event)
        yield from self._warn_of_overrun()

    def _warn_of_explosion(self, event: TrainingStep) -> Iterator[TrainingEvent]:
        """Warn once that the loss, though finite, is far worse than a uniform guess."""
        uniform = math.log(self.state.model.config.vocabulary_size)
        exploded, before = event.loss > _EXPLODED * uniform, self._exploded
        self._exploded = exploded
        if exploded and not before:
            yield TrainingWarning(
                event.step,
                f"the training loss is {event.loss:.4g} at step {event.step}, where guessing has"
                f" {uniform:.4g}; the best model so far is kept; if it stays so, lower"
                " --learning-rate",
            )

    def _warn_of_overrun(self) -> Iterator[TrainingEvent]:
        """Warn, before the first validation, that the last will not end with the budget."""
        budget, needed = self.config.budget, self._estimated_validation_seconds()
        if self._measured or self._overrun or budget is None or needed < budget / 2:
            return
        self._overrun = True
        tokens = self.directory.template.corpus.valid.tokens
        yield TrainingWarning(
            self.state.step,
            f"reading the {tokens:,} tokens held out takes about {needed:,.0f} s"
            f" here, of a budget of {budget:,.0f} s, which will be exceeded; hold out less with"
            " --valid-fraction, or give a shorter --valid",
        )

    def _remaining(self, progress: float) -> float:
        if self.config.budget is not None:
            return max(0.0, self.config.budget - self.state.seconds)
        return self.state.seconds * (1 - progress) / max(progress, 1e-9)

    def _validate(self, *, final: bool) -> Iterator[TrainingEvent]:
        begun = self._clock()
        validation, best_folder = self.ranks.first(self._validate_and_keep_best)
        if math.isfinite(validation.loss):
            self.validation = validation
        yield validation
        if best_folder is not None:
            self.directory.best = validation
            yield CheckpointSaved(validation.step, checkpoint.BEST, best_folder)
        progress = self._progress()
        self.ended_early = self.patience.exhausted(validation, self.directory.best, progress)
        if self.ended_early is not None:
            yield TrainingWarning(self.state.step, self.ended_early)
        seconds = self._clock() - begun
        if final or self.ended_early is not None or self._saves.is_due(self.state.seconds):
            yield self._save()
        self._remember()
        self._measured = True
        self.schedule.expect(seconds, self._saves.save_seconds)

    def _validate_and_keep_best(self) -> tuple[Validation, str | None]:
        """The validation, and the folder of the new ``best`` where it is one."""
        state = self.state
        state.prepare_validation()
        characters = self.directory.template.corpus.valid.characters
        validation = validate(state.model, self.valid_ids, characters=characters, step=state.step)
        validation = replace(validation, seconds=time.perf_counter() - self._begun)
        self.directory.log_validation(validation)
        best = self.directory.best
        # A loss that is NaN is not smaller than any, so it is never the best.
        if validation.loss < (best.loss if best else math.inf):
            return validation, str(self.directory.save_best(state, validation))
        return validation, None

    def _estimated_validation_seconds(self) -> float:
        """Reading a token costs about half of learning from it; fitting a mixture, some passes."""
        tokens = self.config.batch_size * self.config.sequence_length
        read = self.directory.template.corpus.valid.tokens
        read += _PASSES_TO_FIT_MIXTURE * self.state.held_out_tokens
        return 0.5 * read * self._fastest_update / tokens

    def _save(self) -> CheckpointSaved:
        begun = time.perf_counter()
        snapshot = self.state.snapshot()

        def write() -> tuple[str, float]:
            losses = tuple(self.patience.losses)
            path = self.directory.save_last(self.state, snapshot, self.validation, losses)
            return str(path), time.perf_counter() - begun

        path, seconds = self.ranks.first(write)
        self._saves.saved(self.state.seconds, seconds)
        return CheckpointSaved(self.state.step, checkpoint.LAST, path)

    def _sample(self) -> Iterator[TrainingEvent]:
        if self.write_sample is None or self.sample_every is None or not self.ranks.is_first:
            return
        seconds = time.perf_counter() - self._begun
        if seconds - self._sampled >= self.sample_every:
            self._sampled = seconds
            yield TrainingSample(self.state.step, self.write_sample())
