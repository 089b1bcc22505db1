"""Results for scripts, at full precision: JSON, an object per line, and tables with tabs."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from textgen.config import ScoreLevel
from textgen.presentation.console import emit, shown_in_json
from textgen.presentation.numbers import labelled
from textgen.results import (
    PartScore,
    Plan,
    Prediction,
    Sample,
    ScoreSum,
    SentenceScore,
    TrainingResult,
    Validation,
)

if TYPE_CHECKING:
    from textgen.checkpoint import CheckpointInfo


_OF_TOKEN = ("entropy", "entropy_reduction")


def emit_record(record: dict[str, Any]) -> None:
    """Write one object as one line of stdout. What is not finite has no JSON: it is null."""
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        line = json.dumps(finite(record), ensure_ascii=False, allow_nan=False)
    emit(shown_in_json(line) + "\n")


def finite(value: Any) -> Any:
    """The same record with null for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


Value = str | float | None


def emit_rows(rows: Iterable[Sequence[Value]]) -> None:
    """Write rows of a table to stdout, as ``delimited`` by tabs."""
    emit(delimited(rows, "\t"))


def delimited(rows: Iterable[Sequence[Value]], delimiter: str) -> str:
    """Rows of a table for data frames: values between delimiters, texts as they are.

    Quotes are those of RFC 4180 and of Python's ``csv``, which pandas, polars and R's ``read.csv``
    and ``read.delim`` read by default. Booleans are 1 and 0; None and NaN are empty.
    """
    to_quote = re.compile(f'[{delimiter}\n\r"]')

    def field(value: Value) -> str:
        if isinstance(value, str):  # csv itself leaves a carriage return without quotes
            quoted = '"' + value.replace('"', '""') + '"'
            return quoted if to_quote.search(value) else value
        if value is None or value != value:
            return ""
        return str(int(value) if isinstance(value, bool) else value)

    return "".join(delimiter.join(map(field, row)) + "\n" for row in rows)


def _fields(value: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _known(value: Any, *names: str) -> dict[str, Any]:
    """Those of the fields that are not None."""
    return {name: each for name, each in _fields(value, *names).items() if each is not None}


def training_record(result: TrainingResult) -> dict[str, Any]:
    sizes = ("checkpoint", "steps", "tokens_seen", "seconds", "tokens_per_second", "parameters")
    return {
        **_fields(result, *sizes),
        "validation": result.validation and validation_record(result.validation),
        "baselines": {
            "uniform_loss": result.uniform_loss,
            "ngram_loss": result.ngram and result.ngram.loss,
            "ngram_order": result.ngram and result.ngram.order,
            "mixture_gain": result.ngram and result.ngram.mixture_gain,
        },
        **_known(result, "ended_early", "interrupted"),
    }


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: the options as an object of {value, reason}."""
    options = {each.name: {"value": each.value, "reason": each.reason} for each in plan.options}
    return dataclasses.asdict(plan) | {"options": options}


def validation_record(validation: Validation) -> dict[str, Any]:
    per_character = () if validation.pseudo else ("bits_per_character",)
    record = _fields(validation, "loss", "perplexity", *per_character, "tokens")
    return labelled(record, pseudo=validation.pseudo)


def sample_record(sample: Sample, score_log_prob: float | None) -> dict[str, Any]:
    """A sample. score_log_prob: what ``score`` gives for its text; None where it gives none."""
    record = {**dataclasses.asdict(sample), "perplexity": sample.perplexity}
    record["score_log_prob"] = score_log_prob
    del record["ids"]
    if sample.novelty is None:
        del record["novelty"], record["drawn"]
    else:
        del record["novelty"]["stretches"]
    return record


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    choices = [
        {prediction.of: choice.text if choice.token is None else choice.token}
        | _fields(choice, "probability", "log_prob")
        | ({} if choice.token is None else _fields(choice, "id", "text"))
        for choice in prediction.choices
    ]
    return _fields(prediction, "prompt", "of", "entropy", "rest") | {"choices": choices}


def score_record(score: SentenceScore, level: ScoreLevel = "sentence") -> dict[str, Any]:
    """A sentence, with its parts at this level unless that is ``sentence``."""
    record = {"line": score.line, "text": score.text, **sums(score), **_known(score, "prefix")}
    if level != "sentence":
        parts = score.parts or ()
        record[f"{level}_scores"] = [_part(part, level, pseudo=score.pseudo) for part in parts]
    return record


def _part(part: PartScore, level: ScoreLevel, *, pseudo: bool) -> dict[str, Any]:
    id = ("id",) if level == "token" else ()
    reduction = () if pseudo else ("entropy_reduction",)
    record = {
        level: part.text if part.token is None else part.token,
        **_fields(part, *id, "log_prob", "surprisal", "unknown"),
        **_known(part, "rank", "entropy", *reduction),
    }
    if level == "token":
        record["text"] = part.span
    elif level == "word":
        known = {name: each for name, each in of_first_token(part).items() if each is not None}
        record |= {"tokens": part.tokens, **known}
    return labelled(record, pseudo=pseudo)


def of_first_token(part: PartScore) -> dict[str, float | None]:
    """What is known of the distribution of a word's first token."""
    return {f"first_token_{name}": value for name, value in _fields(part, *_OF_TOKEN).items()}


def sums(score: ScoreSum) -> dict[str, Any]:
    """The figures of a score; those of a pseudo-log-likelihood under other names.

    None of the latter is per character, word or byte: how the text is cut into tokens decides how
    much the others reveal of each.
    """
    record = _fields(score, "log_prob", "tokens", "unknown")
    per_token = _fields(score, "perplexity", "perplexity_without_unknown")
    sizes = _fields(score, "words", "characters", "bytes")
    if score.pseudo:
        loss = -score.log_prob / score.tokens if score.tokens else math.nan
        return labelled(record | {"loss": loss} | per_token | sizes, pseudo=True)
    record |= per_token | _fields(score, "bits_per_character") | sizes
    return record | _fields(score, "perplexity_per_word", "bits_per_byte", "comparable")


def total_record(total: ScoreSum, *, adapted: bool) -> dict[str, Any]:
    """The totals of a text. adapted: whether the model was updated while scoring."""
    return {"total": sums(total)} | ({"adapted": True} if adapted else {})


_TEXTS = ("text", "prefix", "token", "word", "character")
_COUNTS = (
    *("line", "number", "tokens", "unknown", "words", "characters", "bytes", "id", "rank"),
    "region_tokens",
)


def score_types(names: Iterable[str], *, of_parts: bool) -> dict[str, type]:
    """The types of columns of figures, by name. of_parts: they are of tokens, words, characters."""
    types: dict[str, type] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_COUNTS, int)
    types |= {"comparable": bool, "region_unknown": bool} | ({"unknown": bool} if of_parts else {})
    return {name: types.get(name, float) for name in names}


def info_record(info: "CheckpointInfo") -> dict[str, Any]:
    header = info.header.to_json()
    config = ("model", "training", "source", "init_from", "rounding", "machine", "progress")
    return {
        "path": info.path,
        "name": info.name,
        "parameters": info.header.parameters,
        "bytes": info.bytes,
        "config": {name: header[name] for name in config} | {"tokenizer": info.tokenizer.to_json()},
        "versions": header["versions"],
        "corpus": header["corpus"],
        "validation": info.header.validation and validation_record(info.header.validation),
        "curve": [
            {"step": each.step, "seconds": each.seconds, **validation_record(each)}
            for each in info.curve
        ],
        "training_curve": [{"step": step, "loss": loss} for step, loss in info.training_curve],
    }
