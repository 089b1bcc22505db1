"""From settings to all that the loop needs: tokens, model, learner, record."""

import contextlib
import dataclasses
import os
from dataclasses import dataclass

import torch

from textgen import checkpoint
from textgen.batching import Streams
from textgen.config import ModelConfig, Precision
from textgen.encoding import EncodedCorpus
from textgen.errors import CheckpointError, UsageError
from textgen.models import Model, build, count_parameters
from textgen.models.placement import choose_device, choose_precision, use_threads
from textgen.results import Validation
from textgen.tokenizers.base import Tokenizer
from textgen.training import record
from textgen.training.learner import Learner
from textgen.training.record import Record
from textgen.training_run.settings import Settings
from textgen.training_run.tokens import Tokens

_WEIGHT_COPIES = 4  # the weight, its gradient and the optimizer's two moments
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Prepared:
    """A run about to go. validation: the newest of a resumed run."""

    settings: Settings
    tokens: Tokens
    learner: Learner
    record: Record
    validation: Validation | None


@dataclass(frozen=True)
class Machine:
    """What was chosen for this machine; a resumed run computes as it was begun."""

    device: torch.device
    precision: Precision
    threads: int


def prepare(settings: Settings, tokens: Tokens, closing: contextlib.ExitStack) -> Prepared:
    """Make or load the model, and open the run's record.

    closing: takes what must be closed when the run is over.
    """
    threads = use_threads(settings.threads)
    device = choose_device(settings.device)
    encoded, tokenizer = tokens.encoded, tokens.tokenizer
    model = _model(settings, tokenizer)
    machine = Machine(device, _precision(settings, device, model.config), threads)
    learner = Learner(
        model.to(device), _streams(settings, encoded), settings.training, machine.precision
    )
    run_record = Record(settings.out, _header(settings, model.config, encoded, machine), tokenizer)
    kept_bytes, validation = None, None
    if settings.resumed is not None:
        kept_bytes, validation = record.resume(
            run_record, learner, settings.resumed.folder, changed=tokens.changed
        )
        if tokens.changed:  # losses on another text are not to be compared with
            run_record.best = validation = None
    run_record.open(kept_bytes)
    closing.callback(run_record.close)
    return Prepared(settings, tokens, learner, run_record, validation)


def _model(settings: Settings, tokenizer: Tokenizer) -> Model:
    """The model to go on with, or a new one; refused where memory could not hold it."""
    if settings.resumed is not None:
        parameters = count_parameters(settings.resumed.model.config)
        record.check_space(settings.out, parameters, resumed=True)
        return settings.resumed.model
    shape = settings.model.resolved(tokenizer.vocabulary_size)
    parameters = count_parameters(shape)
    needed, there = _WEIGHT_COPIES * _FLOAT_BYTES * parameters, _memory_bytes()
    if there is not None and needed > there:
        raise UsageError(
            f"--hidden-size {','.join(map(str, shape.hidden_size))} is too large",
            why=f"training {parameters:,} parameters needs {needed:,} bytes of {there:,}",
            fix="lower --hidden-size or --embedding-size",
        )
    record.check_space(settings.out, parameters)
    model = build(shape)
    generator = torch.Generator()
    generator.manual_seed(settings.training.seed)
    model.initialize(generator)
    return model


def _memory_bytes() -> int | None:
    """The machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _precision(settings: Settings, device: torch.device, shape: ModelConfig) -> Precision:
    if settings.resumed is not None:
        kept: Precision = settings.resumed.header.machine.get("precision", "float32")
        try:
            return choose_precision(kept, device, shape)
        except UsageError as error:
            raise CheckpointError("cannot go on", where=settings.out, why=str(error)) from error
    return choose_precision(settings.training.precision, device, shape)


def _streams(settings: Settings, encoded: EncodedCorpus) -> Streams:
    training = settings.training
    return Streams(
        encoded.train,
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        run_windows=training.run_windows,
        # Where rare tokens are <UNK> already, it is learned from them.
        unknown_rate=0.0 if encoded.header.train.unknown else training.unknown_rate,
        seed=training.seed,
    )


def _header(
    settings: Settings, shape: ModelConfig, encoded: EncodedCorpus, machine: Machine
) -> checkpoint.Header:
    """The header of the run's checkpoints, at its beginning."""
    return checkpoint.Header(
        model=shape,
        training=settings.training,
        corpus=dataclasses.asdict(encoded.header),
        source=dataclasses.asdict(settings.source),
        machine={
            "device": machine.device.type,
            "precision": machine.precision,
            "threads": machine.threads,
        },
        step=0,
        tokens_seen=0,
        seconds=0.0,
        tokens_per_second=0.0,
        parameters=count_parameters(shape),
        validation=None,
    )
