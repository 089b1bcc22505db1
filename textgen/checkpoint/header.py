"""``config.json``: what a checkpoint records of itself; read without torch."""

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args

from textgen import __version__, storage
from textgen.config import ModelConfig, Precision, TrainingConfig
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import CorpusHeader
from textgen.errors import CheckpointError, UsageError
from textgen.results import Validation

CONFIG = "config.json"
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
        launch = {} if self.launch is None else {"launch": self.launch}
        processes = {} if self.processes == 1 else {"processes": self.processes}
        machine = {name: getattr(self, name) for name in ("device", "precision", "threads")}
        return machine | processes | launch


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
        progress, validation, init_from = (
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
            init_from=None
            if init_from is None
            else storage.from_json(InitialCheckpoint, init_from),
            versions=dict(value["versions"]),
        )
        if header.model != header.model.resolved(header.model.vocabulary_size):
            raise ValueError("the shape of the model is unresolved")
        return header

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back to an equal header."""
        validation = self.validation
        return {
            "model": self.model.to_json(),
            "training": self.training.to_json(),
            "corpus": self.corpus.to_json(),
            "source": dataclasses.asdict(self.source),
            "machine": self.machine.to_json(),
            "init_from": None if self.init_from is None else dataclasses.asdict(self.init_from),
            "progress": {
                "step": self.step,
                "tokens_seen": self.tokens_seen,
                "seconds": self.seconds,
                "tokens_per_second": self.tokens_per_second,
            },
            "parameters": self.parameters,
            "validation": None
            if validation is None
            else validation_json(validation)
            | {"step": validation.step, "seconds": validation.seconds},
            "versions": dict(self.versions),
        }


def write_header(path: Path, header: Header) -> None:
    storage.write_json(path, {"format": _FORMAT, **header.to_json()})


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
    if validation.pseudo:
        figures = {
            "pseudo_loss": _finite(validation.loss),
            "pseudo_perplexity": _finite(validation.perplexity),
        }
    else:
        figures = {
            "loss": _finite(validation.loss),
            "perplexity": _finite(validation.perplexity),
            "bits_per_character": _finite(validation.bits_per_character),
        }
    return {
        **figures,
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
