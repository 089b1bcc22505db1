"""Several models trained alike, on the same tokens, and what each of them reaches."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from textgen import checkpoint, storage
from textgen.config import (
    Device,
    TokenizerConfig,
    Variant,
    flag,
    option_names,
)
from textgen.corpus.bundled import bundled_corpus
from textgen.encoding import is_encoded, load_encoded, tokenize
from textgen.errors import UsageError
from textgen.results import (
    ComparedRun,
    Comparison,
    ComparisonEvent,
    ComparisonRow,
    ComparisonStart,
    RunEnd,
    RunStart,
)
from textgen.studies import comparison_file
from textgen.studies.comparison_file import TOKENS, Kept
from textgen.studies.comparison_request import Asked, Text, asked_for
from textgen.studies.comparison_runs import Manner, run_one
from textgen.training_run.tokens import check_parts


def compare(
    *corpora: str | Path,
    out: str | Path,
    overwrite: bool = False,
    valid: str | Path | None = None,
    device: Device = "auto",
    threads: int | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    on_event: Callable[[ComparisonEvent], None] = lambda event: None,
    stop: Callable[[], int | None] = lambda: None,
    **options: Any,
) -> Comparison:
    """Train several models for the same time on the same tokens, and tell what each reaches.

    corpora: as ``train`` takes them. options: the fields of ComparisonConfig, TokenizerConfig
    and TrainingConfig, as ``models="lstm,lstm:hidden-size=64", budget="60s", seeds=3``. Each run
    is an ordinary checkpoint folder in ``out``. Called again with the same arguments it goes on
    where it was stopped; models and seeds may be added then.
    on_event, stop: as those of ``train``, with a RunStart and a RunEnd around each run.

    Raises TextgenError; ``textgen.errors`` says which.
    """
    text = Text.at(corpora, valid, encoding, errors)
    asked = asked_for(Path(out), options, text, Manner(device, threads))
    comparison_file.check_free(asked.out, overwrite=overwrite)
    with storage.locked(asked.out):
        kept = comparison_file.read(asked.out)
        if kept is not None and overwrite:
            _begin_anew(asked, kept)
            kept = None
        if kept is not None:
            comparison_file.check_same(kept, asked.kept, asked.out)
        place = _tokens(asked)
        kept = _taken_up(asked, kept, place)
        sizes = _sizes(asked, kept.tokens["vocabulary_size"])
        interrupted = _run_all(asked, kept, place, sizes, on_event, stop)
        return _comparison(asked, kept, interrupted)


def _begin_anew(asked: Asked, kept: Kept) -> None:
    """Remove the runs of an earlier comparison, once its text has been read anew."""
    _tokens(asked, overwrite=True)
    comparison_file.write(asked.out, dataclasses.replace(asked.kept, tokens=kept.tokens))
    for name in kept.models:
        folder = Variant(name, "").folder
        for run in asked.out.glob(f"{folder}-seed[0-9]*"):
            storage.discard(run)
    (asked.out / comparison_file.COMPARISON).unlink()


def _tokens(asked: Asked, *, overwrite: bool = False) -> Path:
    """The folder of the ids that all runs read, made where it is not there yet."""
    text, made = asked.text, asked.out / TOKENS
    if len(text.corpora) == 1 and is_encoded(Path(text.corpora[0])):
        reading = option_names(TokenizerConfig) | {"valid_fraction"}
        for name in sorted(reading & asked.options.keys()):
            raise UsageError(
                f"{flag(name)} needs the corpus as text",
                where=text.corpora[0],
                why="it is tokenized already",
                fix="leave the option out, or give the text",
            )
        return Path(text.corpora[0])
    if not is_encoded(made) or overwrite:
        fraction = {
            name: asked.options[name] for name in ("valid_fraction",) if name in asked.options
        }
        tokenize(
            text.corpora or [bundled_corpus()],
            TokenizerConfig.from_options(asked.options),
            out=made,
            valid=text.valid,
            encoding=text.encoding,
            errors=text.errors,
            overwrite=True,
            **fraction,
        )
    return made


def _taken_up(asked: Asked, kept: Kept | None, place: Path) -> Kept:
    """What is kept, with the models that are asked for now; written, so that runs may begin."""
    encoded, tokenizer = load_encoded(place)
    check_parts(encoded, Path(asked.text.corpora[0]) if asked.text.corpora else place)
    tokens = comparison_file.tokens_json(encoded, tokenizer)
    if kept is None:
        kept = dataclasses.replace(asked.kept, tokens=tokens)
    comparison_file.check_tokens(kept, tokens, asked.out)
    kept.models |= asked.kept.models
    comparison_file.write(asked.out, kept, _rows(asked, kept))
    return kept


def _sizes(asked: Asked, vocabulary_size: int) -> dict[str, dict[str, Any]]:
    """By variant, the width with which it has the parameters asked for."""
    parameters = asked.config.parameters
    if parameters is None:
        return {}
    from textgen.studies.widths import widths_for

    return {
        each.name: {"hidden_size": widths_for(parameters, each, vocabulary_size)}
        for each in asked.config.models
        if not each.counts
    }


def _run_all(
    asked: Asked,
    kept: Kept,
    place: Path,
    sizes: dict[str, dict[str, Any]],
    on_event: Callable[[ComparisonEvent], None],
    stop: Callable[[], int | None],
) -> int | None:
    """Train all that is not trained yet. The number of the signal that ended it, or None."""
    runs = asked.runs
    on_event(_start(asked, kept))
    for number, (variant, seed) in enumerate(runs, start=1):
        if kept.find(variant.name, seed) is not None:
            continue
        interrupted = stop()
        if interrupted is not None:
            return interrupted
        folder = asked.out / f"{variant.folder}-seed{seed}"
        resumed = storage.whole(folder / checkpoint.LAST) is not None
        left = _remaining(asked, kept)
        on_event(RunStart(variant.name, seed, number, len(runs), left, resumed))
        options = asked.options_of(variant, seed) | sizes.get(variant.name, {})
        ended = run_one(variant.name, place, folder, options, asked.manner, on_event, stop)
        if not isinstance(ended, ComparedRun):
            return ended
        kept.runs.append(ended)
        comparison_file.write(asked.out, kept, _rows(asked, kept))
        on_event(RunEnd(ended, number, len(runs)))
    return None


def _start(asked: Asked, kept: Kept) -> ComparisonStart:
    return ComparisonStart(
        models=tuple(each.name for each in asked.config.models),
        runs=len(asked.runs),
        finished=len(asked.runs) - len(list(_pending(asked, kept))),
        seconds=_remaining(asked, kept),
        **_counts(kept),
    )


def _pending(asked: Asked, kept: Kept) -> Iterator[Variant]:
    return (each for each, seed in asked.runs if kept.find(each.name, seed) is None)


def _remaining(asked: Asked, kept: Kept) -> float | None:
    """What the runs still take: their budgets, or as long as those that have ended took each."""
    counting = {each.name for each in asked.config.models if each.counts}
    left = sum(not each.counts for each in _pending(asked, kept))
    if "budget" in asked.options:
        return left * float(asked.options["budget"])
    taken = [run.seconds for run in kept.runs if run.name not in counting]
    return left * math.fsum(taken) / len(taken) if taken else None


def _counts(kept: Kept) -> dict[str, int]:
    return {name: kept.tokens[name] for name in ("vocabulary_size", "train_tokens", "valid_tokens")}


def _comparison(asked: Asked, kept: Kept, interrupted: int | None) -> Comparison:
    return Comparison(
        rows=_rows(asked, kept),
        out=str(asked.out),
        planned=len(asked.runs),
        interrupted=interrupted,
        **_counts(kept),
    )


def _rows(asked: Asked, kept: Kept) -> tuple[ComparisonRow, ...]:
    """The models asked for that have a run, the best first."""
    rows = []
    for variant in asked.config.models:
        found = [kept.find(variant.name, seed) for each, seed in asked.runs if each == variant]
        runs = tuple(run for run in found if run is not None)
        if runs:
            rows.append(ComparisonRow(variant.name, runs))
    return tuple(
        sorted(rows, key=lambda row: (not row.true, not math.isfinite(row.loss), row.loss))
    )
