"""Read what a run recorded: ``metrics.jsonl`` and the summary for ``info``; imports no torch."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textgen.checkpoint.folder import METRICS, checked_files, find
from textgen.checkpoint.header import CONFIG, read_header, read_validation
from textgen.errors import DataError
from textgen.results import CheckpointInfo, LossCurves, LossPoint, Validation
from textgen.tokenizers.registry import load_tokenizer


def loss_curves(path: Path) -> LossCurves:
    """How the loss of a run fell. Raises DataError where its record is missing or empty."""
    folder = find(path)[1]
    record = folder.parent / METRICS
    validations, training = read_metrics(record)
    if not validations and not training:
        raise DataError(
            "no curve of its training",
            where=record,
            why="the record lies beside best and last, and is not copied with one of them",
            fix="name the folder that train wrote",
        )
    held_out = tuple(_when(training or (_end(folder),), each) for each in validations)
    pseudo = any(each.pseudo for each in validations)
    return LossCurves(str(path), training, held_out, pseudo)


def _end(folder: Path) -> LossPoint:
    """How far a run is, for one so short that no line of its training was written."""
    header = read_header(folder / CONFIG)
    tokens = float(header.tokens_seen)
    epochs = tokens / (header.corpus.train.tokens or math.nan)
    return LossPoint(header.step, tokens, epochs, header.seconds, math.nan)


def read_metrics(path: Path) -> tuple[tuple[Validation, ...], tuple[LossPoint, ...]]:
    """The validations and losses in a run's record; a line that is not whole is passed over."""
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
        # The line at or after the step; a step has always as many tokens, but for a run's last.
        nearest = next((point for point in training if point.step >= step), training[-1])
        if nearest.step:
            share = step / nearest.step
            tokens, epochs = share * nearest.tokens, share * nearest.epochs
    return LossPoint(step, tokens, epochs, validation.seconds, validation.loss)


def describe(path: Path | str) -> CheckpointInfo:
    """What a checkpoint is, from its JSON and the run's ``metrics.jsonl``; imports no torch."""
    name, folder = find(Path(path))
    files = checked_files(folder)
    header = read_header(files[CONFIG])
    record = header.to_json()
    validations, training = read_metrics(folder.parent / METRICS)
    return CheckpointInfo(
        path=str(folder),
        name=name,
        parameters=header.parameters,
        bytes=sum(file.stat().st_size for file in files.values()),
        config={
            "model": record["model"],
            "tokenizer": load_tokenizer(files).config.to_json(),
            "training": record["training"],
            "source": record["source"],
            "init_from": record["init_from"],
            "machine": record["machine"],
            "progress": record["progress"],
        },
        versions=record["versions"],
        corpus=record["corpus"],
        validation=header.validation,
        curve=validations,
        training_curve=tuple((point.step, point.loss) for point in training),
    )
