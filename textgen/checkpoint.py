"""Checkpoint folders: a model, its tokenizer and how it was trained; no pickle anywhere.

``best`` and ``last`` are each complete and can be loaded alone, wherever they are copied. ``last``
also has the state from which resuming continues bit for bit. Describing one imports no torch.
"""

import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from textgen import __version__, storage
from textgen.config import ModelConfig, Precision, TokenizerConfig, TrainingConfig
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader
from textgen.errors import CheckpointError, DataError, ResourceError, UsageError
from textgen.results import LossCurves, LossPoint, Validation
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    import torch

    from textgen.models import Model

BEST, LAST = "best", "last"
CONFIG, METRICS, WEIGHTS = "config.json", "metrics.jsonl", "model.safetensors"
_TENSORS, _VALUES = "state.safetensors", "state.json"
_FORMAT = 2


@dataclass(frozen=True)
class Machine:
    """What was chosen for the machine of a run; a resumed run keeps the precision.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        launch: Identifies the start of ``torchrun``; None without it.
    """

    device: str
    precision: Precision
    threads: int
    processes: int = 1
    launch: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for invalid values."""
        for name in ("threads", "processes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{value!r} {name}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision {self.precision!r}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the fields of ``torchrun`` only if they were set."""
        machine = dataclasses.asdict(self)
        if self.processes == 1:
            del machine["processes"]
        if self.launch is None:
            del machine["launch"]
        return machine


@dataclass(frozen=True)
class InitialCheckpoint:
    """The checkpoint that a fine-tuned run started from.

    Attributes:
        path: As it was given.
        checkpoint: ``best`` or ``last``.
    """

    path: str
    checkpoint: str
    step: int
    weights_sha256: str
    tokenizer_fingerprint: str
    vocabulary_size: int


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "sentencepiece", "safetensors")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {"textgen": __version__, "python": platform.python_version()} | versions


@dataclass(frozen=True)
class Header:
    """What ``config.json`` records of a checkpoint.

    Attributes:
        source: Where the text was read from; read again on resume.
        seconds: Wall time of the run.
        tokens_per_second: Training tokens over the seconds of updates alone.
        validation: The newest, or in ``best`` the best.
        init_from: Of a fine-tuned run.
        versions: Of Python and the packages that wrote the checkpoint.
    """

    model: ModelConfig
    training: TrainingConfig
    corpus: CorpusHeader
    source: CorpusSource
    machine: Machine
    step: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
    parameters: int
    validation: Validation | None
    init_from: InitialCheckpoint | None = None
    versions: Mapping[str, str] = field(default_factory=_versions)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            AttributeError, KeyError, TypeError, ValueError, OverflowError, UsageError: It is
                anything else.
        """
        progress, validation, initial = (
            value[name] for name in ("progress", "validation", "init_from")
        )
        header = cls(
            model=ModelConfig.from_options(value["model"]),
            training=TrainingConfig.from_options(value["training"]),
            corpus=CorpusHeader.from_json(value["corpus"]),
            source=storage.from_json(CorpusSource, value["source"]),
            machine=Machine(**value["machine"]),
            step=int(progress["step"]),
            tokens_seen=int(progress["tokens_seen"]),
            seconds=float(progress["seconds"]),
            tokens_per_second=float(progress["tokens_per_second"]),
            parameters=int(value["parameters"]),
            validation=None if validation is None else read_validation(validation),
            init_from=None if initial is None else storage.from_json(InitialCheckpoint, initial),
            versions=dict(value["versions"]),
        )
        if header.model != header.model.resolved(header.model.vocabulary_size):
            raise ValueError("the shape of the model is unresolved")
        return header

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back to an equal header."""
        validation = None
        if self.validation is not None:
            when = {"step": self.validation.step, "seconds": self.validation.seconds}
            validation = validation_json(self.validation) | when
        progress = ("step", "tokens_seen", "seconds", "tokens_per_second")
        return {
            "model": self.model.to_json(),
            "training": self.training.to_json(),
            "corpus": self.corpus.to_json(),
            "source": dataclasses.asdict(self.source),
            "machine": self.machine.to_json(),
            "init_from": None if self.init_from is None else dataclasses.asdict(self.init_from),
            "progress": {name: getattr(self, name) for name in progress},
            "parameters": self.parameters,
            "validation": validation,
            "versions": dict(self.versions),
        }


def read_header(path: Path) -> Header:
    """Raises CheckpointError if it is not a header of this format."""
    value = storage.read_json(path)
    try:
        storage.check_format(value["format"], _FORMAT, path)
        return Header.from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError("damaged", where=path, why=why) from error


def validation_json(validation: Validation) -> dict[str, Any]:
    """A validation as in JSON output and ``metrics.jsonl``."""
    figures = {"loss": validation.loss, "perplexity": validation.perplexity}
    if validation.pseudo:
        figures = {f"pseudo_{name}": value for name, value in figures.items()}
    else:
        figures["bits_per_character"] = validation.bits_per_character
    return {
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
        "tokens": validation.tokens,
        "characters": validation.characters,
        "unknown": validation.unknown,
    }


def read_validation(raw: dict[str, Any]) -> Validation:
    """Raises KeyError, TypeError or ValueError if it is not a validation."""
    pseudo = "pseudo_loss" in raw
    return Validation(
        loss=float(raw["pseudo_loss" if pseudo else "loss"]),
        tokens=int(raw["tokens"]),
        characters=int(raw["characters"]),
        unknown=int(raw["unknown"]),
        step=int(raw["step"]),
        seconds=float(raw["seconds"]),
        pseudo=pseudo or bool(raw.get("pseudo", False)),
    )


def find(path: Path) -> tuple[str, Path]:
    """("best" | "last", folder): the checkpoint meant by a run's folder or one of its two.

    Raises ResourceError if there is none, CheckpointError for a file of another kind.
    """
    if path.is_file():
        with path.open("rb") as stream:
            kind = storage.foreign_kind(stream.read(512)) or "a file, where a folder is expected"
        raise CheckpointError("not a textgen checkpoint", where=path, why=kind)
    if (path / storage.MANIFEST).exists():
        return path.absolute().name.removesuffix(".old"), path
    for name in (BEST, LAST):
        folder = storage.find_complete(path / name)
        if folder is not None:
            return name, folder
    alone = storage.find_complete(path)
    if alone is not None and (alone / storage.MANIFEST).exists():
        return path.absolute().name, alone
    raise ResourceError(
        "no checkpoint" if path.is_dir() else "no such folder",
        where=path,
        fix="train one with: textgen train CORPUS --out FOLDER",
    )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read and checked: every byte is as it was written."""

    folder: Path
    name: str
    header: Header
    tokenizer: Tokenizer
    model: "Model"


Resumable = tuple[dict[str, "torch.Tensor"], dict[str, Any]]


def save(
    folder: Path,
    header: Header,
    model: "Model",
    tokenizer: Tokenizer,
    resumable: Resumable | None = None,
) -> None:
    """Write a checkpoint in place of ``folder``, completely or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from textgen.models import weight_shapes

    with storage.new_folder(folder) as begun:
        storage.write_json(begun / CONFIG, {"format": _FORMAT, **header.to_json()})
        save_tokenizer(tokenizer, begun)
        weights = model.state_dict()
        parts = {WEIGHTS: {name: weights[name] for name in weight_shapes(model.config)}}
        if resumable is not None:
            parts[_TENSORS], values = resumable
            storage.write_json(begun / _VALUES, values)
        for name, tensors in parts.items():
            try:
                save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, begun / name)
            except SafetensorError as error:  # for a full disk, with the system's message in it
                raise OSError(None, str(error)) from error


def load(path: Path) -> Checkpoint:
    """Read ``best``, else ``last``, of a run's folder, or the folder itself, onto the CPU."""
    name, folder = find(path)
    files = _checked_files(folder)
    header = read_header(files[CONFIG])
    tokenizer = load_tokenizer(files)
    if tokenizer.vocabulary_size != header.model.vocabulary_size:
        raise CheckpointError(
            "tokenizer and model do not belong together",
            where=folder,
            why=f"vocabularies of {tokenizer.vocabulary_size} and {header.model.vocabulary_size}",
        )
    return Checkpoint(folder, name, header, tokenizer, _load_model(files[WEIGHTS], header.model))


def load_resumable(folder: Path) -> Resumable:
    """The training state in ``last``; ``folder`` has been loaded before."""
    files = _checked_files(folder)
    if _TENSORS not in files or _VALUES not in files:
        raise CheckpointError("cannot be resumed", where=folder, why="it has no training state")
    values = storage.read_json(files[_VALUES])
    if not isinstance(values, dict):
        raise CheckpointError("damaged", where=files[_VALUES], why="not an object")
    return _read_tensors(files[_TENSORS]), values


def _checked_files(folder: Path) -> dict[str, Path]:
    files = storage.verified(folder)
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise CheckpointError("not a checkpoint", where=folder, why=f"it has no {name}")
    return files


def _load_model(path: Path, config: ModelConfig) -> "Model":
    from textgen.models import build, weight_shapes
    from textgen.models.ngram import ngram_tables

    def foreign(why: str) -> CheckpointError:
        return CheckpointError("not this model's weights", where=path, why=why)

    try:
        shapes = weight_shapes(config)
    except UsageError as error:
        raise CheckpointError("damaged", where=path.parent / CONFIG, why=str(error)) from error
    tensors = _read_tensors(path)
    if tensors.keys() != shapes.keys():
        raise foreign(f"{min(tensors.keys() ^ shapes.keys())!r} is missing or unexpected")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise foreign(f"{name} is {tuple(tensor.shape)}, not {shapes[name]}")
    model = build(config)  # no larger than the file
    own = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.dtype != own[name].dtype:
            raise foreign(f"{name} is {tensor.dtype}, not {own[name].dtype}")
        if not bool(tensor.isfinite().all()):
            raise CheckpointError("damaged", where=path, why=f"{name} is not finite")
    model.load_state_dict(tensors, strict=False)
    try:
        for tables in ngram_tables(model):
            tables.check()
    except ValueError as error:
        raise CheckpointError("damaged", where=path, why=str(error)) from error
    return model


def _read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError("damaged", where=path, why=str(error)) from error


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint as its JSON describes it, without its weights.

    Attributes:
        bytes: Size of its files.
        curve: The validations of its run.
        training_curve: (step, training loss in nats per token) of its run.
    """

    path: str
    name: str
    bytes: int
    header: Header
    tokenizer: TokenizerConfig
    curve: tuple[Validation, ...]
    training_curve: tuple[tuple[int, float], ...]


def describe(path: Path | str) -> CheckpointInfo:
    """Read the JSON of a checkpoint and its run's ``metrics.jsonl``."""
    name, folder = find(Path(path))
    files = _checked_files(folder)
    validations, training = _read_metrics(folder.parent / METRICS)
    return CheckpointInfo(
        path=str(folder),
        name=name,
        bytes=sum(file.stat().st_size for file in files.values()),
        header=read_header(files[CONFIG]),
        tokenizer=load_tokenizer(files).config,
        curve=validations,
        training_curve=tuple((point.step, point.loss) for point in training),
    )


def loss_curves(path: Path) -> LossCurves:
    """The loss curves of a run. Raises DataError if ``metrics.jsonl`` is missing or empty."""
    folder = find(path)[1]
    record = folder.parent / METRICS
    validations, training = _read_metrics(record)
    if not validations and not training:
        raise DataError(
            "no learning curve",
            where=record,
            why="metrics.jsonl lies beside best and last, and is not copied with them",
            fix="name the folder that train wrote",
        )
    steps = training
    if not steps:  # the run is too short for a log line: its end
        header = read_header(folder / CONFIG)
        epochs = header.tokens_seen / (header.corpus.train.tokens or math.nan)
        end = LossPoint(header.step, header.tokens_seen, epochs, header.seconds, math.nan)
        steps = (end,)
    held_out = tuple(_when(steps, each) for each in validations)
    pseudo = any(each.pseudo for each in validations)
    return LossCurves(str(path), training, held_out, pseudo)


def _when(training: Sequence[LossPoint], validation: Validation) -> LossPoint:
    """A validation with the tokens and epochs of its step, in proportion to the log lines."""
    step, tokens, epochs = validation.step, math.nan, math.nan
    # The line at or after the step; all steps but the last have the same number of tokens.
    nearest = next((point for point in training if point.step >= step), training[-1])
    if step == 0:
        tokens = epochs = 0.0
    elif nearest.step:
        share = step / nearest.step
        tokens, epochs = share * nearest.tokens, share * nearest.epochs
    return LossPoint(step, tokens, epochs, validation.seconds, validation.loss)


def _read_metrics(path: Path) -> tuple[tuple[Validation, ...], tuple[LossPoint, ...]]:
    """The validations and losses in ``metrics.jsonl``; an incomplete line is skipped."""
    validations, losses = [], []
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    raw = json.loads(line)
                    if raw["event"] == "validation":
                        validations.append(read_validation(raw))
                    else:
                        losses.append(_loss_point(raw))
                except (ValueError, KeyError, TypeError, RecursionError):
                    pass
    return tuple(validations), tuple(losses)


def _loss_point(raw: dict[str, Any]) -> LossPoint:
    names = ("tokens_seen", "epoch", "seconds")
    tokens, epochs, seconds = (float(raw.get(name, math.nan)) for name in names)
    return LossPoint(int(raw["step"]), tokens, epochs, seconds, float(raw["loss"]))
