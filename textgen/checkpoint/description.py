"""What a checkpoint is, for a person to read; imports no torch."""

import json
from pathlib import Path

from textgen import storage
from textgen.checkpoint.header import CONFIG, read_header, read_validation
from textgen.checkpoint.places import METRICS, checked_files, find
from textgen.results import CheckpointInfo, Validation
from textgen.tokenizers import load_tokenizer


def describe(path: Path | str) -> CheckpointInfo:
    """What a checkpoint is, from its JSON and the run's ``metrics.jsonl``; imports no torch."""
    name, folder = find(Path(path))
    files = checked_files(folder)
    header = read_header(files[CONFIG])
    raw = storage.read_json(files[CONFIG])
    curve, training_curve = _read_metrics(folder.parent / METRICS)
    return CheckpointInfo(
        path=str(folder),
        name=name,
        parameters=header.parameters,
        bytes=sum(file.stat().st_size for file in files.values()),
        config={
            "model": header.model.to_json(),
            "tokenizer": load_tokenizer(files).config.to_json(),
            "training": header.training.to_json(),
            "source": header.source,
            "init_from": header.init_from,
            "machine": header.machine,
            "progress": raw["progress"],
        },
        versions=raw["versions"],
        corpus=header.corpus,
        validation=header.validation,
        curve=curve,
        training_curve=training_curve,
    )


def _read_metrics(
    path: Path,
) -> tuple[tuple[Validation, ...], tuple[tuple[int, float], ...]]:
    """The curves in a run's record; a line that is not whole is passed over."""
    validations, losses = [], []
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    raw = json.loads(line)
                    if raw["event"] == "validation":
                        validations.append(read_validation(raw))
                    else:
                        losses.append((int(raw["step"]), float(raw["loss"])))
                except (ValueError, KeyError, TypeError, RecursionError):
                    pass
    return tuple(validations), tuple(losses)
