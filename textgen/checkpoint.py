"""Checkpoint folders: a model, its tokenizer and how it was trained; no pickle anywhere.

``best`` and ``last``, and those in ``at`` that were kept on the way, are each complete and can be
loaded alone, wherever they are copied. ``last`` also has the state from which resuming continues
bit for bit. Describing one imports no torch.
"""

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from textgen import __version__, storage
from textgen.config import (
    Amount,
    Bounds,
    Count,
    ModelConfig,
    Precision,
    TokenizerConfig,
    TrainingConfig,
)
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader
from textgen.errors import CheckpointError, DataError, ResourceError
from textgen.results import LossCurves, LossPoint, Validation
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    import torch

    from textgen.models import Model

BEST, LAST, AT = "best", "last", "at"
CONFIG, METRICS, WEIGHTS = "config.json", "metrics.jsonl", "model.safetensors"
_TENSORS, STATE = "state.safetensors", "state.json"
_FORMAT = 4
_AtLeastOne = Annotated[int, Bounds(1, 2**20)]
_PSEUDO = "pseudo_"
_Logged = TypeVar("_Logged", Validation, LossPoint)


@dataclass(frozen=True)
class Machine:
    """What was chosen for the machine of a run; a resumed run keeps the precision.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        launch: Identifies the start of ``torchrun``; None without it.
    """

    device: str
    precision: Precision
    threads: _AtLeastOne
    processes: _AtLeastOne = 1
    launch: str | None = None

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
        checkpoint: ``best``, ``last`` or one such as ``at/5M``.
    """

    path: str
    checkpoint: str
    step: Count
    weights_sha256: str
    tokenizer_fingerprint: str
    vocabulary_size: Count


@dataclass(frozen=True)
class Rounding:
    """The rounding of the matrices of ``best`` to bfloat16, and what it changed.

    Attributes:
        divergence: The Kullback-Leibler divergence of what the rounded model predicts from what
            the model predicts that was trained, in nats per token.
        tokens: On how many, of the validation part, it was measured.
    """

    dtype: Literal["bfloat16"]
    divergence: Amount
    tokens: Count


def is_matrix(weight: "torch.Tensor") -> bool:
    """Whether a weight is rounded where a checkpoint is; biases, counts and gates are not."""
    return weight.ndim == 2 and weight.is_floating_point()


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
        words_seen: If the run counts them.
        validation: The newest, or in ``best`` the best; of the weights as ``best`` has them.
        rounding: Of the weights, None if they are in float32, as in ``last``.
        init_from: Of a fine-tuned run.
        versions: Of Python and the packages that wrote the checkpoint.
    """

    model: ModelConfig
    training: TrainingConfig
    corpus: CorpusHeader
    source: CorpusSource
    machine: Machine
    step: Count
    tokens_seen: Count
    seconds: Amount
    tokens_per_second: Amount
    parameters: Count
    validation: Validation | None
    init_from: InitialCheckpoint | None = None
    rounding: Rounding | None = None
    words_seen: Count | None = None
    versions: Mapping[str, str] = field(default_factory=_versions)

    def to_json(self) -> dict[str, Any]:
        """A JSON object, from which ``read_header`` makes an equal header."""
        value = dataclasses.asdict(self) | {"machine": self.machine.to_json()}
        progress = ("step", "tokens_seen", "words_seen", "seconds", "tokens_per_second")
        value["progress"] = {name: value.pop(name) for name in progress}
        if self.words_seen is None:
            del value["progress"]["words_seen"]
        if self.validation is not None:
            when = {"step": self.validation.step, "seconds": self.validation.seconds}
            value["validation"] = validation_json(self.validation) | when
        return value


def read_header(path: Path) -> Header:
    """Raises CheckpointError if it is not a header of this format."""
    value = storage.read_object(path, _FORMAT)
    with storage.reading(path):
        validation = without_pseudo_names(value["validation"])
        fields = {**value, **value["progress"], "validation": validation}
        header = storage.from_json(Header, fields)
        if header.model != header.model.resolved(header.model.vocabulary_size):
            raise ValueError("the shape of the model is unresolved")
    return header


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


def without_pseudo_names(value: Any) -> Any:
    """The JSON in which what is ``pseudo`` has ordinary names, and says so."""
    if isinstance(value, list):
        return list(map(without_pseudo_names, value))
    if not isinstance(value, dict):
        return value
    named = {key.removeprefix(_PSEUDO): without_pseudo_names(value[key]) for key in value}
    return named | ({"pseudo": True} if any(key.startswith(_PSEUDO) for key in value) else {})


def find(path: Path) -> tuple[str, Path]:
    """("best" | "last" | "at/5M", folder): the checkpoint meant by a run's folder or one in it.

    Raises ResourceError if there is none, CheckpointError for a file of another kind.
    """
    if path.is_file():
        with path.open("rb") as stream:
            kind = storage.foreign_kind(stream.read(512)) or "a file, where a folder is expected"
        raise CheckpointError(
            "not a textgen checkpoint", where=path, why=kind, fix="give the folder that train wrote"
        )
    if (path / storage.MANIFEST).exists():
        return _name(path), path
    for name in (BEST, LAST):
        folder = storage.find_complete(path / name)
        if folder is not None:
            return name, folder
    alone = storage.find_complete(path)
    if alone is not None and (alone / storage.MANIFEST).exists():
        return _name(path), alone
    raise ResourceError(
        "no checkpoint" if path.is_dir() else "no such folder",
        where=path,
        fix="train one with: textgen train CORPUS --out FOLDER",
    )


def _name(folder: Path) -> str:
    """The name of a checkpoint within its run."""
    run, inside = run_folder(folder), folder.absolute()
    return inside.relative_to(run).as_posix().removesuffix(".old")


def run_folder(folder: Path) -> Path:
    """The folder of the run that a checkpoint's folder belongs to."""
    inside = folder.absolute()
    return inside.parent.parent if _is_on_its_way(folder) else inside.parent


def _is_on_its_way(folder: Path) -> bool:
    """Whether a checkpoint was kept after an amount of text, rather than ``best`` or ``last``."""
    inside = folder.absolute()
    return inside.parent.name == AT and inside.name.removesuffix(".old") not in (BEST, LAST)


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
    """Write a checkpoint in place of ``folder``, completely or not at all.

    Where the header has a rounding, the matrices of the model have been rounded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from textgen.models import weight_shapes

    with storage.new_folder(folder) as begun:
        storage.write_json(begun / CONFIG, {"format": _FORMAT, **header.to_json()})
        save_tokenizer(tokenizer, begun)
        weights = model.state_dict()
        named = {name: weights[name] for name in weight_shapes(model.config)}
        if header.rounding is not None:
            named = {n: t.bfloat16() if is_matrix(t) else t for n, t in named.items()}
        parts = {WEIGHTS: named}
        if resumable is not None:
            parts[_TENSORS], values = resumable
            storage.write_json(begun / STATE, values)
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
    return Checkpoint(folder, name, header, tokenizer, _load_model(files[WEIGHTS], header))


def load_resumable(folder: Path) -> Resumable:
    """The training state in ``last``; ``folder`` has been loaded before."""
    files = _checked_files(folder)
    if _TENSORS not in files or STATE not in files:
        raise CheckpointError("cannot be resumed", where=folder, why="it has no training state")
    with storage.reading(files[STATE]):
        values = storage.from_json(dict, storage.read_json(files[STATE]), "it")
    return _read_tensors(files[_TENSORS]), values


def _checked_files(folder: Path) -> dict[str, Path]:
    files = storage.verified(folder)
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise CheckpointError("not a checkpoint", where=folder, why=f"it has no {name}")
    return files


def _load_model(path: Path, header: Header) -> "Model":
    """The model, in float32 whatever its weights were rounded to."""
    import torch

    from textgen.models import build, weight_shapes
    from textgen.models.ngram import ngram_tables

    config = header.model

    def foreign(why: str) -> CheckpointError:
        return CheckpointError("not this model's weights", where=path, why=why)

    with storage.reading(path.parent / CONFIG):
        shapes = weight_shapes(config)
    tensors = _read_tensors(path)
    if tensors.keys() != shapes.keys():
        raise foreign(f"{min(tensors.keys() ^ shapes.keys())!r} is missing or unexpected")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise foreign(f"{name} is {tuple(tensor.shape)}, not {shapes[name]}")
    model = build(config)  # no larger than the file
    own = model.state_dict()
    for name, tensor in tensors.items():
        rounded = header.rounding is not None and is_matrix(own[name])
        dtype = torch.bfloat16 if rounded else own[name].dtype
        if tensor.dtype != dtype:
            raise foreign(f"{name} is {tensor.dtype}, not {dtype}")
    model.load_state_dict(tensors, strict=False)
    with storage.reading(path):
        for tables in ngram_tables(model):
            tables.check()
    return model


def _read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with storage.reading(path):
        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
        except SafetensorError as error:
            raise ValueError(error) from error
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} is not finite")
    return tensors


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
    header = read_header(files[CONFIG])
    validations, training = _metrics_until(folder, header)
    return CheckpointInfo(
        path=str(folder),
        name=name,
        bytes=sum(file.stat().st_size for file in files.values()),
        header=header,
        tokenizer=load_tokenizer(files).config,
        curve=validations,
        training_curve=tuple((point.step, point.loss) for point in training),
    )


def loss_curves(path: Path) -> LossCurves:
    """The loss curves of a run, of a checkpoint on its way until then.

    Raises:
        DataError: ``metrics.jsonl`` is missing or empty.
    """
    folder = find(path)[1]
    record, header = run_folder(folder) / METRICS, read_header(folder / CONFIG)
    validations, training = _metrics_until(folder, header)
    if not validations and not training:
        logged = record.is_file() and _is_on_its_way(folder)
        raise DataError(
            "no learning curve",
            where=record,
            why="nothing was logged before this checkpoint"
            if logged
            else "metrics.jsonl lies beside best and last, and is not copied with them",
            fix="name the folder that train wrote",
        )
    steps = training or (_saved(header),)  # the run is too short for a log line: its end
    held_out = tuple(_when(steps, each) for each in validations)
    pseudo = any(each.pseudo for each in validations)
    kept = _kept(run_folder(folder))
    if _is_on_its_way(folder):
        kept = [(name, point) for name, point in kept if point.step <= header.step]
    return LossCurves(str(path), training, held_out, pseudo, tuple(kept))


def _saved(header: Header) -> LossPoint:
    """When in its run a checkpoint was saved, without a loss."""
    epochs = header.tokens_seen / (header.corpus.train.tokens or math.nan)
    return LossPoint(header.step, math.nan, header.tokens_seen, epochs, header.seconds)


def _kept(run: Path) -> list[tuple[str, LossPoint]]:
    """The checkpoints on the way of a run, by name (``at/5M``), in the order of steps."""
    begun = {path for path in (run / AT).glob("*") if path.suffix != ".new"}
    names = {f"{AT}/{path.name.removesuffix('.old')}" for path in begun}
    kept = [(name, _saved(read_header(find(run / name)[1] / CONFIG))) for name in names]
    return sorted(kept, key=lambda each: (each[1].step, each[0]))


def _metrics_until(
    folder: Path, header: Header
) -> tuple[tuple[Validation, ...], tuple[LossPoint, ...]]:
    """The metrics of a checkpoint's run; of one on its way, those until then."""
    validations, losses = read_metrics(run_folder(folder) / METRICS)
    if not _is_on_its_way(folder):
        return validations, losses
    return (
        tuple(each for each in validations if each.step <= header.step),
        tuple(each for each in losses if each.step <= header.step),
    )


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
    return LossPoint(step, validation.loss, tokens, epochs, validation.seconds)


def read_metrics(path: Path) -> tuple[tuple[Validation, ...], tuple[LossPoint, ...]]:
    """The validations and losses in ``metrics.jsonl``.

    Raises:
        CheckpointError: A line is damaged, other than the last that a kill has cut.
    """
    validations: list[Validation] = []
    losses: list[LossPoint] = []
    for where, raw in storage.read_lines(path) if path.is_file() else ():
        with storage.reading(where, "remove the damaged line"):
            line = without_pseudo_names(raw)
            if (event := line["event"]) not in ("step", "validation"):
                raise ValueError(f"event {event!r:.40}")
            if line["loss"] is None:  # it was not finite
                continue
            if event == "validation":
                _append(validations, storage.from_json(Validation, line))
            else:
                renamed = {"tokens_seen": "tokens", "epoch": "epochs"}
                fields = {renamed.get(name, name): value for name, value in line.items()}
                _append(losses, storage.from_json(LossPoint, fields))
    return tuple(validations), tuple(losses)


def _append(points: list[_Logged], point: _Logged) -> None:
    names = ("step", "seconds", *(("tokens", "epochs") if isinstance(point, LossPoint) else ()))
    for name in names if points else ():
        before, now = getattr(points[-1], name), getattr(point, name)
        if now < before:
            raise ValueError(f"{name} {now} comes after {before}")
    points.append(point)
