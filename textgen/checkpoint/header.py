"""``config.json``: what a checkpoint says of itself; read without torch."""

import importlib.metadata
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from textgen import __version__, storage
from textgen.config import ModelConfig, Precision, TrainingConfig
from textgen.errors import CheckpointError, UsageError
from textgen.results import Validation

CONFIG = "config.json"
_FORMAT = 1


@dataclass(frozen=True)
class Header:
    """What ``config.json`` says of a checkpoint.

    corpus: the header of the encoded corpus, with its fingerprint and its tokenizer's.
    source: where the text was read from. machine: what was chosen for the machine (device,
    precision, threads). Both are reused on resume. init_from: of a fine-tune, what it began
    from: the path as it was given, the step, and what identifies weights and tokenizer.
    """

    model: ModelConfig
    training: TrainingConfig
    corpus: dict[str, Any]
    source: dict[str, Any]
    machine: dict[str, Any]
    step: int
    tokens_seen: int
    seconds: float
    tokens_per_second: float
    parameters: int
    validation: Validation | None
    init_from: dict[str, Any] | None = None


def read_header(path: Path) -> Header:
    raw = storage.read_json(path)
    try:
        storage.check_format(raw["format"], _FORMAT, path)
        progress = raw["progress"]
        validation = raw["validation"]
        init_from = raw.get("init_from")  # checkpoints of before there was fine-tuning lack it
        header = Header(
            model=ModelConfig.from_options(raw["model"]),
            training=TrainingConfig.from_options(raw["training"]),
            corpus=dict(raw["corpus"]),
            source=dict(raw["source"]),
            machine=dict(raw["machine"]),
            step=int(progress["step"]),
            tokens_seen=int(progress["tokens_seen"]),
            seconds=float(progress["seconds"]),
            tokens_per_second=float(progress["tokens_per_second"]),
            parameters=int(raw["parameters"]),
            validation=None if validation is None else read_validation(validation),
            init_from=None if init_from is None else dict(init_from),
        )
        _check_machine(header.machine)
        if header.model != header.model.resolved(header.model.vocabulary_size):
            raise ValueError("the shape of the model is left open")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError("damaged", where=path, why=why) from error
    return header


def _check_machine(machine: dict[str, Any]) -> None:
    """What a resumed run reuses must be what a run wrote."""
    threads, precision = machine.get("threads", 1), machine.get("precision", "float32")
    if type(threads) is not int or threads < 1:
        raise ValueError(f"{threads!r} threads")
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r}")


def header_json(header: Header) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "model": header.model.to_json(),
        "training": header.training.to_json(),
        "corpus": header.corpus,
        "source": header.source,
        "machine": header.machine,
        "init_from": header.init_from,
        "progress": {
            "step": header.step,
            "tokens_seen": header.tokens_seen,
            "seconds": header.seconds,
            "tokens_per_second": header.tokens_per_second,
        },
        "parameters": header.parameters,
        "validation": None
        if header.validation is None
        else validation_json(header.validation)
        | {"step": header.validation.step, "seconds": header.validation.seconds},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "sentencepiece", "safetensors")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {"textgen": __version__, "python": platform.python_version()} | versions


def validation_json(validation: Validation) -> dict[str, Any]:
    """A validation as scripts and ``metrics.jsonl`` see it."""
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
    """Raises KeyError, TypeError or ValueError for what is no validation."""
    named_so = "pseudo_loss" in raw
    return Validation(
        loss=float(raw["pseudo_loss" if named_so else "loss"]),
        tokens=int(raw["tokens"]),
        characters=int(raw["characters"]),
        unknown=int(raw["unknown"]),
        step=int(raw["step"]),
        seconds=float(raw["seconds"]),
        pseudo=named_so or bool(raw.get("pseudo", False)),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
