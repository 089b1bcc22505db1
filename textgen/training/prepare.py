"""From a ``TrainingRun`` to its model, its training state and the trainer of each process."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from textgen import checkpoint
from textgen.checkpoint.header import Header, InitialCheckpoint, Machine
from textgen.config import Device, ModelConfig, Precision, TrainingConfig
from textgen.data.batching import IdArray, StreamPosition, Streams, StreamsState, separate
from textgen.errors import CheckpointError, UsageError
from textgen.models import Model, build, count_parameters, weight_shapes
from textgen.models.base import CountsNgrams, FitsMixture
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.models.recurrent import set_word_vectors
from textgen.tokenizers.base import UNK, Tokenizer
from textgen.training.autotune import choose_options
from textgen.training.corpus import TrainingCorpus
from textgen.training.ranks import SINGLE_PROCESS, Ranks, launch_id
from textgen.training.run import TrainingRun
from textgen.training.run_directory import (
    RunDirectory,
    RunState,
    check_space,
    load_run_state,
    state_error,
)
from textgen.training.schedule import Patience, Schedule
from textgen.training.state import CountingState, GradientState, TrainerState
from textgen.training.trainer import Trainer


@torch.no_grad()
def extended(model: Model, vocabulary_size: int) -> Model:
    """The model with new ids after the existing ones, each initialized as another ``<UNK>``.

    ``<UNK>`` is trained on tokens that are unknown, so the new rows of
    embedding and output are copies of its row, or of its column where input is one-hot. Each new
    id has separate gradients, so they diverge without random noise, and a text without new
    tokens is read as before. Together the k new ids get the probability of one more ``<UNK>``:
    their biases are lower by ln(k), because at the full bias ten thousand new words would take
    nearly all of the probability from the old ones. Old rows are unchanged.
    """
    config = model.config.resolved(vocabulary_size)
    new = vocabulary_size - model.config.vocabulary_size
    assert new >= 0
    if not new:
        return model
    weights = dict(model.named_parameters())
    bigger = build(config)
    shapes, old_shapes = weight_shapes(config), weight_shapes(model.config)
    grown = {
        name: weights[name] if shape == old_shapes[name] else _grown(weights[name], shape)
        for name, shape in shapes.items()
        if name in weights  # n-grams are counted again
    }
    bigger.load_state_dict(grown, strict=False)  # a tied weight has one name here
    return bigger


def _grown(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A weight with more ids: a bias (id,), a row per id (id, units), or a column (units, id)."""
    axis = next(axis for axis, size in enumerate(shape) if size != weight.shape[axis])
    old = weight.movedim(axis, 0)
    new = shape[axis] - len(old)
    rows = old[UNK].expand(new, *old.shape[1:])
    if weight.ndim == 1:
        rows = rows - math.log(new)
    return torch.cat([old, rows]).movedim(0, axis)


@dataclass(frozen=True)
class SharedStart:
    """The start of a run, decided by rank 0 and the same on every rank.

    Attributes:
        header: Of the checkpoints, at the start of the run.
        saved: The state of the run that is resumed.
        text_changed: Whether that run continues on another text.
        processes_before: The number of processes of that run.
    """

    out: Path
    header: Header
    tokenizer: Tokenizer
    saved: RunState | None
    text_changed: bool
    processes_before: int | None


@dataclass(frozen=True)
class LocalStart:
    """The start of a run on one rank: weights and ids on rank 0, which broadcasts them."""

    shared: SharedStart
    model: Model
    train_ids: IdArray
    valid_ids: IdArray


def start_on_first_rank(run: TrainingRun, corpus: TrainingCorpus, ranks: Ranks) -> LocalStart:
    """Choose the unresolved options, and make or load the model."""
    if run.resumption is None:
        run = choose_options(run, corpus, ranks.size)
    threads = use_threads(run.threads)
    device = choose_device(run.device)
    model = _model(run, corpus)
    if isinstance(model, CountsNgrams):
        model.check_text(corpus.encoded.train)
    machine = Machine(
        device.type, _precision(run, device, model.config), threads, ranks.size, launch_id()
    )
    saved = None
    if run.resumption is not None:
        saved = load_run_state(run.resumption.checkpoint.folder)
        if corpus.changed:  # losses on another text are not comparable
            saved = _on_another_text(saved)
    header = Header(
        model=model.config,
        training=run.training,
        corpus=corpus.encoded.header,
        source=run.source,
        machine=machine,
        step=0,
        tokens_seen=0,
        seconds=0.0,
        tokens_per_second=0.0,
        parameters=count_parameters(model.config),
        validation=None,
        init_from=_initial_checkpoint(run),
    )
    resumption = run.resumption
    before = None if resumption is None else resumption.checkpoint.header.machine.processes
    shared = SharedStart(run.out, header, corpus.tokenizer, saved, corpus.changed, before)
    return LocalStart(shared, model, corpus.encoded.train, corpus.encoded.valid)


def start_on_other_rank(shared: SharedStart) -> LocalStart:
    """A model of the same shape, without weights and without text."""
    use_threads(shared.header.machine.threads)
    none = np.empty(0, np.uint16)
    return LocalStart(shared, build(shared.header.model), none, none)


def make_trainer(
    start: LocalStart,
    ranks: Ranks,
    closing: contextlib.ExitStack,
    *,
    stop: Callable[[], int | None],
    write_sample: Callable[[Model, Tokenizer, int], str],
    sample_every: float | None,
) -> Trainer:
    """The trainer of this rank; ``closing`` takes what must be closed when the run is over.

    Raises:
        CheckpointError: The state of the resumed run does not fit its model.
    """
    shared, model = start.shared, start.model
    header, training, saved = shared.header, shared.header.training, shared.saved
    device = ranks.device(choose_device(cast(Device, header.machine.device)))
    state = make_state(
        model.to(device).train(),
        start.train_ids,
        # ``<UNK>`` is learned from the rare tokens that it stands for, if there are any.
        dataclasses.replace(training, unknown_rate=0.0)
        if header.corpus.train.unknown
        else training,
        header.machine.precision,
        ranks,
    )
    if saved is not None:
        try:
            state.restore(saved.snapshot)
        except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise state_error(shared.out / checkpoint.LAST, error) from error
        if shared.text_changed:
            state.initialize_from_text()
    directory = RunDirectory(shared.out, header, shared.tokenizer)
    if saved is not None:
        directory.best = saved.best
    if ranks.is_first:
        directory.open(None if saved is None else saved.metrics_bytes)
        closing.callback(directory.close)
    total_steps = training.steps
    if training.epochs is not None:
        tokens = header.corpus.train.tokens
        total_steps = math.ceil(training.epochs * tokens / state.tokens_per_step)
    return Trainer(
        state=state,
        schedule=Schedule(training, total_steps),
        directory=directory,
        config=training,
        valid_ids=start.valid_ids,
        stop=stop,
        ranks=ranks,
        write_sample=lambda: write_sample(model, shared.tokenizer, state.step),
        sample_every=sample_every if model.is_causal else None,
        validation=None if saved is None else saved.validation,
        patience=Patience([] if saved is None else list(saved.losses_since_best)),
        # The initial weights of a fine-tuned run may remain the best.
        validates_start=header.init_from is not None,
    )


def make_state(
    model: Model,
    train_ids: IdArray,
    training: TrainingConfig,
    precision: Precision = "float32",
    ranks: Ranks = SINGLE_PROCESS,
) -> TrainerState:
    """The initial state of training, with the weights and ids of rank 0 on every rank."""
    chunks: Sequence[slice] = ()
    if ranks.is_first and isinstance(model, FitsMixture):
        chunks = model.held_out_chunks(train_ids)
    ids, held_out = separate(train_ids, chunks)
    ids = ranks.broadcast_ids(ids)
    if model.config.kind.counts:
        return CountingState(model, ids)
    streams = Streams(
        ids,
        batch_size=ranks.size * training.batch_size,
        local=ranks.rows(training.batch_size),
        sequence_length=training.sequence_length,
        run_windows=training.run_windows,
        unknown_rate=training.unknown_rate,
        seed=training.seed,
    )
    return GradientState(model, streams, training, precision, ranks, held_out)


def _model(run: TrainingRun, corpus: TrainingCorpus) -> Model:
    """The initial model, or that of the resumed run.

    Raises:
        ResourceError: The disk could not hold its checkpoints.
    """
    if run.resumption is not None:
        model = run.resumption.checkpoint.model
        check_space(run.out, count_parameters(model.config), resumed=True)
        return model
    vocabulary_size = corpus.tokenizer.vocabulary_size
    config = run.model.resolved(vocabulary_size)
    check_space(run.out, count_parameters(config))
    if run.fine_tuning is not None:
        return extended(run.fine_tuning.checkpoint.model, vocabulary_size)
    model = build(config)
    model.initialize(torch.Generator().manual_seed(run.training.seed))
    if corpus.vectors is not None:
        embedding = model.token_vectors()
        assert embedding is not None  # only kinds with an embedding have --embeddings
        set_word_vectors(embedding, corpus.vectors.ids, corpus.vectors.vectors)
    return model


def _precision(run: TrainingRun, device: torch.device, config: ModelConfig) -> Precision:
    if run.resumption is None:
        return choose_precision(run.training.precision, device, config)
    try:
        kept = run.resumption.checkpoint.header.machine.precision
        return choose_precision(kept, device, config)
    except UsageError as error:
        raise CheckpointError("cannot continue", where=run.out, why=str(error)) from error


def _on_another_text(saved: RunState) -> RunState:
    """The state with all streams at the start of the text, before any validation."""
    snapshot = saved.snapshot
    if snapshot.streams is not None:
        positions = tuple(StreamPosition() for _ in snapshot.streams.rows)
        snapshot = dataclasses.replace(snapshot, streams=StreamsState(0, 0, positions))
    return dataclasses.replace(saved, snapshot=snapshot, best=None, validation=None)


def _initial_checkpoint(run: TrainingRun) -> InitialCheckpoint | None:
    if run.resumption is not None:
        return run.resumption.checkpoint.header.init_from
    if run.fine_tuning is None:
        return None
    saved = run.fine_tuning.checkpoint
    return InitialCheckpoint(
        path=run.fine_tuning.path,
        checkpoint=saved.name,
        step=saved.header.step,
        weights_sha256=run.fine_tuning.weights_sha256,
        tokenizer_fingerprint=saved.tokenizer.fingerprint,
        vocabulary_size=saved.tokenizer.vocabulary_size,
    )
