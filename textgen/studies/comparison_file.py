"""``comparison.json``: what a comparison was asked for and what it has reached, kept on disk.

It is written anew, whole, after each run, so that a comparison goes on where it was stopped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textgen import storage
from textgen.checkpoint import read_validation, validation_json
from textgen.config import Variant, flag
from textgen.encoding import EncodedCorpus
from textgen.errors import CheckpointError, DataError, UsageError
from textgen.results import ComparedRun, ComparisonRow, Validation
from textgen.tokenizers import Tokenizer

COMPARISON, TOKENS, CORPORA = "comparison.json", "tokens", "corpora"
_FORMAT = 1
_FIGURES = ("loss", "perplexity", "bits_per_character")
_ANEW = "start anew with --overwrite, or choose another --out"


@dataclass
class Kept:
    """What is in the file.

    settings: what all runs share, as JSON; models: each variant's kind and options by its name.
    tokens: which ids they all read. runs: those that have ended.
    """

    settings: dict[str, Any]
    models: dict[str, Any]
    tokens: dict[str, Any] = field(default_factory=dict)
    runs: list[ComparedRun] = field(default_factory=list)

    def find(self, name: str, seed: int) -> ComparedRun | None:
        return next((run for run in self.runs if (run.name, run.seed) == (name, seed)), None)


def tokens_json(encoded: EncodedCorpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """What tells these ids from any others, and how many there are."""
    return {
        "vocabulary_size": tokenizer.vocabulary_size,
        "train_tokens": len(encoded.train),
        "valid_tokens": len(encoded.valid),
        "boundary": encoded.header.boundary,
        "fingerprint": encoded.header.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
    }


def models_json(variants: Sequence[Variant]) -> dict[str, Any]:
    return {each.name: {"model": each.model, "options": plain(each.options)} for each in variants}


def check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder with anything in it but a comparison, or what a killed one left."""
    if out.exists() and not out.is_dir():
        raise UsageError("not a folder", where=out, fix="choose another --out")
    if not out.exists() or (out / COMPARISON).is_file():
        return
    own = {storage.LOCK, *(TOKENS + end for end in ("", ".lock", ".new", ".old"))}
    others = [path for path in out.iterdir() if path.name not in own]
    if any(not path.name.startswith(f"{COMPARISON}.") for path in others):
        raise UsageError(
            "not empty",
            where=out,
            why="it holds something other than a comparison",
            fix="choose another --out",
        )


def check_same(kept: Kept, asked: Kept, out: Path) -> None:
    """Refuse to go on with other settings. Models and seeds may be added, or left out."""
    names = dict.fromkeys([*asked.settings, *kept.settings])
    pairs = [(flag(name), kept.settings.get(name), asked.settings.get(name)) for name in names]
    for name, own in asked.models.items():
        pairs.append((f"the model {name}", kept.models.get(name, own), own))
    for name, before, now in pairs:
        if before != now:
            raise UsageError(
                "not the comparison that is in --out",
                where=out,
                why=f"{_named(name)} was {_said(before)}, and is {_said(now)}",
                fix=f"give it as it was, {_ANEW}",
            )


def _named(name: str) -> str:
    return "the corpus" if name == flag(CORPORA) else name


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(each)}" for name, each in value.items()) or "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "the bundled stories"
    return "not given" if value is None else f"{value:g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_tokens(kept: Kept, tokens: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on with other ids than those the finished runs have read."""
    if kept.tokens != tokens:
        raise DataError("not the tokens that the comparison was begun with", where=where, fix=_ANEW)


def read(out: Path) -> Kept | None:
    """What is kept in the folder; None where no comparison was begun."""
    path = out / COMPARISON
    if not path.is_file():
        return None
    raw = storage.read_json(path)
    try:
        storage.check_format(raw["format"], _FORMAT, path)
        return Kept(
            dict(raw["settings"]),
            dict(raw["models"]),
            dict(raw["tokens"]),
            [_read_run(run, out) for run in raw["runs"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError("damaged", where=path, why=why, fix=_ANEW) from error


def write(out: Path, kept: Kept, rows: Sequence[ComparisonRow] = ()) -> None:
    """Put the file in its place, whole. rows: the table so far, for those who read the file."""
    value = {
        "format": _FORMAT,
        "settings": kept.settings,
        "models": kept.models,
        "tokens": kept.tokens,
        "rows": [row_json(row) for row in rows],
        "runs": [{**run_json(run), "checkpoint": Path(run.folder).name} for run in kept.runs],
    }
    with storage.NewFile(out / COMPARISON) as file:
        file.write(storage.json_text(value).encode())
        file.finish()


def run_json(run: ComparedRun) -> dict[str, Any]:
    """A run as scripts see it. What is of a pseudo loss is called so."""
    mark = "" if run.true else "pseudo_"
    return {
        "model": run.name,
        "seed": run.seed,
        "checkpoint": run.folder,
        "description": run.description,
        "parameters": run.parameters,
        "steps": run.steps,
        "tokens_seen": run.tokens_seen,
        "seconds": run.seconds,
        "tokens_per_second": run.tokens_per_second,
        f"{mark}validation": run.validation and _validation_json(run.validation, mark),
        f"{mark}curve": [_validation_json(each, mark) for each in run.curve],
        "sample": run.sample,
        "failed": run.failed,
    }


def row_json(row: ComparisonRow) -> dict[str, Any]:
    """A row of the table as scripts see it."""
    mark = "" if row.true else "pseudo_"
    figures = {f"{mark}{name}": _finite(getattr(row, name)) for name in _FIGURES}
    return {
        "model": row.name,
        "seeds": [run.seed for run in row.runs],
        "failed": len(row.runs) - len(row.good),
        "parameters": row.parameters,
        "seconds": _finite(row.seconds),
        "tokens_per_second": _finite(row.tokens_per_second),
        **figures,
        f"{mark}loss_deviation": row.loss_deviation,
        "sample": row.sample,
    }


def _validation_json(validation: Validation, mark: str) -> dict[str, Any]:
    raw = validation_json(validation)
    figures = {mark + name if name in _FIGURES else name: value for name, value in raw.items()}
    return {"step": validation.step, "seconds": validation.seconds, **figures}


def _read_run(raw: dict[str, Any], out: Path) -> ComparedRun:
    true = "validation" in raw
    mark = "" if true else "pseudo_"
    best = raw[f"{mark}validation"]
    return ComparedRun(
        name=str(raw["model"]),
        seed=int(raw["seed"]),
        folder=str(out / str(raw["checkpoint"])),
        description=str(raw["description"]),
        parameters=int(raw["parameters"]),
        steps=int(raw["steps"]),
        tokens_seen=int(raw["tokens_seen"]),
        seconds=float(raw["seconds"]),
        tokens_per_second=float(raw["tokens_per_second"]),
        validation=None if best is None else _read_validation(best, mark),
        curve=tuple(_read_validation(each, mark) for each in raw[f"{mark}curve"]),
        true=true,
        sample=raw["sample"],
        failed=raw["failed"],
    )


def _read_validation(raw: dict[str, Any], mark: str) -> Validation:
    return read_validation({name.removeprefix(mark): value for name, value in raw.items()})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }
