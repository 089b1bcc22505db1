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

from textgen import checkpoint, storage
from textgen.checkpoint import Header, Machine
from textgen.config import Device, Precision, RecurrentConfig, TrainingConfig
from textgen.data.batching import (
    IdArray,
    StreamPosition,
    Streams,
    StreamsState,
    WordCounter,
    separate,
)
from textgen.errors import CheckpointError, UsageError
from textgen.models import Model, build, count_parameters, weight_shapes
from textgen.models.cooccurrence import neighbour_vectors
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.models.mixture import MixtureModel
from textgen.models.ngram import ngram_tables
from textgen.models.recurrent import set_word_vectors
from textgen.tokenizers.base import UNK, Tokenizer
from textgen.training.autotune import choose_options
from textgen.training.corpus import TrainingCorpus
from textgen.training.graphed import gradient_state
from textgen.training.ranks import SINGLE_PROCESS, Ranks, launch_id
from textgen.training.run import TrainingRun
from textgen.training.run_directory import (
    RunDirectory,
    RunState,
    check_space,
    load_run_state,
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


def start_on_first_rank(
    run: TrainingRun, corpus: TrainingCorpus, ranks: Ranks
) -> tuple[SharedStart, Model]:
    """Choose the unresolved options, and make or load the model."""
    if run.resumed_from is None:
        choice = choose_options(run, corpus, ranks.size)
        run = dataclasses.replace(run, model=choice.model, training=choice.training)
    threads = use_threads(run.threads)
    device = choose_device(run.device)
    model = _model(run, corpus)
    for tables in ngram_tables(model):
        tables.check_text(corpus.encoded.train)
    precision, saved, before = run.training.precision, None, None
    if run.resumed_from is not None:
        machine = run.resumed_from.header.machine
        precision, before = machine.precision, machine.processes
        saved = load_run_state(run.resumed_from.folder)
        if corpus.changed:  # start at its beginning; losses are not comparable
            snapshot = saved.snapshot
            if snapshot.streams is not None:
                positions = tuple(StreamPosition() for _ in snapshot.streams.rows)
                snapshot = dataclasses.replace(snapshot, streams=StreamsState(0, 0, positions))
            saved = dataclasses.replace(saved, snapshot=snapshot, best=None, validation=None)
    try:
        precision = choose_precision(precision, device, model.config)
    except UsageError as error:
        if run.resumed_from is None:
            raise
        raise CheckpointError("cannot continue", where=run.out, why=str(error)) from error
    header = Header(
        model=model.config,
        training=run.training,
        corpus=corpus.encoded.header,
        source=run.source,
        machine=Machine(device.type, precision, threads, ranks.size, launch_id()),
        step=0,
        tokens_seen=0,
        seconds=0.0,
        tokens_per_second=0.0,
        parameters=count_parameters(model.config),
        validation=None,
        init_from=run.init_from,
    )
    return SharedStart(run.out, header, corpus.tokenizer, saved, corpus.changed, before), model


def make_trainer(
    shared: SharedStart,
    model: Model | None,
    corpus: TrainingCorpus | None,
    ranks: Ranks,
    closing: contextlib.ExitStack,
    *,
    stop: Callable[[], int | None],
    sample_every: float | None,
) -> Trainer:
    """The trainer of this rank; ``closing`` takes what must be closed when the run is over.

    Args:
        model, corpus: On rank 0, which broadcasts weights and ids.

    Raises:
        CheckpointError: The state of the resumed run does not fit its model.
    """
    header, training, saved = shared.header, shared.header.training, shared.saved
    if model is None:
        use_threads(header.machine.threads)
        model = build(header.model)
    device = ranks.device(choose_device(cast(Device, header.machine.device)))
    no_ids = np.empty(0, np.uint16)
    state = make_state(
        model.to(device).train(),
        no_ids if corpus is None else corpus.encoded.train,
        # ``<UNK>`` is learned from the rare tokens that it stands for, if there are any.
        dataclasses.replace(training, unknown_rate=0.0)
        if header.corpus.train.unknown
        else training,
        header.machine.precision,
        ranks,
    )
    counts_words = any(amount.of_words for amount in training.amounts)
    if saved is not None and saved.snapshot.progress.words_seen is not None:
        counts_words = True
    elif saved is not None and counts_words:
        raise UsageError(
            "--checkpoint-at with words cannot begin within a run",
            where=shared.out,
            why="the words that it has read were not counted",
            fix="give amounts of tokens",
        )
    if counts_words and isinstance(state, GradientState):
        state.count_words(WordCounter(shared.tokenizer))
    if saved is not None:
        with storage.reading(f"training state in {shared.out / checkpoint.LAST}"):
            state.restore(saved.snapshot)
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
        valid_ids=no_ids if corpus is None else corpus.encoded.valid,
        stop=stop,
        ranks=ranks,
        sample_every=sample_every if model.is_causal else None,
        validation=None if saved is None else saved.validation,
        patience=Patience([] if saved is None else list(saved.losses_since_best)),
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
    if ranks.is_first and isinstance(model, MixtureModel):
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
    return gradient_state(model, streams, training, precision, ranks, held_out)


def _model(run: TrainingRun, corpus: TrainingCorpus) -> Model:
    """The initial model, or that of the resumed run.

    Raises:
        ResourceError: The disk could not hold its checkpoints.
    """
    config = run.model.resolved(corpus.tokenizer.vocabulary_size)
    more = len(run.training.checkpoint_at)
    check_space(run.out, count_parameters(config), resumed=run.resumed_from is not None, more=more)
    if run.resumed_from is not None:
        return run.resumed_from.model
    if run.tuned_from is not None:
        return extended(run.tuned_from.model, config.vocabulary_size)
    model = build(config)
    generator = torch.Generator().manual_seed(run.training.seed)
    model.initialize(generator)
    if corpus.vectors is not None:
        embedding = model.token_vectors()
        assert embedding is not None  # only kinds with an embedding have --embeddings
        set_word_vectors(embedding, corpus.vectors.ids, corpus.vectors.vectors)
    elif isinstance(config, RecurrentConfig) and config.tie:
        embedding = model.token_vectors()
        assert embedding is not None  # it is what is tied
        size, width = embedding.shape
        ids, vectors = neighbour_vectors(corpus.encoded.train, size, width, generator)
        set_word_vectors(embedding, ids, vectors)
    return model
