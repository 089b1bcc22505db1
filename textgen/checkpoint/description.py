"""What a checkpoint is, for a person to read; imports no torch."""

from pathlib import Path

from textgen import storage
from textgen.checkpoint.header import CONFIG, read_header
from textgen.checkpoint.metrics import read_metrics
from textgen.checkpoint.places import METRICS, checked_files, find
from textgen.results import CheckpointInfo
from textgen.tokenizers import load_tokenizer


def describe(path: Path | str) -> CheckpointInfo:
    """What a checkpoint is, from its JSON and the run's ``metrics.jsonl``; imports no torch."""
    name, folder = find(Path(path))
    files = checked_files(folder)
    header = read_header(files[CONFIG])
    raw = storage.read_json(files[CONFIG])
    validations, training = read_metrics(folder.parent / METRICS)
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
        curve=validations,
        training_curve=tuple((point.step, point.loss) for point in training),
    )
