"""Several models trained alike on the same tokens: what was requested, each run, what it reached.

``comparison.json`` in the folder holds the request and the runs that have ended. It is replaced
as a whole after each run, so that an interrupted comparison continues where it stopped.
"""

import bisect
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
_BUDGET = 60.0  # seconds of each run, where no length is given
_SAMPLE: Mapping[str, Any] = {"length": 200, "temperature": 0.8, "seed": 1}
_SAMPLE_CHARACTERS = 200
_WIDEST = 2**20
_FIGURES = ("steps", "tokens_seen", "seconds", "tokens_per_second")
_RESTART = "start anew with --overwrite, or choose another --out"

Stop = Callable[[], int | None]


@dataclass(frozen=True)
class Request:
    """What a comparison is to be, every option of every model checked.

    Attributes:
        config, options: As ``parse_options`` returns them.
        corpora, valid: Absolute paths, so that the comparison continues from any folder.
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
        """Every model with every seed; a model that counts, which no seed changes, has one run.

        Each model has its first run before any has its second, so that what there is compares.
        """
        first = TrainingConfig.from_options(self.options).seed
        return [
            (variant, seed)
            for seed in range(first, first + self.config.seeds)
            for variant in self.config.models
            if seed == first or not variant.counts
        ]

    def options_of(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The options of ``train`` for a run; a model that counts has no length or learning."""
        shared = option_names(TrainingConfig) & self.options.keys() - (SHARED - {*LENGTHS})
        learning = {} if variant.counts else {name: self.options[name] for name in shared}
        return {**learning, **variant.options, "model": variant.model, "seed": seed}

    def to_json(self) -> dict[str, Any]:
        """What all runs share."""
        names = ("corpora", "valid", "encoding", "errors", "device", "threads")
        own = {name: getattr(self, name) for name in names}
        return _plain({**own, "parameters": self.config.parameters, **self.options})


def parse_options(options: Mapping[str, Any]) -> tuple[ComparisonConfig, dict[str, Any]]:
    """What is compared, and the options of tokenizer and training that all runs share.

    Raises UsageError for what cannot be trained, and where several processes are started.
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
        shared["budget"] = _BUDGET
    for parsed in (TokenizerConfig.from_options(shared), TrainingConfig.from_options(shared)):
        names = option_names(type(parsed)) & shared.keys()
        shared |= {name: getattr(parsed, name) for name in names}
    for each in config.models:
        model = ModelConfig.from_options({**each.options, "model": each.model})
        width = None if model.embeddings is None else vector_width(model.embeddings)
        if width is not None and model.embedding_size not in (None, width):
            raise UsageError(
                f"the --embedding-size of {each.name} contradicts --embeddings",
                where=model.embeddings,
                why=f"its vectors have {width} numbers",
                fix="leave --embedding-size out",
            )
    return config, shared


@dataclass
class _Stored:
    """The content of ``comparison.json``; ``runs`` are those that have ended, by model and seed."""

    settings: dict[str, Any]
    models: dict[str, Any]
    tokens: dict[str, Any]
    runs: dict[tuple[str, int], RunResult] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path) -> Self | None:
        path = out / COMPARISON
        if not path.is_file():
            return None
        raw = storage.read_json(path)
        try:
            storage.check_format(raw["format"], _FORMAT, path)
            stored = cls(dict(raw["settings"]), dict(raw["models"]), dict(raw["tokens"]))
            for each in raw["runs"]:
                run = RunResult.from_json(each | {"checkpoint": str(out / each["checkpoint"])})
                stored.runs[run.model, run.seed] = run
            return stored
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
        """Replace the file. The rows are for those who read it."""
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
        """Refuse to continue with other settings. Models and seeds may be added or left out."""
        new, models = request.to_json(), _models_json(request)
        pairs = {flag(n): (self.settings.get(n), new.get(n)) for n in {**new, **self.settings}}
        pairs["the corpus"] = pairs.pop("--corpora")
        pairs |= {
            f"the model {n}": (self.models.get(n, value), value) for n, value in models.items()
        }
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
    """Train several models for the same time on the same tokens, and compare what they reach.

    Called again with the same arguments it continues where it was stopped; models and seeds may
    be added then.

    Args:
        corpora: As ``train`` takes them.
        out: The folder of the comparison; each run is an ordinary checkpoint folder in it.
        on_event, stop: As those of ``train``; a RunStart and a RunResult enclose each run.
        options: Fields of ComparisonConfig, TokenizerConfig and TrainingConfig, such as
            ``models="lstm,lstm:hidden-size=64", budget="60s", seeds=3``.

    Raises:
        TextgenError: ``textgen.errors`` says which.
    """
    config, shared = parse_options(options)
    texts, held_out = tuple(map(_absolute, corpora)), None if valid is None else _absolute(valid)
    request = Request(Path(out), config, shared, texts, held_out, encoding, errors, device, threads)
    _check_free(request.out, overwrite=overwrite)
    with storage.locked(request.out):
        stored = _Stored.read(request.out)
        if stored is not None and overwrite:
            _remove(request, stored)
            stored = None
        elif stored is not None:
            stored.check_same(request)
        folder = _tokenized(request)
        tokens = _describe(folder, where=texts[0] if texts else folder)
        stored = stored or _Stored(request.to_json(), {}, tokens)
        if stored.tokens != tokens:
            other = "not the tokens that the comparison was begun with"
            raise DataError(other, where=request.out, fix=_RESTART)
        stored.models |= _models_json(request)
        stored.write(request)
        interrupted = _train_all(request, stored, folder, on_event, stop)
        names = ("vocabulary_size", "train_tokens", "valid_tokens")
        counts = {name: tokens[name] for name in names}
        rows = stored.rows(request)
        return Comparison(rows, str(out), len(request.runs), interrupted=interrupted, **counts)


def _absolute(path: str | Path) -> str:
    """The path from wherever the comparison is continued; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())


def _check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder with anything in it but a comparison, or what a killed one left."""
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
            why="it holds something other than a comparison",
            fix="choose another --out",
        )


def _remove(request: Request, stored: _Stored) -> None:
    """Remove the runs of an earlier comparison, once the text has been read anew."""
    _tokenized(request, overwrite=True)
    # A kill from here on leaves runs whose tokens are not those in the folder: they are refused.
    _Stored(request.to_json(), stored.models, stored.tokens).write(request)
    for name in stored.models:
        for folder in request.out.glob(f"{Variant(name, '').folder}-seed[0-9]*"):
            storage.discard(folder)
    (request.out / COMPARISON).unlink()


def _tokenized(request: Request, *, overwrite: bool = False) -> Path:
    """The folder of the ids that all runs read, written if it is not there yet."""
    corpora, options, folder = request.corpora, request.options, request.out / TOKENS
    if len(corpora) == 1 and is_encoded(Path(corpora[0])):
        for name in sorted((option_names(TokenizerConfig) | {"valid_fraction"}) & options.keys()):
            raise UsageError(
                f"{flag(name)} needs the corpus as text",
                where=corpora[0],
                why="it is tokenized already",
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


def _describe(folder: Path, where: str | Path) -> dict[str, Any]:
    """What identifies these ids, and how many there are."""
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
        "boundary": encoded.header.boundary,
        "fingerprint": encoded.header.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
    }


def _train_all(
    request: Request,
    stored: _Stored,
    tokens: Path,
    on_event: Callable[[ComparisonEvent], None],
    stop: Stop,
) -> int | None:
    """Train all that is not trained yet; the number of the signal that ended it, or None."""
    runs, tokens_json, parameters = request.runs, stored.tokens, request.config.parameters
    counting = {variant.name for variant in request.config.models if variant.counts}
    sizes = {
        each.name: {"hidden_size": widths_for(parameters, each, tokens_json["vocabulary_size"])}
        for each in request.config.models
        if parameters is not None and not each.counts
    }

    def pending() -> list[str]:
        return [each.name for each, seed in runs if (each.name, seed) not in stored.runs]

    def remaining() -> float | None:
        """Seconds by the budgets, or by what the runs that have ended took."""
        left = sum(name not in counting for name in pending())
        if "budget" in request.options:
            return left * float(request.options["budget"])
        taken = [run.seconds for run in stored.runs.values() if run.model not in counting]
        return left * fmean(taken) if taken else None

    models, finished = len(request.config.models), len(runs) - len(pending())
    train_tokens = tokens_json["train_tokens"]
    on_event(ComparisonStart(models, len(runs), finished, remaining(), train_tokens))
    for number, (variant, seed) in enumerate(runs, start=1):
        if (variant.name, seed) in stored.runs:
            continue
        signum = stop()
        if signum is not None:
            return signum
        folder = request.out / f"{variant.folder}-seed{seed}"
        resume = storage.whole(folder / checkpoint.LAST) is not None
        on_event(RunStart(variant.name, seed, number, len(runs), remaining(), resume))
        options = request.options_of(variant, seed) | sizes.get(variant.name, {})
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
        ended = _ended(request, variant.name, seed, folder, result)
        stored.runs[variant.name, seed] = ended
        stored.write(request)
        on_event(ended)
    return None


def _ended(
    request: Request, name: str, seed: int, folder: Path, result: TrainingResult | DivergedError
) -> RunResult:
    """What a run reached; of one that failed, the figures of its best checkpoint."""
    info = checkpoint.describe(folder)
    config = ModelConfig.from_options(info.config["model"])
    progress = {**info.config["progress"], "steps": info.config["progress"]["step"]}
    failed = str(result) if isinstance(result, DivergedError) else None
    figures = {each: progress[each] if failed else getattr(result, each) for each in _FIGURES}
    is_causal, sample = model_class(config).is_causal, None
    if is_causal and failed is None:
        model = textgen.LanguageModel.load(folder, device=request.device, threads=request.threads)
        (written,) = model.sample(**_SAMPLE)
        sample = " ".join(written.text.split())[:_SAMPLE_CHARACTERS]
    return RunResult(
        model=name,
        seed=seed,
        checkpoint=str(folder),
        description=config.description,
        parameters=info.parameters,
        validation=info.validation,
        curve=info.curve,
        sample=sample,
        failed=failed,
        is_causal=is_causal,
        **figures,
    )


def widths_for(parameters: int, variant: Variant, vocabulary_size: int) -> tuple[int, ...]:
    """The hidden sizes with which a model's number of parameters is nearest to this one.

    Several layers keep the proportions of the kind's defaults. Raises UsageError where even the
    narrowest has more, or the widest there is has fewer.
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
    nearest = min((narrower, narrower + 1), key=lambda width: abs(count(width) - parameters))
    return sizes(nearest)


def _models_json(request: Request) -> dict[str, Any]:
    return {
        each.name: {"model": each.model, "options": _plain(each.options)}
        for each in request.config.models
    }


def _described(value: Any) -> str:
    """A setting for an error message."""
    if isinstance(value, Mapping):
        pairs = (f"{name} {_described(each)}" for name, each in value.items())
        return ", ".join(pairs) or "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "the bundled stories"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "not given" if value is None else f"{value:g}" if is_number else str(value)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }
