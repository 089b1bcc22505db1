"""``TrainingRun``, everything that determines a run: new, resumed or fine-tuned.

Imports no torch, so that a wrong option is reported at once.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from textgen import checkpoint, storage
from textgen.checkpoint import InitialCheckpoint
from textgen.config import (
    LEARNED_BY_COUNTING,
    VALID_OPTIONS,
    Config,
    Device,
    ModelConfig,
    RecurrentConfig,
    TokenizerConfig,
    TrainingConfig,
    check_options,
    flag,
    option_names,
)
from textgen.data.corpus import CorpusSource
from textgen.errors import ResourceError, UsageError, not_both
from textgen.tokenizers.registry import load_tokenizer_from
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.training.word_vectors import vector_width

_TOTALS = ("budget", "epochs", "steps")
_CHANGEABLE = {*_TOTALS, "checkpoint_at"}  # when a run is resumed
_COUNTING_OPTIONS = VALID_OPTIONS | {"seed"}
_VOCABULARY_LIMITS = frozenset({"min_count", "vocab_size"})  # of what --extend-vocabulary adds
_LEFTOVERS = {storage.LOCK, checkpoint.METRICS, "best.new", "last.new", "at.new"}
_OF_A_RUN = _LEFTOVERS | {"best", "best.old", "last", "last.old", "at"}


@dataclass(frozen=True)
class TrainingRun:
    """Everything that determines a training run.

    Attributes:
        given: Names of the options that the user gave; ``autotune`` chooses the others.
        resumed_from: The ``last`` of the run to be resumed.
        accept_changed_corpus: Whether that run may continue on another text.
        tuned_from: The checkpoint that a fine-tuned run starts from.
        extend_vocabulary: Whether to add the tokens that are new in the text to its own.
        init_from: Identifies it, also when the fine-tuned run is resumed.
    """

    out: Path
    source: CorpusSource
    tokenizer: TokenizerConfig
    model: ModelConfig
    training: TrainingConfig
    device: Device = "auto"
    threads: int | None = None
    given: frozenset[str] = frozenset()
    resumed_from: checkpoint.Checkpoint | None = None
    accept_changed_corpus: bool = False
    tuned_from: checkpoint.Checkpoint | None = None
    extend_vocabulary: bool = False
    init_from: InitialCheckpoint | None = None

    @classmethod
    def new(
        cls,
        out: Path,
        source: CorpusSource,
        options: Mapping[str, Any],
        device: Device = "auto",
        threads: int | None = None,
    ) -> Self:
        """A run that starts from random weights.

        Args:
            options: Fields of TokenizerConfig, ModelConfig and TrainingConfig.

        Raises:
            UsageError: An option is invalid, or two contradict each other.
        """
        check_options(options, TokenizerConfig, ModelConfig, TrainingConfig)
        tokenizer_options = sorted(option_names(TokenizerConfig) & options.keys())
        if source.tokenizer is not None and tokenizer_options:
            raise UsageError(
                f"--tokenizer and {flag(tokenizer_options[0])} cannot both be given",
                why="the tokenizer is already learned",
                fix="keep one",
            )
        for name in sorted(VALID_OPTIONS & options.keys()) if source.valid is not None else ():
            raise not_both("--valid", flag(name), "each says what is held out")
        model = ModelConfig.from_options(options)
        if isinstance(model, RecurrentConfig) and model.embeddings is not None:
            width = vector_width(model.embeddings)
            if model.embedding_size not in (None, width):
                raise UsageError(
                    f"--embedding-size {model.embedding_size} contradicts --embeddings",
                    where=model.embeddings,
                    why=f"its vectors have {width} numbers",
                    fix="leave --embedding-size out",
                )
            model = dataclasses.replace(model, embedding_size=width)
        return cls(
            out=out,
            source=source,
            tokenizer=TokenizerConfig.from_options(options),
            model=model,
            training=_training(options, model),
            device=device,
            threads=threads,
            given=frozenset(options),
        )

    def resumed(self, *, accept_changed_corpus: bool = False) -> Self:
        """The run whose ``last`` is in ``out``, with new totals where one was given.

        Raises:
            UsageError: An option contradicts the stored run.
        """
        saved = checkpoint.load(self.out / checkpoint.LAST)
        header = saved.header
        if self.source.tokenizer is not None:
            fix = "leave --tokenizer out"
            raise not_both("--resume", "--tokenizer", "the run has its own tokenizer", fix)
        self._check_same(saved.tokenizer.config, header.model, header.training)
        training = header.training
        if self.given & set(_TOTALS):
            wanted = _training(self._training_options(), header.model)
            totals = {name: getattr(wanted, name) for name in _TOTALS}
            training = dataclasses.replace(training, **totals)
            for name, done in (("steps", header.step), ("budget", header.seconds)):
                total = totals[name]  # of earlier parts too
                if total is not None and total < done:
                    raise UsageError(
                        f"{flag(name)} {total:g} is less than the run has already done",
                        why=f"it has done {done:g}",
                        fix="give a larger total",
                    )
        if "checkpoint_at" in self.given:
            named = self.training.checkpoint_at
            training = dataclasses.replace(training, checkpoint_at=named)
        return dataclasses.replace(
            self,
            source=_resumed_source(self.source, header.source, saved.folder),
            tokenizer=saved.tokenizer.config,
            model=header.model,
            training=training,
            threads=self.threads or header.machine.threads,
            resumed_from=saved,
            accept_changed_corpus=accept_changed_corpus,
            init_from=header.init_from,
        )

    def fine_tuned(self, *, init_from: str, extend_vocabulary: bool = False) -> Self:
        """A run that starts from the weights, shape and tokenizer of a checkpoint.

        Raises:
            UsageError: An option contradicts the checkpoint, or its vocabulary cannot grow.
        """
        saved = checkpoint.load(Path(init_from))
        self._check_fits(saved, init_from, extends=extend_vocabulary)
        tokenizer = saved.tokenizer.config
        if extend_vocabulary:
            if not isinstance(saved.tokenizer, SymbolTokenizer):
                raise UsageError(
                    f"--extend-vocabulary cannot be used with --init-from {init_from}",
                    why=f"its {saved.tokenizer.level} tokens encode any text already, with bytes"
                    " where none fits",
                    fix="leave --extend-vocabulary out",
                )
            tokenizer = dataclasses.replace(
                tokenizer,
                min_count=self.tokenizer.min_count or tokenizer.min_count,
                vocab_size=self.tokenizer.vocab_size,
            )
        noted = InitialCheckpoint(
            path=init_from,
            checkpoint=saved.name,
            step=saved.header.step,
            weights_sha256=storage.sha256_of(saved.folder / checkpoint.WEIGHTS),
            tokenizer_fingerprint=saved.tokenizer.fingerprint,
            vocabulary_size=saved.tokenizer.vocabulary_size,
        )
        return dataclasses.replace(
            self,
            tokenizer=tokenizer,
            model=saved.header.model,
            training=_training(self._training_options(), saved.header.model),
            tuned_from=saved,
            extend_vocabulary=extend_vocabulary,
            init_from=noted,
        )

    def _training_options(self) -> dict[str, Any]:
        names = self.given & option_names(TrainingConfig)
        return {name: getattr(self.training, name) for name in names}

    def _check_same(self, *stored: Config) -> None:
        """Refuse an option that differs in the resumed run."""
        for new, kept in zip((self.tokenizer, self.model, self.training), stored, strict=True):
            for name in sorted(option_names(type(new)) & self.given - _CHANGEABLE):
                value, old = getattr(new, name), getattr(kept, name, None)
                if value != old:
                    raise UsageError(
                        f"{_typed(name, value)} contradicts the run to be resumed",
                        where=self.out,
                        why=f"it was started with {_typed(name, old, named=False)}",
                        fix="leave the option out, or start a new run",
                    )

    def _check_fits(self, saved: checkpoint.Checkpoint, source: str, *, extends: bool) -> None:
        """Refuse a shape or vocabulary other than that of the checkpoint in ``source``."""

        def refuse(name: str, value: object, kept: object) -> None:
            raise UsageError(
                f"{_typed(name, value)} contradicts --init-from {source}",
                why=f"that checkpoint has {_typed(name, kept, named=False)}",
                fix=f"leave {flag(name)} out, or train a new model without --init-from",
            )

        vocabulary_size = saved.tokenizer.vocabulary_size
        named = self.given - (_VOCABULARY_LIMITS if extends else frozenset())
        for name in sorted(named & option_names(TokenizerConfig)):
            new, kept = (
                _effective(each, name) for each in (self.tokenizer, saved.tokenizer.config)
            )
            if new != kept and not (name == "vocab_size" and new == vocabulary_size):
                refuse(name, getattr(self.tokenizer, name), kept)
        for name in sorted(named & option_names(ModelConfig)):
            kept = getattr(saved.header.model, name, None)
            if getattr(self.model, name) != kept:
                refuse(name, getattr(self.model, name), kept)
        size = self.tokenizer.vocab_size
        if extends and size is not None and size < vocabulary_size:
            refuse("vocab_size", size, f"{vocabulary_size} tokens, none of which can be dropped")
        path, same = self.source.tokenizer, saved.tokenizer.fingerprint
        if path is not None and load_tokenizer_from(path).fingerprint != same:
            refuse("tokenizer", path, "another tokenizer")


def _training(options: Mapping[str, Any], model: ModelConfig) -> TrainingConfig:
    """The options of training, with the defaults of the model's kind."""
    if not model.kind.counts:
        return TrainingConfig.from_options({**model.kind.defaults, **options}).with_length()
    for name in sorted(options.keys() & option_names(TrainingConfig) - _COUNTING_OPTIONS):
        raise UsageError(
            f"{flag(name)} is no option of --model {model.model}",
            why="it is estimated from counts, in one pass",
            fix="leave it out",
        )
    return TrainingConfig.from_options({**options, **LEARNED_BY_COUNTING})


def _resumed_source(given: CorpusSource, kept: CorpusSource, folder: Path) -> CorpusSource:
    """The text that the run started with, or the text given now instead."""
    default = CorpusSource()
    if given.corpora:
        names = ("valid", "encoding", "errors", "skip_binary")
        said = {name for name in names if getattr(given, name) != getattr(default, name)}
        return dataclasses.replace(
            given, **{name: getattr(kept, name) for name in names if name not in said}
        )
    for name in ("valid", "encoding", "errors"):
        value = getattr(given, name)
        if value not in (getattr(default, name), getattr(kept, name)):
            raise UsageError(
                f"{_typed(name, value)} contradicts the run to be resumed",
                where=folder,
                why=f"it was started with {_typed(name, getattr(kept, name), named=False)}",
                fix="leave the option out, or give the text as well",
            )
    if any(path == "-" or Path(path).is_fifo() for path in kept.corpora):
        raise UsageError("the corpus came through a pipe", where=folder, fix="give the text again")
    return kept


def _effective(config: TokenizerConfig, name: str) -> object:
    """The effective value of an option: giving the default is the same as leaving it out."""
    effective = {"min_count": config.least_count, "vocab_size": config.largest_vocabulary}
    return effective[name] if name in effective else getattr(config, name)


def _typed(name: str, value: object, *, named: bool = True) -> str:
    """An option as a user types it; a switch is never without its name."""
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    if value is None:
        return "none"
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag(name)} {shown}" if named else shown


def check_folders(
    out: Path, init_from: str | None, *, resume: bool, overwrite: bool, extend_vocabulary: bool
) -> None:
    """Refuse a folder that a run must not write to, or that there is nothing to resume from.

    A fine-tuned run must not write into the checkpoint that it reads.
    """
    if init_from is None and extend_vocabulary:
        fix = "add --init-from CHECKPOINT, or leave it out"
        raise UsageError("--extend-vocabulary needs --init-from", fix=fix)
    if init_from is not None:
        if resume:
            raise UsageError(
                "--resume and --init-from cannot both be given",
                why="the run in --out already has its own weights",
                fix="leave --init-from out to continue",
            )
        if not init_from:
            raise UsageError("--init-from names no checkpoint", fix="give a checkpoint's folder")
        _, read = checkpoint.find(Path(init_from))
        source, target = read.resolve(), out.resolve()
        if target in (source, checkpoint.run_folder(source)) or source in target.parents:
            raise UsageError(
                f"--init-from {init_from} and --out {out} are the same run",
                why="the initial checkpoint is never written to",
                fix="choose another --out, or continue with --resume",
            )
    if resume and overwrite:
        raise not_both("--resume", "--overwrite", "one continues the run, the other replaces it")
    if out.exists() and not out.is_dir():
        raise UsageError("not a folder", where=out, fix="choose another --out")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if found - _LEFTOVERS and not (resume or overwrite):
        raise UsageError(
            "not empty",
            where=out,
            fix="continue with --resume, start again with --overwrite, or choose another --out",
        )
    if overwrite and not found <= _OF_A_RUN:
        raise UsageError(
            "will not overwrite",
            where=out,
            why="it contains something other than a textgen run",
            fix="choose another --out",
        )
    if resume and storage.find_complete(out / checkpoint.LAST) is None:
        raise ResourceError(
            "nothing to resume",
            where=out,
            why="it contains no checkpoint",
            fix="leave --resume out",
        )
