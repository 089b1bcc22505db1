"""Checkpoint folders: where they are, and how they are written, checked and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import storage
from textgen.checkpoint.header import CONFIG, Header, read_header, write_header
from textgen.config import ModelConfig
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    import torch

    from textgen.models import Model


BEST, LAST = "best", "last"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"


def find(path: Path) -> tuple[str, Path]:
    """("best" | "last", folder): the checkpoint meant by a run's folder or one of its two.

    Raises ResourceError where there is none, CheckpointError for a file of another kind.
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
    """Write a checkpoint in place of ``folder``, whole or not at all."""
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
            # safetensors raises its own exception for a full disk, with the system's words in it.
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
    """What ``last`` holds for training to go on; ``folder`` has been loaded before."""
    files = checked_files(folder)
    if _TENSORS not in files or _VALUES not in files:
        raise CheckpointError(
            "cannot be resumed", where=folder, why="it holds no state of training"
        )
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
        odd = sorted(tensors.keys() ^ expected.keys())[0]
        raise CheckpointError("not this model's weights", where=path, why=f"{odd!r} is odd")
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
