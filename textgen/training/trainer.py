"""The training loop: updates, validations and saves until the steps or the seconds are spent.

Also the loss on held-out text, of a model in training and of n-grams to compare it with.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch

from textgen import checkpoint
from textgen.config import ModelConfig, SamplingConfig, TextAmount
from textgen.errors import DivergedError
from textgen.inference.likelihood import Document
from textgen.models import Model, build
from textgen.models.base import IdArray
from textgen.models.ngram import ngram_tables
from textgen.process_memory import resident_bytes
from textgen.results import (
    CheckpointSaved,
    NgramBaseline,
    TrainingEvent,
    TrainingPhase,
    TrainingProgress,
    TrainingSample,
    TrainingStep,
    TrainingWarning,
    Validation,
)
from textgen.sampling.text import TextGenerator
from textgen.tokenizers.base import EOS, UNK
from textgen.training.autotune import flop_per_token
from textgen.training.ranks import SINGLE_PROCESS, Ranks
from textgen.training.rounding import rounded
from textgen.training.run_directory import RunDirectory
from textgen.training.schedule import Patience, SaveClock, Schedule
from textgen.training.state import Progress, TrainerState

_BLOCK_TOKENS = 2**20
_SECONDS_BETWEEN_FIGURES = 1.0


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


TRAIN_TOKENS, VALID_TOKENS, _MIXED_TOKENS = 2_000_000, 200_000, 20_000
"""The baseline reads the last tokens of the training part and the first of the validation part."""


@torch.inference_mode()
def ngram_baseline(
    train_ids: IdArray,
    valid_ids: IdArray,
    level: str,
    vocabulary_size: int,
    trained: Model | None = None,
) -> NgramBaseline:
    """The loss of 6-grams of characters, or 3-grams of other tokens, in document context.

    Args:
        trained: A causal model, whose mixture with the n-grams is measured too.
    """
    train_ids, valid_ids = train_ids[-TRAIN_TOKENS:], valid_ids[:VALID_TOKENS]
    order = min(6 if level == "char" else 3, len(train_ids))
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(vocabulary_size))
    model.initialize_from_text(train_ids)
    # In one batch: n-grams read no further back than their order.
    targets = torch.from_numpy(valid_ids.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), targets[:-1]])
    hidden, _ = model.hidden_states(inputs.unsqueeze(1), model.start(1))
    log_probs = model.log_probs(hidden[:, 0], targets).double()
    gain = None
    if trained is not None:
        own = torch.from_numpy(Document(trained, first=EOS).read(valid_ids[:_MIXED_TOKENS]))
        shares = torch.linspace(0.1, 0.9, 9, dtype=torch.float64).unsqueeze(1)
        mixed = torch.logaddexp(own + (1 - shares).log(), log_probs[: len(own)] + shares.log())
        gain = float((mixed - own).mean(1).max())
    return NgramBaseline(
        order,
        -float(log_probs.mean()),
        train_tokens=len(train_ids),
        valid_tokens=len(valid_ids),
        mixture_gain=gain,
    )


def _read(progress: Progress, amount: TextAmount) -> int:
    """How much a run has read, in the unit of an amount."""
    return (progress.words_seen or 0) if amount.of_words else progress.tokens_seen


Figures = TypeVar("Figures", bound=TrainingProgress)

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
        sample_every: Seconds between samples among the events; None for no samples.
        validation: The newest.
        interrupted: The signal that ended the run.
        ended_early: Why the run was stopped early, if it was.
    """

    state: TrainerState
    schedule: Schedule
    directory: RunDirectory
    valid_ids: IdArray
    stop: Callable[[], int | None]
    ranks: Ranks = SINGLE_PROCESS
    sample_every: float | None = None
    validation: Validation | None = None
    patience: Patience = field(default_factory=Patience)
    interrupted: int | None = None
    ended_early: str | None = None
    _begun: float = 0.0
    _saves: SaveClock = field(default_factory=SaveClock)
    _exploded: bool = False
    _overrun: bool = False
    _measured: bool = False
    _fastest_update: float = math.inf
    _waited: tuple[int, float] = (0, 0.0)
    _sampled: float = 0.0
    _logged: tuple[int, float] = (0, 0.0)
    _shown: float = -math.inf
    _loss: float = math.nan
    _metrics_bytes: int = 0

    def run(self) -> Iterator[TrainingEvent]:
        """Train to the end of the schedule or to a signal; events of saves come when complete.

        Every rank runs this loop and takes the same branches: they follow from the clock of
        rank 0, from signals to any rank, and from averaged losses and gradients.
        """
        state = self.state
        yield from self._begin()
        progress = self._progress()
        if state.progress.step == 0:  # the initial weights of a fine-tuned run may remain the best
            due = self.directory.template.init_from is not None
        else:  # a run that was stopped before a validation that was due
            made = self.validation is not None and self.validation.step == state.progress.step
            due = not made and self._is_validation_due(progress, progress)
        yield self._figures(TrainingProgress, progress, state.mean_loss)
        self._shown = -math.inf  # the first update is shown
        if due:
            yield from self._validate(final=progress >= 1)
            progress = self._progress()
        if state.progress.step == 0 and ngram_tables(state.model):
            tokens = self.directory.template.corpus.train.tokens
            yield TrainingPhase("counting", f"{tokens:,} tokens")
        while progress < 1:
            before, earlier = progress, replace(state.progress)
            self._update()
            for text in state.warnings:
                yield TrainingWarning(state.progress.step, text)
            state.warnings = ()
            if not self._measured:
                self._expect_validation()
            progress = self._progress(polls=True)
            due = self._is_validation_due(before, progress)
            saving = self._saves.is_due(state.progress.seconds)
            logs = state.progress.step % self.schedule.config.log_every == 0
            shows = state.progress.seconds - self._shown >= _SECONDS_BETWEEN_FIGURES
            passed = [
                amount.name
                for amount in self.schedule.config.amounts
                if _read(earlier, amount) < amount.number <= _read(state.progress, amount)
            ]
            # Only where the device is waited for anyway, unless that costs nothing.
            checks = bool(passed) or due or saving or self.interrupted is not None or logs or shows
            if (checks or self._waits_at_each_update) and not self._wait():
                progress = self._roll_back()
                if progress >= 1:  # the budget was used up in the meantime
                    yield from self._validate(final=True)
                continue
            # Before ``last``: a run that a kill ends in between passes the amount again.
            for name in passed:
                yield from self._save_at(name)
            if logs:
                yield from self._log(progress)
            elif shows:
                yield self._figures(TrainingProgress, progress, state.mean_loss)
            if self.interrupted is not None:
                yield self._figures(TrainingProgress, progress, state.mean_loss)
                yield from self._save()
                return
            if due:
                yield from self._validate(final=progress >= 1)
                if self.ended_early is not None:
                    break
            elif saving:
                yield from self._save()
            yield from self._sample()
        yield self._figures(TrainingProgress, progress, state.mean_loss)
        yield from self._unreached()

    def _begin(self) -> Iterator[TrainingEvent]:
        """Save a new run, and set the clocks; that of a resumed run continues from its seconds."""
        done = self.state.progress
        self._saves.requested = self.schedule.config.save_every
        if done.step == 0:
            yield from self._save()
            if self.ranks.is_first:
                self.directory.start_new()
        self._begun = time.perf_counter() - done.seconds
        self._saves.saved_at = self._sampled = done.seconds
        self._logged = self._waited = (done.step, done.step_seconds)
        self._remember()

    def _expect_validation(self) -> None:
        """Estimate the time of a validation from that of the updates, until one was measured.

        Scoring a token costs half of training on it over the whole vocabulary; fitting a mixture,
        some passes.
        """
        config, model = self.schedule.config, self.state.model.config
        read = self.directory.template.corpus.valid.tokens
        read += _PASSES_TO_FIT_MIXTURE * self.state.held_out_tokens
        window = config.batch_size * config.sequence_length
        needed = 0.5 * read * self._fastest_update / window
        if config.candidates:
            needed *= flop_per_token(model) / flop_per_token(model, config.candidates)
        self.schedule.expect(needed, self._saves.save_seconds)

    def _unreached(self) -> Iterator[TrainingWarning]:
        """Warn of amounts of text at which no checkpoint could be kept."""
        done = self.state.progress
        for of_words, unit in ((False, "tokens"), (True, "words")):
            of_unit = [each for each in self.schedule.config.amounts if each.of_words == of_words]
            later = [each.name for each in of_unit if _read(done, each) < each.number]
            if later:
                yield TrainingWarning(
                    done.step,
                    f"no checkpoint at {', '.join(later)}: the run ended after"
                    f" {_read(done, of_unit[0]):,} {unit}",
                )

    def _is_validation_due(self, before: float, progress: float) -> bool:
        by_steps = self.schedule.config.valid_every is not None
        updates = self.state.progress.step if by_steps else self._position()
        return self.schedule.validates(before, progress, updates)

    def _clock(self, *, polls: bool = False) -> float:
        """Seconds of the run by the clock of rank 0. polls: whether to check for signals."""
        first = self.ranks.is_first
        seconds, update_seconds, signum = self.ranks.maximum(
            time.perf_counter() - self._begun if first else 0.0,
            self._fastest_update if first else 0.0,
            (self.stop() or 0) if polls else 0,
        )
        self.state.progress.seconds, self._fastest_update = seconds, update_seconds
        if polls:
            self.interrupted = int(signum) or None
        return seconds

    def _position(self) -> float:
        """Updates so far; with another number of processes, the equivalent number.

        A run by epochs that was resumed with another number of processes had updates of
        another size.
        """
        if self.schedule.config.epochs is None:
            return self.state.progress.step
        return self.state.progress.tokens_seen / self.state.tokens_per_step

    def _progress(self, *, polls: bool = False) -> float:
        return self.schedule.progress(self._position(), self._clock(polls=polls))

    def _update(self) -> None:
        begun = time.perf_counter()
        # An update has the learning rate at its midpoint, so that none is 0.
        middle = self.schedule.progress(self._position() + 0.5, self.state.progress.seconds)
        self.state.update(self.schedule.learning_rate(middle))
        self.state.progress.step_seconds += time.perf_counter() - begun
        if self._waits_at_each_update or math.isinf(self._fastest_update):
            self._wait()

    @property
    def _waits_at_each_update(self) -> bool:
        return self.state.model.device.type == "cpu"

    def _wait(self) -> bool:
        """Wait for the updates so far and count their time; returns whether the state is finite.

        A GPU only queues an update when it is made. Most of its time is waited for here.
        """
        begun, done = time.perf_counter(), self.state.progress
        finite = self.state.is_finite
        done.step_seconds += time.perf_counter() - begun
        steps, seconds = done.step - self._waited[0], done.step_seconds - self._waited[1]
        if steps > 0:
            self._fastest_update = min(self._fastest_update, seconds / steps)
        self._waited = (done.step, done.step_seconds)
        return finite

    def _roll_back(self) -> float:
        """Return to the last good state, with a lower learning rate; returns the new progress.

        Raises:
            DivergedError: The whole run, resumptions included, did so too often.
        """
        done = self.state.progress
        rollbacks = done.rollbacks + 1
        if rollbacks > _MAX_ROLLBACKS:
            best = self.directory.best
            raise DivergedError(
                "training diverged",
                where=f"step {done.step}",
                why=f"the loss was not finite {rollbacks} times, at ever lower learning rates",
                fix="lower --learning-rate"
                + (f"; the best model, of step {best.step}, is kept" if best else ""),
            )
        scale = done.learning_rate_scale * 0.5**rollbacks
        self.state.roll_back()
        done = self.state.progress
        done.learning_rate_scale, done.rollbacks = scale, rollbacks
        if self.ranks.is_first:
            self.directory.truncate_metrics(self._metrics_bytes)
        self._logged = self._waited = (done.step, done.step_seconds)
        return self._progress()

    def _remember(self) -> None:
        """Keep a copy of the current state to roll back to."""
        self.state.remember()
        if self.ranks.is_first:
            self._metrics_bytes = self.directory.length()

    def _figures(self, kind: type[Figures], progress: float, loss: float) -> Figures:
        """The figures since the last log line; a loss that is NaN is that of the line."""
        state, done, budget = self.state, self.state.progress, self.schedule.config.budget
        steps, used = done.step - self._logged[0], done.step_seconds - self._logged[1]
        validated = self.validation is not None and self.validation.step == done.step
        if self.ended_early is not None or (progress >= 1 and validated):
            remaining = 0.0
        elif budget is not None:
            remaining = max(0.0, budget - done.seconds)
        elif progress >= 1:
            remaining = self.schedule.validation_seconds
        else:
            remaining = done.seconds * (1 - progress) / progress if progress else math.nan
        self._shown = done.seconds
        self._loss = self._loss if math.isnan(loss) else loss
        return kind(
            step=done.step,
            epoch=done.tokens_seen / self.directory.template.corpus.train.tokens,
            loss=self._loss,
            learning_rate=state.learning_rate,
            gradient_norm=state.gradient_norm,
            tokens_seen=done.tokens_seen,
            tokens_per_second=steps * state.tokens_per_step / max(used, 1e-9),
            progress=progress,
            seconds=done.seconds,
            remaining_seconds=remaining,
            memory_bytes=resident_bytes(),
            next_validation=self.schedule.next_validation(progress, self._position()),
        )

    def _log(self, progress: float) -> Iterator[TrainingEvent]:
        event = self._figures(TrainingStep, progress, self.state.take_mean_loss())
        self._logged = (self.state.progress.step, self.state.progress.step_seconds)
        if self.ranks.is_first:
            self.directory.log_step(event)
        yield event
        yield from self._warnings(event)

    def _warnings(self, event: TrainingStep) -> Iterator[TrainingEvent]:
        """Warn once of a loss that, though finite, is high; and of a budget that is too short."""
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
        budget, needed = self.schedule.config.budget, self.schedule.validation_seconds
        if budget is not None and needed >= budget / 2 and not (self._measured or self._overrun):
            self._overrun = True
            tokens = self.directory.template.corpus.valid.tokens
            yield TrainingWarning(
                event.step,
                f"validation on the {tokens:,} held-out tokens takes about {needed:,.0f} s on this"
                f" machine, so the budget of {budget:,.0f} s will be exceeded; hold out less with"
                " --valid-fraction, or give a shorter --valid",
            )

    def _validate(self, *, final: bool) -> Iterator[TrainingEvent]:
        tokens = self.directory.template.corpus.valid.tokens
        yield TrainingPhase("validating", f"{tokens:,} held-out tokens")
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
            yield TrainingWarning(self.state.progress.step, self.ended_early)
        seconds = self._clock() - begun
        saving = self._saves.is_due(self.state.progress.seconds)
        if final or self.ended_early is not None or saving:
            yield from self._save()
        self._remember()
        self._measured = True
        self.schedule.expect(seconds, self._saves.save_seconds)

    def _validate_and_keep_best(self) -> tuple[Validation, str | None]:
        """The validation, and the folder of the new ``best`` where it is one.

        What is validated are the weights that ``best`` would have: rounded, where that is allowed.
        """
        state, step = self.state, self.state.progress.step
        characters = self.directory.template.corpus.valid.characters
        state.prepare_validation()
        exact = self.schedule.config.keep_float32
        with nullcontext() if exact else rounded(state.model, self.valid_ids) as rounding:
            validation = validate(state.model, self.valid_ids, characters=characters, step=step)
            validation = replace(validation, seconds=time.perf_counter() - self._begun)
            self.directory.log_validation(validation)
            best = self.directory.best
            # A loss that is NaN is not smaller than any, so it is never the best.
            if validation.loss < (best.loss if best else math.inf):
                return validation, str(self.directory.save_best(state, validation, rounding))
        return validation, None

    def _save_at(self, name: str) -> Iterator[TrainingEvent]:
        """Keep the model that has read this amount of text; every rank calls this."""
        place = f"{checkpoint.AT}/{name}"
        yield TrainingPhase("saving", place)

        def write() -> str:
            self.state.prepare_validation()
            return str(self.directory.save_at(self.state, name, self.validation))

        yield CheckpointSaved(self.state.progress.step, place, self.ranks.first(write))

    def _save(self) -> Iterator[TrainingEvent]:
        yield TrainingPhase("saving", f"step {self.state.progress.step:,}")
        begun = time.perf_counter()
        snapshot = self.state.snapshot()

        def write() -> tuple[str, float]:
            losses = tuple(self.patience.losses)
            path = self.directory.save_last(self.state, snapshot, self.validation, losses)
            return str(path), time.perf_counter() - begun

        path, seconds = self.ranks.first(write)
        self._saves.saved(self.state.progress.seconds, seconds)
        yield CheckpointSaved(self.state.progress.step, checkpoint.LAST, path)

    def _sample(self) -> Iterator[TrainingEvent]:
        if self.sample_every is None or not self.ranks.is_first:
            return
        seconds = time.perf_counter() - self._begun
        if seconds - self._sampled >= self.sample_every:
            self._sampled = seconds
            step = self.state.progress.step
            config = SamplingConfig(length=160, temperature=(0.8,), seed=step)
            generator = TextGenerator(self.state.model, self.directory.tokenizer, config)
            yield TrainingSample(step, next(generator.generate([""])).text)
