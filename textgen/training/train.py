"""``train`` and ``plan``: from a corpus and the length of a run to a folder with a trained model.

Imports no torch before the text is read, so that a fault in it is reported at once.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import checkpoint, storage
from textgen.config import Device, SamplingConfig, with_preset
from textgen.data.corpus import CorpusSource
from textgen.errors import UsageError
from textgen.process_memory import peak_resident_bytes
from textgen.results import Plan, TrainingEvent, TrainingResult, TrainingStart
from textgen.tokenizers.base import Tokenizer
from textgen.training.corpus import TrainingCorpus, read_corpus
from textgen.training.ranks import SINGLE_PROCESS, Ranks, launch_id, process_rank, restart_count
from textgen.training.run import TrainingRun, check_folder, check_init_from

if TYPE_CHECKING:
    from textgen.models import Model
    from textgen.training.prepare import LocalStart, SharedStart
    from textgen.training.trainer import Trainer

_SAMPLE_TOKENS, _SAMPLE_TEMPERATURE = 160, 0.8


def train(
    *corpora: str | Path,
    out: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    accept_changed_corpus: bool = False,
    tokenizer: str | Path | None = None,
    init_from: str | Path | None = None,
    extend_vocabulary: bool = False,
    preset: str | None = None,
    valid: str | Path | None = None,
    device: Device = "auto",
    threads: int | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    sample_every: float | None = None,
    baseline: bool = True,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    stop: Callable[[], int | None] = lambda: None,
    **options: Any,
) -> TrainingResult:
    """Train a language model on text and save it in the folder ``out``.

    Under ``torchrun`` every process calls this: only the first writes files and has events, and
    all return the result.

    Args:
        corpora: Files, folders, ``-``, or one folder that ``tokenize`` wrote. None means the
            bundled corpus or, on resume, the text that the run started with.
        init_from: A checkpoint to start from: its weights, shape and tokenizer.
        extend_vocabulary: Whether to add the tokens that are new in the text.
        preset: A name of PRESETS, whose options apply where none is given here.
        sample_every: Seconds between samples among the events.
        baseline: Whether to measure the loss of an n-gram model at the end.
        on_event: Called with each TrainingEvent.
        stop: Polled after each update; if it returns a signal number, the run saves and ends.
        options: Fields of TokenizerConfig, ModelConfig and TrainingConfig, as
            ``hidden_size=512, budget="90s"``.

    Raises:
        TextgenError: ``textgen.errors`` lists the kinds.
    """
    options = with_preset(options, preset)
    source = _source(corpora, valid, encoding, errors, tokenizer)
    if accept_changed_corpus and not resume:
        raise UsageError("--accept-changed-corpus needs --resume")
    begin = partial(
        _begin,
        Path(out),
        source,
        options,
        device,
        threads,
        resume=resume,
        overwrite=overwrite,
        accept_changed_corpus=accept_changed_corpus,
        init_from=None if init_from is None else str(init_from),
        extend_vocabulary=extend_vocabulary,
    )
    with _joined() as ranks:
        result, corpus = _train(ranks, begin, sample_every, on_event, stop)

        def with_baseline() -> TrainingResult:
            # The checkpoints are complete and the lock is released: this is not part of the run.
            if corpus is None or not baseline or result.interrupted is not None:
                return result
            from textgen.training.trainer import ngram_baseline

            encoded, learned = corpus.encoded, corpus.tokenizer
            found = ngram_baseline(
                encoded.train, encoded.valid, learned.level, learned.vocabulary_size
            )
            return dataclasses.replace(result, ngram=found)

        return ranks.first(with_baseline)


def _begin(
    out: Path,
    source: CorpusSource,
    options: Mapping[str, Any],
    device: Device,
    threads: int | None,
    closing: contextlib.ExitStack,
    *,
    resume: bool,
    overwrite: bool,
    accept_changed_corpus: bool,
    init_from: str | None,
    extend_vocabulary: bool,
) -> tuple[TrainingRun, TrainingCorpus]:
    """The run and its text; ``closing`` takes the lock of its folder."""
    if _is_restart(out):
        # Continue the run of the processes that failed; its tokenizer is in the checkpoint.
        resume, overwrite, init_from, extend_vocabulary = True, False, None, False
        source = dataclasses.replace(source, tokenizer=None)
    # Every option is checked before anything is created.
    run = TrainingRun.new(out, source, options, device, threads)
    check_init_from(out, init_from, resume=resume, extend_vocabulary=extend_vocabulary)
    check_folder(out, resume=resume, overwrite=overwrite)
    if init_from is not None:
        run = run.fine_tuned(options, init_from=init_from, extend_vocabulary=extend_vocabulary)
    closing.enter_context(storage.locked(out))
    for name in (checkpoint.BEST, checkpoint.LAST):
        storage.clear_leftovers(out / name)
    if resume:
        run = run.resumed(options, accept_changed_corpus=accept_changed_corpus)
    return run, read_corpus(run)


def _is_restart(out: Path) -> bool:
    """Whether ``torchrun`` started this process in place of one that failed in the same run."""
    folder = storage.find_complete(out / checkpoint.LAST) if restart_count() else None
    if folder is None:
        return False
    return checkpoint.read_header(folder / checkpoint.CONFIG).machine.launch == launch_id()


def _train(
    ranks: Ranks,
    begin: Callable[[contextlib.ExitStack], tuple[TrainingRun, TrainingCorpus]],
    sample_every: float | None,
    on_event: Callable[[TrainingEvent], None],
    stop: Callable[[], int | None],
) -> tuple[TrainingResult, TrainingCorpus | None]:
    """The result of the run and, on rank 0, its text."""
    corpus: TrainingCorpus | None = None
    start: LocalStart | None = None
    with contextlib.ExitStack() as closing:

        def begin_on_first_rank() -> "SharedStart":
            nonlocal corpus, start
            run, corpus = begin(closing)
            from textgen.training.prepare import start_on_first_rank

            start = start_on_first_rank(run, corpus, ranks)
            return start.shared

        shared = ranks.first(begin_on_first_rank)
        from textgen.training.prepare import make_trainer, start_on_other_rank

        trainer = make_trainer(
            start or start_on_other_rank(shared),
            ranks,
            closing,
            stop=stop,
            write_sample=write_sample,
            sample_every=sample_every,
        )
        if corpus is not None:
            on_event(_start_event(shared, corpus, ranks))
        for each in trainer.run():
            if corpus is not None:
                on_event(each)
        return _result(trainer), corpus


def plan(
    *corpora: str | Path,
    tokenizer: str | Path | None = None,
    init_from: str | Path | None = None,
    extend_vocabulary: bool = False,
    preset: str | None = None,
    valid: str | Path | None = None,
    device: Device = "auto",
    threads: int | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    **options: Any,
) -> Plan:
    """The plan of ``train`` with the same arguments, with reasons; nothing is written.

    The speed is measured, which takes some seconds.

    Raises:
        TextgenError: As ``train``.
    """
    options = with_preset(options, preset)
    source = _source(corpora, valid, encoding, errors, tokenizer)
    run = TrainingRun.new(Path(), source, options, device, threads)
    if init_from is not None:
        run = run.fine_tuned(options, init_from=str(init_from), extend_vocabulary=extend_vocabulary)
    corpus = read_corpus(run)
    from textgen.training import autotune

    return autotune.plan(run, corpus)


def _source(
    corpora: tuple[str | Path, ...],
    valid: str | Path | None,
    encoding: str,
    errors: str,
    tokenizer: str | Path | None,
) -> CorpusSource:
    return CorpusSource(
        corpora=tuple(map(_absolute, corpora)),
        valid=None if valid is None else _absolute(valid),
        encoding=encoding,
        errors=errors,
        tokenizer=None if tokenizer is None else str(tokenizer),
    )


def _absolute(path: str | Path) -> str:
    """A path that a resumed run finds from wherever it is started; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())


@contextlib.contextmanager
def _joined() -> Iterator[Ranks]:
    """All processes of the run, once all have been started."""
    place = process_rank()
    if place is None:
        yield SINGLE_PROCESS
        return
    from textgen.training.distributed import ProcessGroup

    group = ProcessGroup(place)
    try:
        yield group
    finally:
        group.leave()


def _start_event(shared: "SharedStart", corpus: TrainingCorpus, ranks: Ranks) -> TrainingStart:
    header = shared.header
    notes = list(header.corpus.notes)
    if ranks.size > 1:
        batch = header.training.batch_size
        notes.append(f"{ranks.size} processes train together, each with a batch of {batch}")
    if shared.processes_before not in (None, ranks.size):
        notes.append(f"processes: {ranks.size} instead of {shared.processes_before} before")
    return TrainingStart(
        parameters=header.parameters,
        vocabulary_size=header.model.vocabulary_size,
        train_tokens=header.corpus.train.tokens,
        valid_tokens=header.corpus.valid.tokens,
        train_characters=header.corpus.train.characters,
        level=shared.tokenizer.level,
        device=header.machine.device,
        precision=header.machine.precision,
        threads=header.machine.threads,
        description=header.model.description,
        out=str(shared.out),
        resumed_step=0 if shared.saved is None else shared.saved.snapshot.progress.step,
        notes=(*notes, *corpus.notes),
    )


def write_sample(model: "Model", tokenizer: Tokenizer, seed: int) -> str:
    """A sample of the current model."""
    from textgen.sampling.text import TextGenerator

    config = SamplingConfig(length=_SAMPLE_TOKENS, temperature=(_SAMPLE_TEMPERATURE,), seed=seed)
    return next(TextGenerator(model, tokenizer, config).generate([""])).text


def _result(trainer: "Trainer") -> TrainingResult:
    from textgen.models import count_parameters

    state, config = trainer.state, trainer.state.model.config
    return TrainingResult(
        checkpoint=str(trainer.directory.out),
        steps=state.step,
        tokens_seen=state.tokens_seen,
        seconds=state.seconds,
        tokens_per_second=state.tokens_seen / max(state.step_seconds, 1e-9),
        parameters=count_parameters(config),
        validation=trainer.directory.best,
        last_validation=trainer.validation,
        uniform_loss=math.log(config.vocabulary_size),
        interrupted=trainer.interrupted,
        ended_early=trainer.ended_early,
        peak_memory_bytes=peak_resident_bytes(),
    )
