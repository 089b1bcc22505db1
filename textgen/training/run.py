"""``TrainingRun``, everything that determines a run: new, resumed or fine-tuned.

Imports no torch, so that a wrong option is reported at once.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from textgen import checkpoint, storage
from textgen.config import (
    LEARNED_BY_COUNTING,
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
from textgen.errors import ResourceError, UsageError
from textgen.tokenizers.registry import load_tokenizer_from
from textgen.tokenizers.vocabulary import SymbolTokenizer
from textgen.training.word_vectors import vector_width

_TOTALS = ("budget", "epochs", "steps")
_COUNTING_OPTIONS = frozenset({"valid_fraction", "seed"})
_VOCABULARY_LIMITS = frozenset({"min_count", "vocab_size"})  # of what --extend-vocabulary adds
_CONFIGS: tuple[type[Config], ...] = (TokenizerConfig, ModelConfig, TrainingConfig)
_LEFTOVERS = frozenset(
    {storage.LOCK, checkpoint.METRICS, f"{checkpoint.BEST}.new", f"{checkpoint.LAST}.new"}
)


@dataclass(frozen=True)
class Resumption:
    """The run to be resumed, as stored in its ``last``.

    Attributes:
        accept_changed_corpus: Whether it may continue on another text.
    """

    checkpoint: checkpoint.Checkpoint
    accept_changed_corpus: bool


@dataclass(frozen=True)
class FineTuning:
    """The checkpoint that a fine-tuned run starts from.

    Attributes:
        path: As it was given.
        weights_sha256: Of its weights file as it was read.
        extend_vocabulary: Whether to add the tokens that are new in the text.
    """

    checkpoint: checkpoint.Checkpoint
    path: str
    weights_sha256: str
    extend_vocabulary: bool


@dataclass(frozen=True)
class TrainingRun:
    """Everything that determines a training run.

    Attributes:
        given: Names of the options that the user gave; ``autotune`` chooses the others.
        resumption: Set by ``resumed``.
        fine_tuning: Set by ``fine_tuned``.
    """

    out: Path
    source: CorpusSource
    tokenizer: TokenizerConfig
    model: ModelConfig
    training: TrainingConfig
    device: Device = "auto"
    threads: int | None = None
    given: frozenset[str] = frozenset()
    resumption: Resumption | None = None
    fine_tuning: FineTuning | None = None

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
        check_options(options, *_CONFIGS)
        tokenizer_options = sorted(option_names(TokenizerConfig) & options.keys())
        if source.tokenizer is not None and tokenizer_options:
            raise UsageError(
                f"--tokenizer and {flag(tokenizer_options[0])} cannot both be given",
                why="the tokenizer is already learned",
            )
        if source.valid is not None and "valid_fraction" in options:
            raise UsageError("--valid and --valid-fraction cannot both be given")
        model = _with_width_of_vectors(ModelConfig.from_options(options))
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

    def resumed(self, options: Mapping[str, Any], *, accept_changed_corpus: bool = False) -> Self:
        """The run whose ``last`` is in ``out``, with new totals where ``options`` has one.

        Args:
            options: Those that this value was made of.

        Raises:
            UsageError: An option contradicts the stored run.
        """
        folder = storage.find_complete(self.out / checkpoint.LAST)
        if folder is None:
            raise _nothing_to_resume(self.out)
        saved = checkpoint.load(folder)
        header = saved.header
        self._check_same(saved, options)
        training = header.training
        if options.keys() & set(_TOTALS):
            wanted = _training(options, header.model)
            totals = {name: getattr(wanted, name) for name in _TOTALS}
            training = dataclasses.replace(training, **totals)
            _check_not_past(training, header)
        return dataclasses.replace(
            self,
            source=_resumed_source(self.source, header.source, folder),
            tokenizer=saved.tokenizer.config,
            model=header.model,
            training=training,
            threads=self.threads or header.machine.threads,
            resumption=Resumption(saved, accept_changed_corpus),
        )

    def fine_tuned(
        self, options: Mapping[str, Any], *, init_from: str, extend_vocabulary: bool = False
    ) -> Self:
        """A run that starts from the weights, shape and tokenizer of a checkpoint.

        Args:
            options: Those that this value was made of.

        Raises:
            UsageError: An option contradicts the checkpoint, or its vocabulary cannot grow.
        """
        saved = checkpoint.load(Path(init_from))
        self._check_fits(saved, options, init_from, extends=extend_vocabulary)
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
        weights = storage.sha256_of(saved.folder / checkpoint.WEIGHTS)
        return dataclasses.replace(
            self,
            tokenizer=tokenizer,
            model=saved.header.model,
            training=_training(options, saved.header.model),
            fine_tuning=FineTuning(saved, init_from, weights, extend_vocabulary),
        )

    def _check_same(self, saved: checkpoint.Checkpoint, options: Mapping[str, Any]) -> None:
        """Refuse an option that differs in the resumed run."""
        if self.source.tokenizer is not None:
            raise UsageError("--resume and --tokenizer cannot both be given")
        pairs: tuple[tuple[Config, Config], ...] = (
            (self.tokenizer, saved.tokenizer.config),
            (self.model, saved.header.model),
            (self.training, saved.header.training),
        )
        for new, kept in pairs:
            for name in option_names(type(new)) & options.keys() - set(_TOTALS):
                if getattr(new, name) != getattr(kept, name, None):
                    stored = getattr(kept, name, None)
                    raise UsageError(
                        f"{_typed(name, getattr(new, name))} contradicts the run to be resumed",
                        where=self.out,
                        why=f"it was started with {_typed(name, stored, named=False)}",
                        fix="leave the option out, or start a new run",
                    )

    def _check_fits(
        self,
        saved: checkpoint.Checkpoint,
        options: Mapping[str, Any],
        init_from: str,
        *,
        extends: bool,
    ) -> None:
        """Refuse a shape or vocabulary other than that of the initial weights."""
        tokenizer, model = saved.tokenizer.config, saved.header.model
        vocabulary_size = saved.tokenizer.vocabulary_size
        named = options.keys() - (_VOCABULARY_LIMITS if extends else frozenset())
        for name in sorted(named & option_names(TokenizerConfig)):
            new, kept = _effective(self.tokenizer, name), _effective(tokenizer, name)
            if new != kept and not (name == "vocab_size" and new == vocabulary_size):
                raise _contradiction(name, options[name], init_from, kept)
        for name in sorted(named & option_names(ModelConfig)):
            kept = getattr(model, name, None)
            if getattr(self.model, name) != kept:
                raise _contradiction(name, options[name], init_from, kept)
        size = self.tokenizer.vocab_size
        if extends and size is not None and size < vocabulary_size:
            kept = f"{vocabulary_size} tokens, none of which can be dropped"
            raise _contradiction("vocab_size", size, init_from, kept)
        path = self.source.tokenizer
        if path is not None:
            given = load_tokenizer_from(path)
            if given.fingerprint != saved.tokenizer.fingerprint:
                raise _contradiction("tokenizer", path, init_from, "another tokenizer")


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


def _with_width_of_vectors(model: ModelConfig) -> ModelConfig:
    """The model with embeddings of the width that ``--embeddings`` has."""
    if not isinstance(model, RecurrentConfig) or model.embeddings is None:
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


def _check_not_past(training: TrainingConfig, header: checkpoint.Header) -> None:
    """Refuse a new total that the run has already exceeded; totals include earlier parts."""
    for name, done in (("steps", header.step), ("budget", header.seconds)):
        total = getattr(training, name)
        if total is not None and total < done:
            raise UsageError(
                f"{flag(name)} {total:g} is less than the run has already done",
                why=f"it has done {done:g}",
                fix="give a larger total",
            )


def _resumed_source(given: CorpusSource, kept: CorpusSource, folder: Path) -> CorpusSource:
    """The text that the run started with, or the text given now instead."""
    if given.corpora:
        return dataclasses.replace(given, valid=given.valid or kept.valid)
    for name in ("valid", "encoding", "errors"):
        value = getattr(given, name)
        if value not in (getattr(CorpusSource(), name), getattr(kept, name)):
            raise UsageError(
                f"{flag(name)} {value} contradicts the run to be resumed",
                where=folder,
                why=f"it was started with {getattr(kept, name)}",
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


def _contradiction(name: str, value: object, init_from: str, kept: object) -> UsageError:
    return UsageError(
        f"{_typed(name, value)} contradicts --init-from {init_from}",
        why=f"that checkpoint has {_typed(name, kept, named=False)}",
        fix=f"leave {flag(name)} out, or train a new model without --init-from",
    )


def check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run must not write to, or that there is nothing to resume from."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite cannot both be given")
    if out.exists() and not out.is_dir():
        raise UsageError("not a folder", where=out, fix="choose another --out")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    is_empty = names <= _LEFTOVERS
    if not (resume or overwrite or is_empty):
        raise UsageError(
            "not empty",
            where=out,
            fix="continue with --resume, start again with --overwrite, or choose another --out",
        )
    checkpoints = {
        name + suffix
        for name in (checkpoint.BEST, checkpoint.LAST)
        for suffix in ("", ".new", ".old")
    }
    if overwrite and not is_empty and not names <= _LEFTOVERS | checkpoints:
        raise UsageError(
            "will not overwrite",
            where=out,
            why="it contains something other than a textgen run",
            fix="choose another --out",
        )
    if resume and storage.find_complete(out / checkpoint.LAST) is None:
        raise _nothing_to_resume(out)


def _nothing_to_resume(out: Path) -> ResourceError:
    return ResourceError(
        "nothing to resume", where=out, why="it contains no checkpoint", fix="leave --resume out"
    )


def check_init_from(
    out: Path, init_from: str | None, *, resume: bool, extend_vocabulary: bool
) -> None:
    """Refuse a fine-tune that would write into the checkpoint it reads, or with --resume."""
    if init_from is None:
        if extend_vocabulary:
            raise UsageError("--extend-vocabulary needs --init-from")
        return
    if resume:
        raise UsageError(
            "--resume and --init-from cannot both be given",
            why="the run in --out already has its own weights",
            fix="leave --init-from out to continue",
        )
    if not init_from:
        raise UsageError("--init-from names no checkpoint", fix="give a checkpoint's folder")
    _, found = checkpoint.find(Path(init_from))
    source, target = found.resolve(), out.resolve()
    if target in (source, source.parent) or source in target.parents:
        raise UsageError(
            f"--init-from {init_from} and --out {out} are the same run",
            why="the initial checkpoint is never written to",
            fix="choose another --out, or continue with --resume",
        )
