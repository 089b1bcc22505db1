"""The training loop: windows in, events out, until the steps or the seconds are spent.

Also the validation loss, which equals that of ``score --context document`` on the same text, the
intervals between saves, and the n-gram baseline of a finished run.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from textgen.config import ModelConfig, TrainingConfig
from textgen.errors import DivergedError
from textgen.inference.likelihood import Document
from textgen.models import Model, build
from textgen.models.base import IdArray
from textgen.process_memory import resident_bytes
from textgen.results import (
    CheckpointSaved,
    NgramBaseline,
    TrainingEvent,
    TrainingSample,
    TrainingStep,
    TrainingWarning,
    Validation,
)
from textgen.tokenizers.base import EOS, UNK
from textgen.training.run_directory import Record
from textgen.training.schedule import Schedule
from textgen.training.trainer import Learner

_PART_TOKENS = 2**20


def validate(
    model: Model, ids: IdArray, *, characters: int, step: int = 0, seconds: float = 0.0
) -> Validation:
    """One pass over a text in document context, every token scored once, in float32."""
    document = Document(model, first=EOS)
    log_prob = 0.0
    for begin in range(0, len(ids), _PART_TOKENS):
        log_prob += float(document.read(ids[begin : begin + _PART_TOKENS]).sum())
    return Validation(
        loss=-log_prob / len(ids),
        tokens=len(ids),
        characters=characters,
        unknown=int(np.count_nonzero(ids == UNK)),
        pseudo=not model.is_causal,
        step=step,
        seconds=seconds,
    )


_INTERVAL_SECONDS = 60.0
_LONGEST_SECONDS = 600.0
_MOST_SAVING = 0.02


@dataclass
class SaveClock:
    """Keeps saving to a fiftieth of a run's time, whatever the model's size and the disk's speed.

    asked: the seconds between saves where the user chose them; they are then heeded.
    saved_at: the run's seconds when the newest save was done. save_seconds: what it took.
    """

    asked: float | None = None
    saved_at: float = 0.0
    save_seconds: float = 0.0

    @property
    def interval(self) -> float:
        """A minute; where that would be too often, longer, but ten minutes at most."""
        if self.asked is not None:
            return self.asked
        return min(_LONGEST_SECONDS, max(_INTERVAL_SECONDS, self.save_seconds / _MOST_SAVING))

    def is_due(self, seconds: float) -> bool:
        return seconds - self.saved_at >= self.interval

    def saved(self, begun_at: float, took: float) -> None:
        """A save began at ``begun_at`` of the run's seconds and took ``took`` of them."""
        self.save_seconds = took
        self.saved_at = begun_at + took


_ROLLBACKS = 3
_READINGS_TO_SETTLE = 4
_EXPLODED = 2.0
"""Times the loss of guessing blindly; a model that learns at all stays below once."""


@dataclass
class Loop:
    """One run of training.

    stop: gives the number of the signal that asked the run to end, or None.
    write_sample: a few words of the model's, asked for every ``sample_every`` seconds.
    validates_start: whether to validate before the first step too. ended_early: why the run was
    ended before its time, where there was nothing left to gain.
    """

    learner: Learner
    schedule: Schedule
    record: Record
    config: TrainingConfig
    valid_ids: IdArray
    valid_characters: int
    tokens_an_epoch: int
    stop: Callable[[], int | None]
    write_sample: Callable[[], str] | None = None
    sample_every: float | None = None
    validation: Validation | None = None
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
    _good: tuple[Any, ...] = field(default=())

    def run(self) -> Iterator[TrainingEvent]:
        """Train to the end of the schedule, or to a signal; every save is whole when it is told."""
        learner = self.learner
        self._saves.asked = self.config.save_every
        if learner.step == 0:
            yield self._save()
            self.record.start_afresh()
        self._start_clock()
        self._remember()
        progress = self.schedule.progress(learner.step, learner.seconds)
        if self._owes_validation(progress):
            yield from self._validate(final=progress >= 1)
            progress = self.schedule.progress(learner.step, learner.seconds)
        while progress < 1:
            before = progress
            self._update()
            yield from self._remarks()
            if not self._measured:
                self.schedule.expect(self._guessed_validation_seconds(), self._saves.save_seconds)
            progress = self.schedule.progress(learner.step, self._clock())
            self.interrupted = self.stop()
            due = self.schedule.validates(before, progress, learner.step)
            saving = self._saves.is_due(learner.seconds)
            # Only where the device would be waited for anyway, unless waiting costs nothing.
            looking = due or saving or self.interrupted is not None or self._logs()
            if (looking or learner.model.device.type == "cpu") and not learner.is_finite:
                progress = self._go_back()
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
        learner = self.learner
        self._begun = time.perf_counter() - learner.seconds
        self._saves.saved_at = self._sampled = learner.seconds
        self._logged = (learner.step, learner.step_seconds)

    def _owes_validation(self, progress: float) -> bool:
        """Whether a validation is due where the run begins, or was due where it was stopped."""
        step = self.learner.step
        if step == 0:
            return self.validates_start
        made = self.validation is not None and self.validation.step == step
        return not made and self.schedule.validates(progress, progress, step)

    def _clock(self) -> float:
        self.learner.seconds = time.perf_counter() - self._begun
        return self.learner.seconds

    def _update(self) -> None:
        begun = time.perf_counter()
        # An update has the rate of its middle, so that none is at rate 0.
        middle = self.schedule.progress(self.learner.step + 0.5, self.learner.seconds)
        self.learner.update(self.schedule.learning_rate(middle))
        seconds = time.perf_counter() - begun
        self._fastest_update = min(self._fastest_update, seconds)
        self.learner.step_seconds += seconds

    def _remarks(self) -> Iterator[TrainingEvent]:
        for text in self.learner.remarks:
            yield TrainingWarning(self.learner.step, text)
        self.learner.remarks = ()

    def _go_back(self) -> float:
        """Return to the last good state, to go on at a lower rate; a few times at most.

        The few are of the whole run, however often it was resumed. Returns the new progress.
        """
        learner = self.learner
        rollbacks = learner.rollbacks + 1
        where = f"step {learner.step}"
        if rollbacks > _ROLLBACKS:
            best = self.record.best
            raise DivergedError(
                "training diverged",
                where=where,
                why=f"the loss was not finite {rollbacks} times, at ever lower rates",
                fix="lower --learning-rate"
                + (f"; the best model, of step {best.step}, is kept" if best else ""),
            )
        weights, tensors, values, metrics = self._good
        with torch.no_grad():
            for parameter, weight in zip(learner.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        clocks = {"seconds": learner.seconds, "step_seconds": learner.step_seconds}
        slower = {"rate_scale": learner.rate_scale * 0.5**rollbacks, "rollbacks": rollbacks}
        learner.restore(tensors, values | clocks | slower)
        self.record.cut_back(metrics)
        self._logged = (learner.step, learner.step_seconds)
        return self.schedule.progress(learner.step, self._clock())

    def _remember(self) -> None:
        """Keep a copy of the present state to go back to."""
        weights = [parameter.detach().clone() for parameter in self.learner.model.parameters()]
        self._good = (weights, *self.learner.snapshot(), self.record.length())

    def _logs(self) -> bool:
        return self.learner.step % self.config.log_every == 0

    def _log(self, progress: float) -> Iterator[TrainingEvent]:
        learner = self.learner
        if not self._logs():
            return
        seconds = self._clock()
        steps, used = learner.step - self._logged[0], learner.step_seconds - self._logged[1]
        self._logged = (learner.step, learner.step_seconds)
        tokens = steps * learner.tokens_a_step
        event = TrainingStep(
            step=learner.step,
            epoch=learner.tokens_seen / self.tokens_an_epoch,
            loss=learner.take_mean_loss(),
            learning_rate=learner.learning_rate,
            gradient_norm=learner.gradient_norm,
            tokens_seen=learner.tokens_seen,
            tokens_per_second=tokens / max(used, 1e-9),
            progress=progress,
            seconds=seconds,
            remaining_seconds=self._remaining(progress, seconds),
            memory_bytes=resident_bytes(),
        )
        self.record.log_step(event)
        yield event
        yield from self._warn_of_explosion(event)
        yield from self._warn_of_overrun()

    def _warn_of_explosion(self, event: TrainingStep) -> Iterator[TrainingEvent]:
        """Say once that the loss, though finite, is far worse than guessing blindly."""
        uniform = math.log(self.learner.model.config.vocabulary_size)
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
        """Say, before the first validation, that the last will not end with the budget."""
        budget, needed = self.config.budget, self._guessed_validation_seconds()
        if self._measured or self._overrun or budget is None or needed < budget / 2:
            return
        self._overrun = True
        yield TrainingWarning(
            self.learner.step,
            f"reading the {len(self.valid_ids):,} tokens held out takes about {needed:,.0f} s"
            f" here, of a budget of {budget:,.0f} s, which will be exceeded; hold out less with"
            " --valid-fraction, or give a shorter --valid",
        )

    def _remaining(self, progress: float, seconds: float) -> float:
        if self.config.budget is not None:
            return max(0.0, self.config.budget - seconds)
        return seconds * (1 - progress) / max(progress, 1e-9)

    def _validate(self, *, final: bool) -> Iterator[TrainingEvent]:
        begun = self._clock()
        learner = self.learner
        learner.settle()
        validation = validate(
            learner.model, self.valid_ids, characters=self.valid_characters, step=learner.step
        )
        validation = replace(validation, seconds=self._clock())
        if math.isfinite(validation.loss):
            self.validation = validation
        self.record.log_validation(validation)
        yield validation
        best = self.record.best
        # A loss that is not a number is not smaller than any, so it is never the best.
        if validation.loss < (best.loss if best else float("inf")):
            path = self.record.save_best(learner, validation)
            yield CheckpointSaved(learner.step, path.name, str(path))
        progress = self.schedule.progress(learner.step, self._clock())
        self.ended_early = self.record.patience.exhausted(validation, self.record.best, progress)
        if self.ended_early is not None:
            yield TrainingWarning(learner.step, self.ended_early)
        seconds = self._clock() - begun
        if final or self.ended_early is not None or self._saves.is_due(learner.seconds):
            yield self._save()
        self._remember()
        self._measured = True
        self.schedule.expect(seconds, self._saves.save_seconds)

    def _guessed_validation_seconds(self) -> float:
        """Reading a token costs about half of learning from it; settling, some token_statistics."""
        tokens = self.config.batch_size * self.config.sequence_length
        read = len(self.valid_ids) + _READINGS_TO_SETTLE * self.learner.kept_tokens
        return 0.5 * read * self._fastest_update / tokens

    def _save(self) -> CheckpointSaved:
        begun = time.perf_counter()
        path = self.record.save_last(self.learner, self.validation)
        self._saves.saved(self.learner.seconds, time.perf_counter() - begun)
        return CheckpointSaved(self.learner.step, path.name, str(path))

    def _sample(self) -> Iterator[TrainingEvent]:
        if self.write_sample is None or self.sample_every is None:
            return
        if self._clock() - self._sampled >= self.sample_every:
            self._sampled = self.learner.seconds
            yield TrainingSample(self.learner.step, self.write_sample())


TRAIN_TOKENS, VALID_TOKENS = 2_000_000, 200_000
"""Of the training part the last, of the validation part the first so many tokens are read."""

_ORDERS = {"char": 6}
_OTHER_ORDER = 3


def ngram_baseline(
    train_ids: IdArray, valid_ids: IdArray, level: str, vocabulary_size: int
) -> NgramBaseline:
    """Six characters or three words: learned from the end of one part, tried on the other's
    beginning, which is read across sentences as a validation reads it.
    """
    train_ids, valid_ids = train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS]
    order = min(_ORDERS.get(level, _OTHER_ORDER), len(train_ids))
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(vocabulary_size))
    model.read(train_ids)
    return NgramBaseline(
        order=order,
        loss=_loss(model, valid_ids),
        train_tokens=len(train_ids),
        valid_tokens=len(valid_ids),
    )


@torch.inference_mode()
def _loss(model: Model, ids: IdArray) -> float:
    """Nats a token, all at once: to n-grams a text is no longer than they are."""
    targets = torch.from_numpy(ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), targets[:-1]])
    hidden, _ = model.hidden_states(inputs.unsqueeze(1), model.start(1))
    return -float(model.log_probs(hidden[:, 0], targets).double().mean())
