"""From the settings of a run to its model and trainer; larger vocabularies for fine-tuning."""

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from textgen import checkpoint
from textgen.config import Device, ModelConfig, Precision
from textgen.data.encoded import EncodedCorpus
from textgen.errors import CheckpointError, UsageError
from textgen.models import Model, build, count_parameters, weight_shapes
from textgen.models.device import choose_device, choose_precision, use_threads
from textgen.models.recurrent import begin_with_vectors
from textgen.results import Validation
from textgen.tokenizers.base import UNK
from textgen.training import run_directory as record
from textgen.training.autotune import settle_open
from textgen.training.distributed import Briefing, make_learner
from textgen.training.ranks import Ranks, launch
from textgen.training.run import Settings
from textgen.training.run_directory import Record
from textgen.training.tokens import Tokens
from textgen.training.trainer import Learner


@torch.no_grad()
def extended(model: Model, vocabulary_size: int) -> Model:
    """The model with new ids after its own, each of which starts as another ``<UNK>``.

    ``<UNK>`` is what the model has learned of tokens that it does not know, so the new rows of
    embedding and output are copies of its row, or of its column where input is one-hot. They part
    by themselves: each id has gradients of its own, from where it is read and where it is the
    target; so nothing random is added, and a text that has none of them meets the same model.
    Together the k new ids get the probability of one more ``<UNK>``, their biases being lower by
    ln(k): at the full bias, ten thousand new words would take nearly all of the probability from
    the old ones. Old rows stay as they are.
    """
    config = dataclasses.replace(model.config, vocabulary_size=vocabulary_size, counted=())
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
        if name in weights  # what is counted is counted anew
    }
    bigger.load_state_dict(grown, strict=False)  # a tied weight stands under one name
    return bigger


def _grown(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A weight with more ids: a bias (id,), a row an id (id, units), or a column (units, id)."""
    by_id = next(place for place, size in enumerate(shape) if size != weight.shape[place])
    old = weight.movedim(by_id, 0)
    new = shape[by_id] - len(old)
    rows = old[UNK].expand(new, *old.shape[1:])
    if weight.ndim == 1:
        rows = rows - math.log(new)
    return torch.cat([old, rows]).movedim(0, by_id)


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
    processes: int

    def to_json(self) -> dict[str, Any]:
        several = {"processes": self.processes} if self.processes > 1 else {}
        started = {} if launch() is None else {"launch": launch()}
        single = {"device": self.device.type, "precision": self.precision, "threads": self.threads}
        return single | several | started


def prepare(
    settings: Settings, tokens: Tokens, ranks: Ranks, closing: contextlib.ExitStack
) -> Prepared:
    """Make or load the model, and open the run's record.

    closing: takes what must be closed when the run is over.
    """
    if settings.resumed is None:
        settings, _ = settle_open(settings, tokens, ranks.size)
    threads = use_threads(settings.threads)
    device = ranks.device(choose_device(settings.device))
    encoded, tokenizer = tokens.encoded, tokens.tokenizer
    model = _model(settings, tokens)
    machine = Machine(device, _precision(settings, device, model.config), threads, ranks.size)
    briefing = _briefing(settings, encoded, model.config, machine)
    learner = make_learner(briefing, model.to(device), encoded.train, ranks)
    run_record = Record(settings.out, _header(settings, model.config, encoded, machine), tokenizer)
    kept_bytes, validation = None, None
    if settings.resumed is not None:
        kept_bytes, validation = record.resume(
            run_record, learner, settings.resumed.folder, changed=tokens.changed
        )
        if tokens.changed:  # losses on another text are not to be compared with
            run_record.best = validation = None
            learner.model.read(learner.streams.ids)
    run_record.open(kept_bytes)
    closing.callback(run_record.close)
    return Prepared(settings, tokens, learner, run_record, validation)


def _model(settings: Settings, tokens: Tokens) -> Model:
    """The model to go on with or to begin with; refused where the disk could not hold it."""
    if settings.resumed is not None:
        parameters = count_parameters(settings.resumed.model.config)
        record.check_space(settings.out, parameters, resumed=True)
        return settings.resumed.model
    vocabulary_size = tokens.tokenizer.vocabulary_size
    shape = settings.model.resolved(vocabulary_size)
    record.check_space(settings.out, count_parameters(shape))
    if settings.origin is not None:
        return extended(settings.origin.checkpoint.model, vocabulary_size)
    model = build(shape)
    generator = torch.Generator()
    generator.manual_seed(settings.training.seed)
    model.initialize(generator)
    if tokens.vectors is not None:
        embedding = model.token_vectors()
        assert embedding is not None  # no kind without them has --embeddings
        begin_with_vectors(embedding, tokens.vectors.ids, tokens.vectors.vectors)
    return model


def _precision(settings: Settings, device: torch.device, shape: ModelConfig) -> Precision:
    if settings.resumed is not None:
        kept: Precision = settings.resumed.header.machine.get("precision", "float32")
        try:
            return choose_precision(kept, device, shape)
        except UsageError as error:
            raise CheckpointError("cannot go on", where=settings.out, why=str(error)) from error
    return choose_precision(settings.training.precision, device, shape)


def _briefing(
    settings: Settings, encoded: EncodedCorpus, shape: ModelConfig, machine: Machine
) -> Briefing:
    return Briefing(
        model=shape,
        training=settings.training,
        # Where rare tokens are <UNK> already, it is learned from them.
        unknown_rate=0.0 if encoded.header.train.unknown else settings.training.unknown_rate,
        device=cast(Device, machine.device.type),
        precision=machine.precision,
        threads=machine.threads,
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
        machine=machine.to_json(),
        step=0,
        tokens_seen=0,
        seconds=0.0,
        tokens_per_second=0.0,
        parameters=count_parameters(shape),
        validation=None,
        init_from=_init_from(settings),
    )


def _init_from(settings: Settings) -> dict[str, Any] | None:
    """What a fine-tune remembers of where it began."""
    if settings.resumed is not None:
        return settings.resumed.header.init_from
    if settings.origin is None:
        return None
    saved = settings.origin.checkpoint
    return {
        "path": settings.origin.given,
        "checkpoint": saved.name,
        "step": saved.header.step,
        "weights_sha256": settings.origin.weights_sha256,
        "tokenizer_fingerprint": saved.tokenizer.fingerprint,
        "vocabulary_size": saved.tokenizer.vocabulary_size,
    }
