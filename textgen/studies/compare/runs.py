"""Train several models alike on the same tokens, and continue where that was interrupted.

``comparison.json`` in the folder has the settings and the runs that have ended. The file
is replaced after each run.
"""

import bisect
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import textgen
from textgen import checkpoint, storage
from textgen.config import (
    KINDS,
    Device,
    ModelConfig,
    RecurrentConfig,
    TokenizerConfig,
    TrainingConfig,
    check_options,
    flag,
    option_names,
)
from textgen.data.corpus import bundled_corpus
from textgen.data.encoded import is_encoded, load_encoded, tokenize
from textgen.errors import CheckpointError, DataError, DivergedError, UsageError
from textgen.models import count_parameters, model_class
from textgen.presentation.numbers import PSEUDO
from textgen.presentation.records import finite
from textgen.results import TrainingResult
from textgen.studies.compare.config import LENGTHS, SHARED, ComparisonConfig, Variant
from textgen.studies.compare.results import (
    Comparison,
    ComparisonEvent,
    ComparisonStart,
    ModelResult,
    RunResult,
    RunStart,
)
from textgen.training.word_vectors import vector_width

COMPARISON, TOKENS = "comparison.json", "tokens"
_FORMAT = 2
_DEFAULT_BUDGET = 60.0  # seconds of each run
_SAMPLE: Mapping[str, Any] = {"length": 200, "temperature": 0.8, "seed": 1}
_SAMPLE_CHARACTERS = 200
_WIDEST = 2**20
_PROGRESS = ("steps", "tokens_seen", "seconds", "tokens_per_second")
_RESTART = "start again with --overwrite, or choose another --out"

Stop = Callable[[], int | None]


@dataclass(frozen=True)
class Request:
    """A comparison to be made, with every option of every model checked.

    Attributes:
        config: As ``parse_options`` returns it.
        options: As ``parse_options`` returns them.
        corpora: Absolute paths, so that the comparison continues from any folder.
        valid: An absolute path.
    """

    out: Path
    config: ComparisonConfig
    options: Mapping[str, Any]
    corpora: tuple[str, ...] = ()
    valid: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
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
        names = ("corpora", "valid", "encoding", "errors", "device", "threads")
        own = {name: getattr(self, name) for name in names}
        return _as_json({**own, "parameters": self.config.parameters, **self.options})

    @property
    def models(self) -> dict[str, Any]:
        """The models with their options, as JSON."""
        models = self.config.models
        return _as_json({v.name: {"model": v.model, "options": v.options} for v in models})


def parse_options(options: Mapping[str, Any]) -> tuple[ComparisonConfig, dict[str, Any]]:
    """The models to compare, and the options of tokenizer and training that all runs share.

    Raises:
        UsageError: Something cannot be trained, or there are several processes.
    """
    if os.environ.get("RANK") and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            "models are not compared in several processes", fix="start it without torchrun"
        )
    check_options(options, ComparisonConfig, TokenizerConfig, TrainingConfig)
    config = ComparisonConfig.from_options(options)
    own = option_names(ComparisonConfig) - {"budget"}
    shared = {name: v for name, v in options.items() if name not in own and v is not None}
    if not shared.keys() & set(LENGTHS):
        shared["budget"] = _DEFAULT_BUDGET
    for parsed in (TokenizerConfig.from_options(shared), TrainingConfig.from_options(shared)):
        names = option_names(type(parsed)) & shared.keys()
        shared |= {name: getattr(parsed, name) for name in names}
    for each in config.models:
        model = ModelConfig.from_options({**each.options, "model": each.model})
        if not isinstance(model, RecurrentConfig) or model.embeddings is None:
            continue
        width = vector_width(model.embeddings)
        if model.embedding_size not in (None, width):
            raise UsageError(
                f"the --embedding-size of {each.name} contradicts --embeddings",
                where=model.embeddings,
                why=f"its vectors have {width} numbers",
                fix="leave --embedding-size out",
            )
    return config, shared


@dataclass
class _Record:
    """The content of ``comparison.json``.

    Attributes:
        settings: As in the first request.
        models: The models of all requests.
        tokens: As ``_describe_tokens`` returns it.
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
        raw = storage.read_json(path)
        try:
            storage.check_format(raw["format"], _FORMAT, path)
            runs = (_read_run(each, out) for each in raw["runs"])
            return cls(
                dict(raw["settings"]),
                dict(raw["models"]),
                dict(raw["tokens"]),
                {(run.model, run.seed): run for run in runs},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError("damaged", where=path, why=why, fix=_RESTART) from error

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
    on_event: Callable[[ComparisonEvent], None] = lambda event: None,
    stop: Stop = lambda: None,
    **options: Any,
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
    config, shared = parse_options(options)
    texts, held_out = tuple(map(_absolute, corpora)), None if valid is None else _absolute(valid)
    request = Request(Path(out), config, shared, texts, held_out, encoding, errors, device, threads)
    _check_free(request.out)
    with storage.locked(request.out):
        record = _Record.read(request.out)
        if record is not None and overwrite:
            _remove(request, record)
            record = None
        elif record is not None:
            record.check_same(request)
        folder = _tokenized(request)
        tokens = _describe_tokens(folder, where=texts[0] if texts else folder)
        record = record or _Record(request.settings, {}, tokens)
        if record.tokens != tokens:
            other = "not the tokens that the comparison was started with"
            raise DataError(other, where=request.out, fix=_RESTART)
        record.models |= request.models
        record.write(request)
        interrupted = _train_all(request, record, folder, on_event, stop)
    sizes = {name: tokens[name] for name in ("vocabulary_size", "train_tokens", "valid_tokens")}
    rows = record.rows(request)
    return Comparison(rows, str(out), len(request.runs), interrupted=interrupted, **sizes)


def _absolute(path: str | Path) -> str:
    """An absolute path; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())


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


def _tokenized(request: Request, *, overwrite: bool = False) -> Path:
    """The folder of the ids that all runs read, written if it does not exist yet."""
    corpora, options, folder = request.corpora, request.options, request.out / TOKENS
    if len(corpora) == 1 and is_encoded(Path(corpora[0])):
        for name in sorted((option_names(TokenizerConfig) | {"valid_fraction"}) & options.keys()):
            raise UsageError(
                f"{flag(name)} needs the corpus as text",
                where=corpora[0],
                why="it is already tokenized",
                fix="leave the option out, or give the text",
            )
        return Path(corpora[0])
    if overwrite or not is_encoded(folder):
        tokenize(
            corpora or [bundled_corpus()],
            TokenizerConfig.from_options(options),
            out=folder,
            valid=request.valid,
            valid_fraction=TrainingConfig.from_options(options).valid_fraction,
            encoding=request.encoding,
            errors=request.errors,
            overwrite=True,
        )
    return folder


def _describe_tokens(folder: Path, where: str | Path) -> dict[str, Any]:
    """The sizes and the fingerprints of the ids. Raises DataError if a part is empty."""
    encoded, tokenizer = load_encoded(folder)
    for part, ids in (("training", encoded.train), ("validation", encoded.valid)):
        if not len(ids):
            raise DataError(
                f"the {part} part is empty",
                where=where,
                why="needed at least one token in each part",
                fix="give more text",
            )
    return {
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
    runs, variants = request.runs, request.config.models
    counting = {variant.name for variant in variants if variant.counts}

    def remaining() -> float | None:
        """Seconds by the budget, or by the mean time of the runs that have ended."""
        pending = [each.name for each, seed in runs if (each.name, seed) not in record.runs]
        left = sum(name not in counting for name in pending)
        if "budget" in request.options:
            return left * float(request.options["budget"])
        taken = [run.seconds for run in record.runs.values() if run.model not in counting]
        return left * fmean(taken) if taken else None

    parameters, vocabulary_size = request.config.parameters, record.tokens["vocabulary_size"]
    widths = {
        each.name: {"hidden_size": _widths_for(parameters, each, vocabulary_size)}
        for each in variants
        if parameters is not None and not each.counts
    }
    finished = sum((variant.name, seed) in record.runs for variant, seed in runs)
    train_tokens = record.tokens["train_tokens"]
    on_event(ComparisonStart(len(variants), len(runs), finished, remaining(), train_tokens))
    for number, (variant, seed) in enumerate(runs, start=1):
        if (variant.name, seed) in record.runs:
            continue
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
    config = header.model
    progress = {**header.to_json()["progress"], "steps": header.step}
    failed = str(result) if isinstance(result, DivergedError) else None
    is_causal, sample = model_class(config).is_causal, None
    if is_causal and failed is None:
        model = textgen.LanguageModel.load(folder, device=request.device, threads=request.threads)
        (generated,) = model.sample(**_SAMPLE)
        sample = " ".join(generated.text.split())[:_SAMPLE_CHARACTERS]
    return RunResult(
        model=name,
        seed=seed,
        checkpoint=str(folder),
        description=config.description,
        parameters=header.parameters,
        validation=header.validation,
        curve=info.curve,
        sample=sample,
        failed=failed,
        is_causal=is_causal,
        **{each: progress[each] if failed else getattr(result, each) for each in _PROGRESS},
    )


def _read_run(raw: dict[str, Any], out: Path) -> RunResult:
    """A run of ``comparison.json``, in which ``checkpoint`` is relative to the folder.

    Raises KeyError, TypeError or ValueError for anything that ``RunResult.to_json`` cannot write.
    """
    is_causal = "validation" in raw
    raw = {name.removeprefix(PSEUDO): value for name, value in raw.items()}
    raw["checkpoint"] = out / raw["checkpoint"]
    raw["validation"] = raw["validation"] and checkpoint.read_validation(raw["validation"])
    raw["curve"] = tuple(map(checkpoint.read_validation, raw["curve"]))
    types: dict[Any, Callable[[Any], Any]] = {str: str, int: int, float: float}
    values = {
        spec.name: types.get(spec.type, lambda value: value)(raw[spec.name])
        for spec in dataclasses.fields(RunResult)
        if spec.name != "is_causal"
    }
    return RunResult(**values, is_causal=is_causal)


def _widths_for(parameters: int, variant: Variant, vocabulary_size: int) -> tuple[int, ...]:
    """The hidden sizes whose number of parameters is nearest to ``parameters``.

    Several layers keep the proportions of the kind's defaults.

    Raises:
        UsageError: Even the narrowest model has more, or the widest has fewer.
    """
    usual = KINDS[variant.model].defaults.get("hidden_size", (1,))

    def sizes(width: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * size / usual[0])) for size in usual)

    def count(width: int) -> int:
        options = {**variant.options, "model": variant.model, "hidden_size": sizes(width)}
        return count_parameters(ModelConfig.from_options(options).resolved(vocabulary_size))

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
    if value is None or value == {}:
        return "not given"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_described(each)}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "the bundled stories"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else str(value)


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """The value as JSON returns it, with lists for tuples."""
    copy: dict[str, Any] = json.loads(json.dumps(value))
    return copy
