"""The settings of a run: from its options, or from the checkpoint that is resumed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen import checkpoint, storage
from textgen.config import (
    LEARNED_BY_COUNTING,
    Config,
    Device,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
    check_options,
    flag,
    option_names,
)
from textgen.data.corpus import CorpusSource
from textgen.errors import CheckpointError, ResourceError, UsageError
from textgen.training import run_directory as record
from textgen.training.ranks import launch, restarts
from textgen.training.word_vectors import vector_width

_TOTALS = ("budget", "epochs", "steps")
_OF_COUNTING = frozenset({"valid_fraction", "seed"})
_CONFIGS: tuple[type[Config], ...] = (TokenizerConfig, ModelConfig, TrainingConfig)


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a fine-tune begins from.

    given: its path as the person wrote it. weights_sha256: of its weights as they were read.
    extends: whether the vocabulary grows by what is new in the text.
    """

    checkpoint: checkpoint.Checkpoint
    given: str
    weights_sha256: str
    extends: bool


@dataclass(frozen=True)
class Settings:
    """All that decides a run, whether it begins or goes on.

    given: the names of the options that were asked for. resumed: what it goes on from.
    origin: what it begins from, where that is not weights drawn at random.
    """

    out: Path
    tokenizer: TokenizerConfig
    model: ModelConfig
    training: TrainingConfig
    source: CorpusSource
    device: Device
    threads: int | None
    given: frozenset[str] = frozenset()
    resumed: checkpoint.Checkpoint | None = None
    origin: Origin | None = None
    accept_changed_corpus: bool = False


@dataclass(frozen=True)
class Manner:
    """Whether a run begins or goes on, and over or from what."""

    resume: bool = False
    overwrite: bool = False
    accept_changed_corpus: bool = False
    init_from: str | None = None
    extend_vocabulary: bool = False


def settle(
    out: Path, source: CorpusSource, options: dict[str, Any], device: Device, threads: int | None
) -> Settings:
    """The settings of a run that begins, every option checked before anything is created."""
    check_options(options, *_CONFIGS)
    tokenizer_options = sorted(option_names(TokenizerConfig) & options.keys())
    if source.tokenizer is not None and tokenizer_options:
        raise UsageError(
            f"--tokenizer and {flag(tokenizer_options[0])} cannot both be given",
            why="the tokenizer is already learned",
        )
    if source.valid is not None and "valid_fraction" in options:
        raise UsageError("--valid and --valid-fraction cannot both be given")
    model = _as_wide_as_vectors(ModelConfig.from_options(options))
    return Settings(
        out=out,
        tokenizer=TokenizerConfig.from_options(options),
        model=model,
        training=training_for(options, model),
        source=source,
        device=device,
        threads=threads,
        given=frozenset(options),
    )


def _as_wide_as_vectors(model: ModelConfig) -> ModelConfig:
    """The model with embeddings of the width that ``--embeddings`` has."""
    if model.embeddings is None:
        return model
    width = vector_width(model.embeddings)
    if model.embedding_size not in (None, width):
        raise UsageError(
            f"--embedding-size {model.embedding_size} contradicts --embeddings",
            where=model.embeddings,
            why=f"its vectors have {width} numbers",
            fix="leave --embedding-size out",
        )
    return dataclasses.replace(model, embedding_size=width)


def training_for(options: dict[str, Any], model: ModelConfig) -> TrainingConfig:
    """How such a model learns, where its kind has defaults of its own with these."""
    if not model.kind.counts:
        return TrainingConfig.from_options({**model.kind.defaults, **options}).with_length()
    for name in sorted(options.keys() & option_names(TrainingConfig) - _OF_COUNTING):
        raise UsageError(
            f"{flag(name)} is no option of --model {model.model}",
            why="it learns all there is in one reading",
            fix="leave it out",
        )
    return TrainingConfig.from_options({**options, **LEARNED_BY_COUNTING})


def restarted(settings: Settings, manner: Manner) -> tuple[Settings, Manner]:
    """What the same command means to processes that ``torchrun`` started in place of failed ones.

    They go on with the run that those have left; where there is none yet, they begin it.
    """
    folder = storage.whole(settings.out / checkpoint.LAST) if restarts() else None
    if folder is None or checkpoint.describe(folder).config["machine"].get("launch") != launch():
        return settings, manner
    # The tokenizer that was given is the checkpoint's own by now.
    source = dataclasses.replace(settings.source, tokenizer=None)
    return (
        dataclasses.replace(settings, source=source),
        Manner(resume=True, accept_changed_corpus=manner.accept_changed_corpus),
    )


def check_processes(settings: Settings, processes: int) -> None:
    """Refuse to go on with more or fewer processes: the streams would be others."""
    assert settings.resumed is not None
    begun = settings.resumed.header.machine.get("processes", 1)
    if begun != processes:
        alone, several = "without torchrun", f"by torchrun with {begun} processes"
        raise UsageError(
            f"cannot go on in {processes} process{'es' if processes > 1 else ''}",
            where=settings.out,
            why=f"the run was begun in {begun}",
            fix=f"start it {alone if begun == 1 else several}",
        )


def check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run must not write to, or that there is nothing to resume from."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite cannot both be given")
    if out.exists() and not out.is_dir():
        raise UsageError("not a folder", where=out, fix="choose another --out")
    empty = record.is_empty(out)
    if not (resume or overwrite or empty):
        raise UsageError(
            "not empty",
            where=out,
            fix="go on with --resume, start anew with --overwrite, or choose another --out",
        )
    if overwrite and not empty and not record.is_run(out):
        raise UsageError(
            "will not overwrite",
            where=out,
            why="it holds something other than a textgen run",
            fix="choose another --out",
        )
    if resume and storage.whole(out / checkpoint.LAST) is None:
        raise ResourceError(
            "nothing to resume", where=out, why="it holds no checkpoint", fix="leave --resume out"
        )


def take_up(asked: Settings, options: dict[str, Any], accept_changed_corpus: bool) -> Settings:
    """The settings of the run whose ``last`` is in the folder, with the new totals.

    Raises UsageError where an option contradicts what the run was begun with.
    """
    folder = storage.whole(asked.out / checkpoint.LAST)
    assert folder is not None
    saved = checkpoint.load(folder)
    header = saved.header
    _check_contradictions(asked, saved, options)
    training = header.training
    if options.keys() & set(_TOTALS):
        wanted = training_for(options, header.model)
        totals = {name: getattr(wanted, name) for name in _TOTALS}
        training = dataclasses.replace(training, **totals)
        _check_not_past(training, header)
    return dataclasses.replace(
        asked,
        tokenizer=saved.tokenizer.config,
        model=header.model,
        training=training,
        source=_source(asked.source, header, folder),
        threads=asked.threads or header.machine.get("threads"),
        resumed=saved,
        accept_changed_corpus=accept_changed_corpus,
    )


def _check_not_past(training: TrainingConfig, header: checkpoint.Header) -> None:
    """New totals are of the whole run, what was done before included."""
    for name, done in (("steps", header.step), ("budget", header.seconds)):
        total = getattr(training, name)
        if total is not None and total < done:
            raise UsageError(
                f"{flag(name)} {total:g} is less than the run has had",
                why=f"it has had {done:g}",
                fix="give a larger total",
            )


def _check_contradictions(
    asked: Settings, saved: checkpoint.Checkpoint, options: dict[str, Any]
) -> None:
    if asked.source.tokenizer is not None:
        raise UsageError("--resume and --tokenizer cannot both be given")
    pairs = (
        (asked.tokenizer, saved.tokenizer.config),
        (asked.model, saved.header.model),
        (asked.training, saved.header.training),
    )
    for new, kept in pairs:
        for name in option_names(type(new)) & options.keys() - set(_TOTALS):
            if getattr(new, name) != getattr(kept, name):
                raise UsageError(
                    f"{flag(name)} {options[name]} contradicts the run to be resumed",
                    where=asked.out,
                    why=f"it was begun with {getattr(kept, name)}",
                    fix="leave the option out, or begin a new run",
                )


def _source(asked: CorpusSource, header: checkpoint.Header, folder: Path) -> CorpusSource:
    """The text that the run began with, or the text given now in its place."""
    try:
        kept = CorpusSource(**{**header.source, "corpora": tuple(header.source["corpora"])})
        texts = (*kept.corpora, kept.encoding, kept.errors, kept.valid or "", kept.tokenizer or "")
        if not all(isinstance(each, str) for each in texts):
            raise TypeError("a path is a string")
    except (KeyError, TypeError) as error:
        raise CheckpointError("damaged", where=folder, why="it names no corpus") from error
    if asked.corpora:
        return dataclasses.replace(asked, valid=asked.valid or kept.valid)
    for name in ("valid", "encoding", "errors"):
        value = getattr(asked, name)
        if value not in (getattr(CorpusSource(), name), getattr(kept, name)):
            raise UsageError(
                f"{flag(name)} {value} contradicts the run to be resumed",
                where=folder,
                why=f"it was begun with {getattr(kept, name)}",
                fix="leave the option out, or give the text again too",
            )
    if any(path == "-" or Path(path).is_fifo() for path in kept.corpora):
        raise UsageError("the corpus came through a pipe", where=folder, fix="give the text again")
    return kept


def lasting(path: str | Path) -> str:
    """A path that a resumed run finds again from wherever it is started; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())
