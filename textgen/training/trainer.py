"""The training loop: updates, validations and saves until the steps or the seconds are spent.

Also the loss on held-out text, of a model in training and of n-grams to compare it with.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from textgen import checkpoint
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
from textgen.training.ranks import SINGLE_PROCESS, Ranks
from textgen.training.run_directory import RunDirectory
from textgen.training.schedule import Patience, SaveClock, Schedule
from textgen.training.state import TrainerState

_BLOCK_TOKENS = 2**20


def validate(
    model: Model, ids: IdArray, *, characters: int, step: int = 0, seconds: float = 0.0
) -> Validation:
    """Read a text once in document context, in float32; every token is scored once.

    The loss equals that of ``score --context document`` on the same text.
    """
    document = Document(model, first=EOS)
    log_prob = 0.0
    for begin in range(0, len(ids), _BLOCK_TOKENS):
        log_prob += float(document.read(ids[begin : begin + _BLOCK_TOKENS]).sum())
    return Validation(
        loss=-log_prob / len(ids),
        tokens=len(ids),
        characters=characters,
        unknown=int(np.count_nonzero(ids == UNK)),
        pseudo=not model.is_causal,
        step=step,
        seconds=seconds,
    )


TRAIN_TOKENS, VALID_TOKENS = 2_000_000, 200_000
"""The baseline reads the last tokens of the training part and the first of the validation part."""

_CHARACTER_ORDER, _OTHER_ORDER = 6, 3


def ngram_baseline(
    train_ids: IdArray, valid_ids: IdArray, level: str, vocabulary_size: int
) -> NgramBaseline:
    """The loss of 6-grams of characters, or 3-grams of other tokens, in document context."""
    train_ids, valid_ids = train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS]
    order = min(_CHARACTER_ORDER if level == "char" else _OTHER_ORDER, len(train_ids))
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(vocabulary_size))
    model.initialize_from_text(train_ids)
    return NgramBaseline(
        order=order,
        loss=_loss(model, valid_ids),
        train_tokens=len(train_ids),
        valid_tokens=len(valid_ids),
    )


@torch.inference_mode()
def _loss(model: Model, ids: IdArray) -> float:
    """Nats per token, in one batch: n-grams read no further back than their order."""
    targets = torch.from_numpy(ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), targets[:-1]])
    hidden, _ = model.hidden_states(inputs.unsqueeze(1), model.start(1))
    return -float(model.log_probs(hidden[:, 0], targets).double().mean())


_MAX_ROLLBACKS = 3
_PASSES_TO_FIT_MIXTURE = 4
_EXPLODED = 2.0
"""As a multiple of the loss of a uniform distribution, below which every model that learns is."""


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
        ended_early: Why the run was stopped early, if it was.
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
        """Train to the end of the schedule or to a signal; events of saves come when complete.

        Every rank runs this loop and takes the same branches: they follow from the clock of
        rank 0, from signals to any rank, and from averaged losses and gradients.
        """
        state = self.state
        self._saves.requested = self.config.save_every
        if state.step == 0:
            yield self._save()
            if self.ranks.is_first:
                self.directory.start_new()
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
            # Only where the device is synchronized anyway, unless that costs nothing.
            checks = due or saving or self.interrupted is not None or self._logs()
            if (checks or state.model.device.type == "cpu") and not state.is_finite:
                progress = self._roll_back()
                if progress >= 1:  # the budget was used up in the meantime
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
        """Continue from the seconds that a resumed run had used."""
        state = self.state
        self._begun = time.perf_counter() - state.seconds
        self._saves.saved_at = self._sampled = state.seconds
        self._logged = (state.step, state.step_seconds)

    def _is_validation_due_at_start(self, progress: float) -> bool:
        """Whether a validation is due at the start, or was due when the run was stopped."""
        step = self.state.step
        if step == 0:
            return self.validates_start
        made = self.validation is not None and self.validation.step == step
        return not made and self._is_validation_due(progress, progress)

    def _is_validation_due(self, before: float, progress: float) -> bool:
        updates = self.state.step if self.config.valid_every is not None else self._position()
        return self.schedule.validates(before, progress, updates)

    def _clock(self, *, polls: bool = False) -> float:
        """Seconds of the run by the clock of rank 0. polls: whether to check for signals."""
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
        """Updates so far; with another number of processes, the equivalent number.

        A run by epochs that was resumed with another number of processes had updates of
        another size.
        """
        if self.config.epochs is None:
            return self.state.step
        return self.state.tokens_seen / self.state.tokens_per_step

    def _progress(self, *, polls: bool = False) -> float:
        return self.schedule.progress(self._position(), self._clock(polls=polls))

    def _update(self) -> None:
        begun = time.perf_counter()
        # An update has the learning rate at its midpoint, so that none is 0.
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
        """Return to the last good state, with a lower learning rate; returns the new progress.

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
            self.directory.truncate_metrics(self._metrics_bytes)
        self._logged = (state.step, state.step_seconds)
        return self._progress()

    def _remember(self) -> None:
        """Keep a copy of the current state to roll back to."""
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
        """Warn once that the loss, though finite, is far above that of a uniform distribution."""
        uniform = math.log(self.state.model.config.vocabulary_size)
        exploded, before = event.loss > _EXPLODED * uniform, self._exploded
        self._exploded = exploded
        if exploded and not before:
            yield TrainingWarning(
                event.step,
                f"the training loss is {event.loss:.4g} at step {event.step}, that of a uniform"
                f" distribution {uniform:.4g}; the best model so far is kept; if the loss stays"
                " high, lower --learning-rate",
            )

    def _warn_of_overrun(self) -> Iterator[TrainingEvent]:
        """Warn, before the first validation, that the run will exceed its budget."""
        budget, needed = self.config.budget, self._estimated_validation_seconds()
        if self._measured or self._overrun or budget is None or needed < budget / 2:
            return
        self._overrun = True
        tokens = self.directory.template.corpus.valid.tokens
        yield TrainingWarning(
            self.state.step,
            f"validation on the {tokens:,} held-out tokens takes about {needed:,.0f} s on this"
            f" machine, so the budget of {budget:,.0f} s will be exceeded; hold out less with"
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
        """Scoring a token costs about half of training on it; fitting a mixture, some passes."""
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
