"""Checkpoint folders: finding, writing, checking and reading them, and the metrics of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import storage
from textgen.checkpoint.header import CONFIG, Header, read_header, write_header
from textgen.config import ModelConfig, TokenizerConfig
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    import torch

    from textgen.models import Model
import json
import math
from collections.abc import Sequence

from textgen.checkpoint.header import read_validation
from textgen.errors import DataError
from textgen.results import LossCurves, LossPoint, Validation

BEST, LAST = "best", "last"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"


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


def checked_files(folder: Path) -> dict[str, Path]:
    files = storage.verified(folder)
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise CheckpointError("not a checkpoint", where=folder, why=f"it has no {name}")
    return files


_TENSORS, _VALUES = "state.safetensors", "state.json"


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
    from safetensors.torch import save_file

    with storage.new_folder(folder) as begun:
        write_header(begun / CONFIG, header)
        save_tokenizer(tokenizer, begun)
        try:
            save_file(_unshared(model), begun / WEIGHTS)
            if resumable is not None:
                tensors, values = resumable
                save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, begun / _TENSORS)
                storage.write_json(begun / _VALUES, values)
        except Exception as error:
            # safetensors raises its own exception for a full disk, with the system's message in it.
            raise _as_os_error(error) from error


def load(path: Path) -> Checkpoint:
    """Read ``best``, else ``last``, of a run's folder, or the folder itself, onto the CPU."""
    name, folder = find(path)
    files = checked_files(folder)
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
    files = checked_files(folder)
    if _TENSORS not in files or _VALUES not in files:
        raise CheckpointError("cannot be resumed", where=folder, why="it has no training state")
    values = storage.read_json(files[_VALUES])
    if not isinstance(values, dict):
        raise CheckpointError("damaged", where=files[_VALUES], why="not an object")
    return _read_tensors(files[_TENSORS]), values


def _as_os_error(error: Exception) -> Exception:
    if isinstance(error, OSError):
        return error
    if type(error).__name__ == "SafetensorError":
        return OSError(None, str(error))
    return error


def _unshared(model: "Model") -> dict[str, "torch.Tensor"]:
    """The weights by name; of weights that are one tensor under two names, the first."""
    weights = {}
    seen: set[int] = set()
    for name, weight in model.state_dict(keep_vars=True).items():
        if id(weight) not in seen:
            seen.add(id(weight))
            weights[name] = weight.detach().cpu().contiguous()
    return weights


def _load_model(path: Path, config: ModelConfig) -> "Model":
    from textgen.models import build, weight_shapes
    from textgen.models.base import CountsNgrams

    try:
        expected = weight_shapes(config)
    except UsageError as error:
        raise CheckpointError("damaged", where=path.parent / CONFIG, why=str(error)) from error
    tensors = _read_tensors(path)
    if tensors.keys() != expected.keys():
        why = f"{min(tensors.keys() ^ expected.keys())!r} is missing or unexpected"
        raise CheckpointError("not this model's weights", where=path, why=why)
    _check_shapes(path, tensors, expected)
    model = build(config)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.dtype != own[name].dtype:
            why = f"{name} is {tensor.dtype}, not {own[name].dtype}"
            raise CheckpointError("not this model's weights", where=path, why=why)
        if not bool(tensor.isfinite().all()):
            raise CheckpointError("damaged", where=path, why=f"{name} is not finite")
    model.load_state_dict(tensors, strict=False)
    try:
        if isinstance(model, CountsNgrams):
            model.check()
    except ValueError as error:
        raise CheckpointError("damaged", where=path, why=str(error)) from error
    return model


def _check_shapes(
    path: Path, tensors: dict[str, "torch.Tensor"], expected: dict[str, tuple[int, ...]]
) -> None:
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            why = f"{name} is {tuple(tensor.shape)}, not {expected[name]}"
            raise CheckpointError("not this model's weights", where=path, why=why)


def _read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError("damaged", where=path, why=str(error)) from error


def loss_curves(path: Path) -> LossCurves:
    """The loss curves of a run. Raises DataError if ``metrics.jsonl`` is missing or empty."""
    folder = find(path)[1]
    record = folder.parent / METRICS
    validations, training = read_metrics(record)
    if not validations and not training:
        raise DataError(
            "no learning curve",
            where=record,
            why="metrics.jsonl lies beside best and last, and is not copied with them",
            fix="name the folder that train wrote",
        )
    held_out = tuple(_when(training or (_end(folder),), each) for each in validations)
    pseudo = any(each.pseudo for each in validations)
    return LossCurves(str(path), training, held_out, pseudo)


def _end(folder: Path) -> LossPoint:
    """The end of a run that is too short to have a log line of training."""
    header = read_header(folder / CONFIG)
    tokens = float(header.tokens_seen)
    epochs = tokens / (header.corpus.train.tokens or math.nan)
    return LossPoint(header.step, tokens, epochs, header.seconds, math.nan)


def read_metrics(path: Path) -> tuple[tuple[Validation, ...], tuple[LossPoint, ...]]:
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
                        losses.append(_read_point(raw))
                except (ValueError, KeyError, TypeError, RecursionError):
                    pass
    return tuple(validations), tuple(losses)


def _read_point(raw: dict[str, Any]) -> LossPoint:
    tokens, epochs, seconds = (
        float(raw.get(name, math.nan)) for name in ("tokens_seen", "epoch", "seconds")
    )
    return LossPoint(int(raw["step"]), tokens, epochs, seconds, float(raw["loss"]))


def _when(training: Sequence[LossPoint], validation: Validation) -> LossPoint:
    """A validation with the tokens and epochs of its step, in proportion to the log lines."""
    step, tokens, epochs = validation.step, math.nan, math.nan
    if step == 0:
        tokens = epochs = 0.0
    elif training:
        # The line at or after the step; all steps but the last have the same number of tokens.
        nearest = next((point for point in training if point.step >= step), training[-1])
        if nearest.step:
            share = step / nearest.step
            tokens, epochs = share * nearest.tokens, share * nearest.epochs
    return LossPoint(step, tokens, epochs, validation.seconds, validation.loss)


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
    """Read the JSON of a checkpoint and its run's ``metrics.jsonl``; imports no torch."""
    name, folder = find(Path(path))
    files = checked_files(folder)
    validations, training = read_metrics(folder.parent / METRICS)
    return CheckpointInfo(
        path=str(folder),
        name=name,
        bytes=sum(file.stat().st_size for file in files.values()),
        header=read_header(files[CONFIG]),
        tokenizer=load_tokenizer(files).config,
        curve=validations,
        training_curve=tuple((point.step, point.loss) for point in training),
    )
