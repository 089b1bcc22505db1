"""Train several models alike on the same tokens, and continue where that was interrupted.

``comparison.json`` in the folder has the settings and the runs that have ended. The file
is replaced after each run.
"""

import bisect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any, Self, Unpack

import textgen
from textgen import checkpoint, storage
from textgen.config import (
    KINDS,
    VALID_OPTIONS,
    Device,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
    check_arguments,
    check_options,
    flag,
    option_names,
)
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import is_encoded, load_encoded, tokenize
from textgen.errors import DataError, DivergedError, UsageError
from textgen.models import count_parameters, model_class, on_meta
from textgen.presentation.records import finite
from textgen.results import NgramBaseline, TrainingResult
from textgen.studies.compare.config import (
    LENGTHS,
    SHARED,
    CompareOptions,
    ComparisonConfig,
    Variant,
)
from textgen.studies.compare.results import (
    Comparison,
    ComparisonEvent,
    ComparisonStart,
    ModelResult,
    RunResult,
    RunStart,
)
from textgen.training.corpus import check_parts, needs_text
from textgen.training.run import TrainingRun
from textgen.training.train import corpus_source
from textgen.training.trainer import ngram_baseline

COMPARISON, TOKENS = "comparison.json", "tokens"
_FORMAT = 2
_DEFAULT_BUDGET = 60.0  # seconds of each run
_SAMPLE_CHARACTERS = 200  # and tokens
_WIDEST = 2**20
_SOURCE = ("corpora", "valid", "encoding", "errors")
_RESTART = "start again with --overwrite, or choose another --out"

Stop = Callable[[], int | None]


@dataclass(frozen=True)
class Request:
    """A comparison to be made. config and options: as ``parse_options`` returns them."""

    out: Path
    source: CorpusSource
    config: ComparisonConfig
    options: Mapping[str, Any]
    device: Device = "auto"
    threads: int | None = None

    @property
    def runs(self) -> list[tuple[Variant, int]]:
        """Every model with every seed; a model that counts does not depend on it and has one run.

        Each model has its first run before any has its second, so that all can be compared early.
        """
        first = TrainingConfig.from_options(self.options).seed
        return [
            (variant, seed)
            for seed in range(first, first + self.config.seeds)
            for variant in self.config.models
            if seed == first or not variant.counts
        ]

    def options_of(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The options of ``train`` for a run; a model that counts has none of training."""
        shared = option_names(TrainingConfig) & self.options.keys() - (SHARED - {*LENGTHS})
        training = {} if variant.counts else {name: self.options[name] for name in shared}
        return {**training, **variant.options, "model": variant.model, "seed": seed}

    @property
    def settings(self) -> dict[str, Any]:
        """What all runs share, as JSON."""
        source = {name: getattr(self.source, name) for name in _SOURCE}
        machine = {"device": self.device, "threads": self.threads}
        return _as_json({**source, **machine, "parameters": self.config.parameters, **self.options})

    @property
    def models(self) -> dict[str, Any]:
        """The models with their options, as JSON."""
        models = self.config.models
        return _as_json({v.name: {"model": v.model, "options": v.options} for v in models})


def parse_options(options: Mapping[str, Any]) -> tuple[ComparisonConfig, dict[str, Any]]:
    """The models to compare, and the options of tokenizer and training that all runs share."""
    check_options(options, ComparisonConfig, TokenizerConfig, TrainingConfig)
    own = option_names(ComparisonConfig) - {"budget"}
    shared = {name: v for name, v in options.items() if name not in own and v is not None}
    if not shared.keys() & set(LENGTHS):
        shared["budget"] = _DEFAULT_BUDGET
    for parsed in (TokenizerConfig.from_options(shared), TrainingConfig.from_options(shared)):
        names = option_names(type(parsed)) & shared.keys()
        shared |= {name: getattr(parsed, name) for name in names}
    return ComparisonConfig.from_options(options), shared


@dataclass
class _Record:
    """The content of ``comparison.json``.

    Attributes:
        models: Of all requests.
        tokens: The sizes and the fingerprints of the ids.
        runs: Those that have ended, by model and seed.
    """

    settings: dict[str, Any]
    models: dict[str, Any]
    tokens: dict[str, Any]
    runs: dict[tuple[str, int], RunResult] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path) -> Self | None:
        """The record of a folder, if it has one. Raises CheckpointError if it is damaged."""
        path = out / COMPARISON
        if not path.is_file():
            return None
        raw = storage.read_object(path, _FORMAT)
        with storage.reading(path, _RESTART):
            runs = [_read_run(each, out) for each in raw["runs"]]
            names = ("settings", "models", "tokens")
            own = {name: storage.from_json(dict[str, Any], raw[name], name) for name in names}
            return cls(**own, runs={(run.model, run.seed): run for run in runs})

    def rows(self, request: Request) -> tuple[ModelResult, ...]:
        """The models of the request that have a run, the best first."""
        ended: dict[str, list[RunResult]] = {}
        for variant, seed in request.runs:
            if (variant.name, seed) in self.runs:
                ended.setdefault(variant.name, []).append(self.runs[variant.name, seed])
        rows = map(ModelResult.of, ended.values())
        return tuple(sorted(rows, key=lambda row: (not row.is_causal, isnan(row.loss), row.loss)))

    def write(self, request: Request) -> None:
        """Replace the file. The rows are for its readers, and are never read back."""
        value = {
            "format": _FORMAT,
            "settings": self.settings,
            "models": self.models,
            "tokens": self.tokens,
            "rows": [row.to_json() for row in self.rows(request)],
            "runs": [
                {**run.to_json(), "checkpoint": Path(run.checkpoint).name}
                for run in self.runs.values()
            ],
        }
        with storage.NewFile(request.out / COMPARISON) as file:
            file.write(storage.json_text(finite(value)).encode())
            file.finish()

    def check_same(self, request: Request) -> None:
        """Refuse to continue with other settings; models and seeds may be added or left out."""
        old, new = self.settings, request.settings
        pairs = {flag(name): (old.get(name), new.get(name)) for name in {**new, **old}}
        pairs["the corpus"] = pairs.pop("--corpora")
        for name, model in request.models.items():
            pairs[f"the model {name}"] = self.models.get(name, model), model
        for name, (before, now) in pairs.items():
            if before != now:
                raise UsageError(
                    "not the comparison that is in --out",
                    where=request.out,
                    why=f"{name} was {_described(before)}, and is {_described(now)}",
                    fix=f"give it as it was, {_RESTART}",
                )


def compare(
    *corpora: str | Path,
    out: str | Path,
    overwrite: bool = False,
    valid: str | Path | None = None,
    device: Device = "auto",
    threads: int | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    skip_binary: bool = False,
    on_event: Callable[[ComparisonEvent], None] | None = None,
    stop: Stop | None = None,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Train several models for the same time on the same tokens, and compare their losses.

    Called again with the same arguments it continues where it was stopped; models and seeds may
    be added then.

    Args:
        corpora: As in ``train``.
        out: The folder of the comparison; each run is an ordinary checkpoint folder in it.
        on_event: As in ``train``; a RunStart and a RunResult enclose each run.
        stop: As in ``train``.
        options: Fields of ComparisonConfig, TokenizerConfig and TrainingConfig, such as
            ``models="lstm,lstm:hidden-size=64", budget="60s", seeds=3``.

    Raises:
        TextgenError: ``textgen.errors`` has its kinds.
    """
    check_arguments(compare, locals())
    if os.environ.get("RANK") and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            "models are not compared in several processes", fix="start it without torchrun"
        )
    source = corpus_source(corpora, valid, encoding, errors, skip_binary=skip_binary)
    request = Request(Path(out), source, *parse_options(options), device, threads)
    for variant in request.config.models:  # every option is checked before anything is created
        TrainingRun.new(request.out, source, request.options_of(variant, seed=1))
    _check_free(request.out)
    with storage.locked(request.out):
        record = _Record.read(request.out)
        if record is not None and overwrite:
            _remove(request, record)
            record = None
        elif record is not None:
            record.check_same(request)
        folder, tokens = _tokenized(request)
        record = record or _Record(request.settings, {}, tokens)
        if record.tokens != tokens:
            other = "not the tokens that the comparison was started with"
            raise DataError(other, where=request.out, fix=_RESTART)
        record.models |= request.models
        record.write(request)
        announce, stopped = on_event or (lambda event: None), stop or (lambda: None)
        interrupted = _train_all(request, record, folder, announce, stopped)
    sizes = {name: tokens[name] for name in ("vocabulary_size", "train_tokens", "valid_tokens")}
    rows = record.rows(request)
    ngram = None if interrupted is not None else _ngram_baseline(folder, rows)
    return Comparison(
        rows, str(out), len(request.runs), interrupted=interrupted, ngram=ngram, **sizes
    )


def _ngram_baseline(folder: Path, rows: Sequence[ModelResult]) -> NgramBaseline:
    """The loss of n-grams, and of their mixture with the best LSTM."""
    encoded, tokenizer = load_encoded(folder)
    runs = [run for row in rows for run in row.runs if run.failed is None]
    lstms = [run for run in runs if run.description.startswith("lstm ")]
    best = min(lstms, key=lambda run: run.loss, default=None)
    return ngram_baseline(
        encoded.train,
        encoded.valid,
        tokenizer.level,
        tokenizer.vocabulary_size,
        None if best is None else checkpoint.load(Path(best.checkpoint)).model.eval(),
    )


def _check_free(out: Path) -> None:
    """Refuse a folder that has anything but a comparison, or the remains of one, in it."""
    if out.exists() and not out.is_dir():
        raise UsageError("not a folder", where=out, fix="choose another --out")
    if not out.exists() or (out / COMPARISON).is_file():
        return
    own = {storage.LOCK, *(TOKENS + end for end in ("", ".lock", ".new", ".old"))}
    names = {path.name for path in out.iterdir()} - own
    if not all(name.startswith(f"{COMPARISON}.") for name in names):
        raise UsageError(
            "not empty",
            where=out,
            why="it contains something other than a comparison",
            fix="choose another --out",
        )


def _remove(request: Request, record: _Record) -> None:
    """Remove the runs of an earlier comparison, after the text has been read again."""
    _tokenized(request, overwrite=True)
    # If it is killed from here on, the tokens of the remaining runs are not those in the folder,
    # and they are refused.
    _Record(request.settings, record.models, record.tokens).write(request)
    for name in record.models:
        for folder in request.out.glob(f"{Variant(name, '').folder}-seed[0-9]*"):
            storage.discard(folder)
    (request.out / COMPARISON).unlink()


def _tokenized(request: Request, *, overwrite: bool = False) -> tuple[Path, dict[str, Any]]:
    """The folder of the ids that all runs read, written if it does not exist yet; their sizes.

    Raises DataError if a part is empty.
    """
    source, options, folder = request.source, request.options, request.out / TOKENS
    if len(source.corpora) == 1 and is_encoded(source.paths[0]):
        for name in sorted((option_names(TokenizerConfig) | VALID_OPTIONS) & options.keys()):
            raise needs_text(name, source.paths[0])
        folder = source.paths[0]
    elif overwrite or not is_encoded(folder):
        training = TrainingConfig.from_options(options)
        tokenize(
            source.paths,
            TokenizerConfig.from_options(options),
            out=folder,
            valid=source.valid,
            valid_fraction=training.valid_fraction,
            valid_split=training.valid_split,
            encoding=source.encoding,
            errors=source.errors,
            skip_binary=source.skip_binary,
            overwrite=True,
        )
    encoded, tokenizer = load_encoded(folder)
    check_parts(encoded, source.paths[0])
    return folder, {
        "vocabulary_size": tokenizer.vocabulary_size,
        "train_tokens": len(encoded.train),
        "valid_tokens": len(encoded.valid),
        "boundary": encoded.header.train.characters,
        "fingerprint": encoded.header.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
    }


def _train_all(
    request: Request,
    record: _Record,
    tokens: Path,
    on_event: Callable[[ComparisonEvent], None],
    stop: Stop,
) -> int | None:
    """Run all that have not ended. Returns the number of the signal that stopped it, or None."""
    runs, vocabulary_size = request.runs, record.tokens["vocabulary_size"]

    def remaining() -> float | None:
        """Seconds by the budget, or by the mean time of the runs that have ended."""
        trained = [record.runs.get((each.name, seed)) for each, seed in runs if not each.counts]
        taken = [run.seconds for run in trained if run is not None]
        left = len(trained) - len(taken)
        if "budget" in request.options:
            return left * float(request.options["budget"])
        return left * fmean(taken) if taken else None

    models, parameters = request.config.models, request.config.parameters
    widths = {
        each.name: {"hidden_size": _widths_for(parameters, each, vocabulary_size)}
        for each in models
        if parameters is not None and not each.counts
    }
    pending = [
        (number, variant, seed)
        for number, (variant, seed) in enumerate(runs, start=1)
        if (variant.name, seed) not in record.runs
    ]
    finished, train_tokens = len(runs) - len(pending), record.tokens["train_tokens"]
    on_event(ComparisonStart(len(models), len(runs), finished, remaining(), train_tokens))
    for number, variant, seed in pending:
        signum = stop()
        if signum is not None:
            return signum
        folder = request.out / f"{variant.folder}-seed{seed}"
        resume = storage.find_complete(folder / checkpoint.LAST) is not None
        on_event(RunStart(variant.name, seed, number, len(runs), remaining(), resume))
        options = request.options_of(variant, seed) | widths.get(variant.name, {})
        try:
            result: TrainingResult | DivergedError = textgen.train(
                tokens,
                out=folder,
                resume=resume,
                device=request.device,
                threads=request.threads,
                baseline=False,
                on_event=on_event,
                stop=stop,
                **({} if resume else options),  # the checkpoint has them
            )
        except DivergedError as error:
            result = error  # the other models are trained all the same
        if isinstance(result, TrainingResult) and result.interrupted is not None:
            return result.interrupted
        ended = _run_result(request, variant.name, seed, folder, result)
        record.runs[variant.name, seed] = ended
        record.write(request)
        on_event(ended)
    return None


def _run_result(
    request: Request, name: str, seed: int, folder: Path, result: TrainingResult | DivergedError
) -> RunResult:
    """The result of a run; if it failed, the figures are those of its best checkpoint."""
    info = checkpoint.describe(folder)
    header = info.header
    failed = str(result) if isinstance(result, DivergedError) else None
    end = header if isinstance(result, DivergedError) else result
    is_causal, sample = model_class(header.model).is_causal, None
    if is_causal and failed is None:
        model = textgen.LanguageModel.load(folder, device=request.device, threads=request.threads)
        (generated,) = model.sample(length=_SAMPLE_CHARACTERS, temperature=0.8, seed=1)
        sample = " ".join(generated.text.split())[:_SAMPLE_CHARACTERS]
    return RunResult(
        model=name,
        seed=seed,
        checkpoint=str(folder),
        description=header.model.description,
        parameters=header.parameters,
        steps=header.step if isinstance(result, DivergedError) else result.steps,
        tokens_seen=end.tokens_seen,
        seconds=end.seconds,
        tokens_per_second=end.tokens_per_second,
        validation=header.validation,
        curve=info.curve,
        sample=sample,
        failed=failed,
        is_causal=is_causal,
    )


def _read_run(raw: dict[str, Any], out: Path) -> RunResult:
    """A run of ``comparison.json``, in which ``checkpoint`` is relative to the folder.

    Raises KeyError, TypeError or ValueError for anything that ``RunResult.to_json`` cannot write.
    """
    run = checkpoint.without_pseudo_names(raw) | {"is_causal": "validation" in raw}
    run["checkpoint"] = str(out / raw["checkpoint"])
    return storage.from_json(RunResult, run)


def _widths_for(parameters: int, variant: Variant, vocabulary_size: int) -> tuple[int, ...]:
    """The hidden sizes whose number of parameters is nearest to ``parameters``.

    N-grams and n-gram embeddings are not counted: their number does not depend on the width.
    Several layers keep the proportions of the kind's defaults. Raises UsageError if even the
    narrowest model has more, or the widest has fewer.
    """
    usual = KINDS[variant.model].defaults.get("hidden_size", (1,))

    def sizes(width: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * size / usual[0])) for size in usual)

    def count(width: int) -> int:
        options = {**variant.options, "model": variant.model, "hidden_size": sizes(width)}
        config = ModelConfig.from_options(options).resolved(vocabulary_size)
        tables = on_meta(config).lookup_tables(sampled=False)
        return count_parameters(config) - sum(table.numel() for table in tables)

    narrower = bisect.bisect_right(range(1, _WIDEST + 1), parameters, key=count)
    if narrower == 0 or narrower == _WIDEST:
        extreme, fix = ("most", "fewer") if narrower else ("least", "more")
        raise UsageError(
            f"--parameters {parameters} cannot be met by {variant.name}",
            why=f"with a vocabulary of {vocabulary_size:,} it has at {extreme}"
            f" {count(narrower or 1):,}",
            fix=f"give {fix}",
        )
    return sizes(min((narrower, narrower + 1), key=lambda width: abs(count(width) - parameters)))


def _described(value: Any) -> str:
    """A setting for an error message."""
    if value is None:
        return "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "the bundled stories"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):  # a model with its options
        return ", ".join(f"{name} {_described(each)}" for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """The value as JSON returns it, with lists for tuples."""
    copy: dict[str, Any] = json.loads(json.dumps(value))
    return copy
