"""Results as JSON objects, one a line: the keys that scripts rely on, at full precision."""

import dataclasses
import json
import math
from typing import Any

from textgen.config import ScoreLevel
from textgen.presentation.console import emit
from textgen.results import (
    CheckpointInfo,
    PartScore,
    Prediction,
    Sample,
    ScoreSum,
    SentenceScore,
    TokenizerSummary,
    TrainingResult,
    Validation,
)


def emit_record(record: dict[str, Any]) -> None:
    """Write one object as one line of stdout. What is not finite has no JSON: it is null."""
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False)
    emit(line + "\n")


def training_record(result: TrainingResult) -> dict[str, Any]:
    record = {
        "checkpoint": result.checkpoint,
        "steps": result.steps,
        "tokens_seen": result.tokens_seen,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "parameters": result.parameters,
        "validation": result.validation and validation_record(result.validation),
        "baselines": {
            "uniform_loss": result.uniform_loss,
            "ngram_loss": result.ngram and result.ngram.loss,
            "ngram_order": result.ngram and result.ngram.order,
        },
    }
    if result.ended_early is not None:
        record["ended_early"] = result.ended_early
    if result.interrupted is not None:
        record["interrupted"] = result.interrupted
    return record


def validation_record(validation: Validation) -> dict[str, Any]:
    if validation.pseudo:
        return {
            "pseudo_loss": validation.loss,
            "pseudo_perplexity": validation.perplexity,
            "tokens": validation.tokens,
        }
    return {
        "loss": validation.loss,
        "perplexity": validation.perplexity,
        "bits_per_character": validation.bits_per_character,
        "tokens": validation.tokens,
    }


def sample_record(sample: Sample) -> dict[str, Any]:
    record = {**dataclasses.asdict(sample), "perplexity": sample.perplexity}
    drawn = record.pop("drawn")
    if sample.novelty is None:
        del record["novelty"]
    else:
        del record["novelty"]["stretches"]
        record["drawn"] = drawn
    return record


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    choices = []
    for choice in prediction.choices:
        record = {
            prediction.of: choice.text,
            "probability": choice.probability,
            "log_prob": choice.log_prob,
        }
        choices.append(record if choice.id is None else record | {"id": choice.id})
    return {
        "prompt": prediction.prompt,
        "of": prediction.of,
        "entropy": prediction.entropy,
        "rest": prediction.rest,
        "choices": choices,
    }


def score_record(score: SentenceScore, level: ScoreLevel = "sentence") -> dict[str, Any]:
    """A sentence, with its parts of this level, where it is not ``sentence``."""
    record: dict[str, Any] = {"line": score.line, "text": score.text, **_sums(score)}
    if score.prefix is not None:
        record["prefix"] = score.prefix
    if level != "sentence":
        parts = score.parts or ()
        record[f"{level}_scores"] = [
            _pseudo_part_record(part) if score.pseudo else _part_record(part, level)
            for part in parts
        ]
    return record


def total_record(total: ScoreSum) -> dict[str, Any]:
    return {"total": _sums(total)}


def tokenizer_record(summary: TokenizerSummary) -> dict[str, Any]:
    relied_on = {
        "level": summary.level,
        "vocabulary_size": summary.vocabulary_size,
        "tokens": summary.tokens,
        "characters": summary.characters,
        "unknown_rate": summary.unknown_rate,
        "fingerprint": summary.fingerprint,
    }
    return relied_on | dataclasses.asdict(summary)


def info_record(info: CheckpointInfo) -> dict[str, Any]:
    record = dataclasses.asdict(info)
    record["validation"] = info.validation and validation_record(info.validation)
    record["curve"] = [
        {"step": point.step, "seconds": point.seconds, **validation_record(point)}
        for point in info.curve
    ]
    record["training_curve"] = [{"step": step, "loss": loss} for step, loss in info.training_curve]
    return record


def _sums(score: ScoreSum) -> dict[str, Any]:
    if score.pseudo:
        return pseudo_sums(score)
    return {
        "log_prob": score.log_prob,
        "tokens": score.tokens,
        "unknown": score.unknown,
        "perplexity": score.perplexity,
        "perplexity_without_unknown": score.perplexity_without_unknown,
        "bits_per_character": score.bits_per_character,
        "words": score.words,
        "characters": score.characters,
        "bytes": score.bytes,
        "perplexity_per_word": score.perplexity_per_word,
        "bits_per_byte": score.bits_per_byte,
        "comparable": score.comparable,
    }


def pseudo_sums(score: ScoreSum) -> dict[str, Any]:
    """The figures of a score that is no probability, by names of their own.

    None of them is a character's, a word's or a byte's: how the text is cut into tokens decides
    how much the others tell of each.
    """
    return {
        "pseudo_log_prob": score.log_prob,
        "tokens": score.tokens,
        "unknown": score.unknown,
        "pseudo_loss": -score.log_prob / score.tokens if score.tokens else math.nan,
        "pseudo_perplexity": score.perplexity,
        "pseudo_perplexity_without_unknown": score.perplexity_without_unknown,
        "words": score.words,
        "characters": score.characters,
        "bytes": score.bytes,
    }


def _pseudo_part_record(part: PartScore) -> dict[str, Any]:
    record = {
        "token": part.text,
        "id": part.id,
        "pseudo_log_prob": part.log_prob,
        "pseudo_surprisal": part.surprisal,
        "unknown": part.unknown,
    }
    where_known = {"rank": part.rank, "pseudo_entropy": part.entropy}
    return record | {key: value for key, value in where_known.items() if value is not None}


def _part_record(part: PartScore, level: ScoreLevel) -> dict[str, Any]:
    record: dict[str, Any] = {level: part.text}
    if level == "token":
        record["id"] = part.id
    record |= {"log_prob": part.log_prob, "surprisal": part.surprisal, "unknown": part.unknown}
    where_known = {
        "rank": part.rank,
        "entropy": part.entropy,
        "entropy_reduction": part.entropy_reduction,
    }
    return record | {key: value for key, value in where_known.items() if value is not None}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
