"""``train`` and ``plan``: from a corpus and the length of a run to a folder with a trained model.

Imports no torch before the text is read, so that a fault in it is reported at once.
"""

import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from textgen import checkpoint, storage
from textgen.config import (
    VALID_FRACTION,
    Device,
    check_arguments,
    explaining_preset,
    is_uncounted,
    with_preset,
)
from textgen.config.keywords import RunOptions
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import is_encoded
from textgen.errors import UsageError
from textgen.process_memory import peak_resident_bytes
from textgen.results import (
    NgramBaseline,
    Plan,
    TrainingEvent,
    TrainingPhase,
    TrainingResult,
    TrainingStart,
    Validation,
)
from textgen.training.corpus import TrainingCorpus, read_corpus
from textgen.training.ranks import (
    SINGLE_PROCESS,
    Ranks,
    is_first_process,
    launch_id,
    process_rank,
    restart_count,
)
from textgen.training.run import TrainingRun, check_folders

if TYPE_CHECKING:
    from textgen.models import Model
    from textgen.training.prepare import SharedStart
    from textgen.training.trainer import Trainer


OnEvent = Callable[[TrainingEvent], None]


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
    skip_binary: bool = False,
    sample_every: float | None = None,
    baseline: bool = True,
    progress: bool = False,
    on_event: Callable[[TrainingEvent], None] | None = None,
    stop: Callable[[], int | None] | None = None,
    **options: Unpack[RunOptions],
) -> TrainingResult:
    """Train a language model on text and save it in the folder ``out``.

    Under ``torchrun`` every process calls this: only the first writes files and has events, and
    all return the result.

    Args:
        corpora: Files, folders, ``-``, or one folder that ``tokenize`` wrote. None means the
            bundled corpus or, on resume, the text that the run started with.
        init_from: A checkpoint to start from: its weights, shape and tokenizer.
        extend_vocabulary: Whether to add the tokens that are new in the text.
        skip_binary: Whether to leave out of folders whatever is not text, however much it is.
        preset: A name of PRESETS, whose options apply where none is given here.
        sample_every: Seconds between samples among the events.
        baseline: Whether to measure the loss of an n-gram model at the end.
        progress: Whether to show the progress on stderr, as the command does.
        on_event: Called with each TrainingEvent.
        stop: Polled after each update; if it returns a signal number, the run saves and ends.
        options: Fields of TokenizerConfig, ModelConfig and TrainingConfig, as
            ``hidden_size=512, budget="90s"``.

    Raises:
        TextgenError: ``textgen.errors`` lists the kinds.
        KeyboardInterrupt: After the run has been saved; at a second Ctrl-C at once.
    """
    check_arguments(train, locals())
    source = corpus_source(
        corpora, valid, encoding, errors, tokenizer=tokenizer, skip_binary=skip_binary
    )
    if accept_changed_corpus and not resume:
        raise UsageError("--accept-changed-corpus needs --resume", fix="add --resume")
    out = Path(out)
    # On rank 0 only.
    corpus: TrainingCorpus | None = None
    model: Model | None = None

    def begin() -> "SharedStart":
        nonlocal corpus, model
        run = _locked_run(
            TrainingRun.new(out, source, with_preset(options, preset), device, threads),
            closing,
            announce,
            init_from=None if init_from is None else str(init_from),
            extend_vocabulary=extend_vocabulary,
            resume=resume,
            overwrite=overwrite,
            accept_changed_corpus=accept_changed_corpus,
        )
        corpus = read_corpus(run, announce)
        announce(TrainingPhase("loading", "PyTorch"))
        from textgen.training.prepare import start_on_first_rank

        measures = run.training.budget is not None and not run.model.kind.counts
        if run.resumed_from is None and measures:
            announce(TrainingPhase("measuring", "this machine"))
        shared, model = start_on_first_rank(run, corpus, ranks)
        return shared

    with _join(device) as ranks, _display(on_event, asked=progress) as announce:
        with contextlib.ExitStack() as closing:
            with explaining_preset(preset, options):
                shared = ranks.first(begin)
            from textgen.training.prepare import make_trainer

            interrupt = _Interrupt(stop)
            trainer = make_trainer(
                shared,
                model,
                corpus,
                ranks,
                closing,
                stop=interrupt.requested,
                sample_every=sample_every,
            )
            with interrupt:
                if corpus is not None:
                    with interrupt.deferred():
                        announce(_start_event(shared, corpus, trainer))
                for event in trainer.run():
                    if corpus is not None:
                        with interrupt.deferred():
                            announce(event)
            result = _result(trainer)

        def with_baseline() -> TrainingResult:
            # The checkpoints are complete and the lock is released: this is not part of the run.
            interrupted = result.interrupted is not None or interrupt.requested() is not None
            if corpus is None or not baseline or interrupted:
                return result
            announce(TrainingPhase("baseline"))
            return dataclasses.replace(result, ngram=_baseline(corpus, trainer))

        return ranks.first(with_baseline)


def _locked_run(
    run: TrainingRun,
    closing: contextlib.ExitStack,
    announce: OnEvent,
    *,
    init_from: str | None,
    extend_vocabulary: bool,
    resume: bool,
    overwrite: bool,
    accept_changed_corpus: bool,
) -> TrainingRun:
    """A new run as it is, fine-tuned or resumed, as the arguments of ``train`` ask for.

    Every option is checked before anything is created. The folder is locked until ``closing``.
    """
    out = run.out
    if _is_restart(out):
        # Continue the run of the processes that failed; its tokenizer is in the checkpoint.
        resume, overwrite, init_from, extend_vocabulary = True, False, None, False
        run = dataclasses.replace(run, source=dataclasses.replace(run.source, tokenizer=None))
    check_folders(
        out, init_from, resume=resume, overwrite=overwrite, extend_vocabulary=extend_vocabulary
    )
    if init_from is not None:
        run = run.fine_tuned(init_from=init_from, extend_vocabulary=extend_vocabulary)
    closing.enter_context(storage.locked(out))
    begun = [path.with_suffix("") for path in (out / checkpoint.AT).glob("*.new")]
    for folder in (out / checkpoint.BEST, out / checkpoint.LAST, *begun):
        storage.clear_leftovers(folder)
    if resume:
        announce(TrainingPhase("loading", f"the run in {out}"))
        run = run.resumed(accept_changed_corpus=accept_changed_corpus)
    return run


def _baseline(corpus: TrainingCorpus, trainer: "Trainer") -> NgramBaseline:
    """The loss of n-grams on the text of a run that has ended, alone and mixed with an LSTM."""
    from textgen.training.trainer import ngram_baseline

    parts, tokenizer, network = corpus.encoded, corpus.tokenizer, trainer.state.model
    trained = None
    if network.config.model == "lstm":
        best = checkpoint.load(trainer.directory.out)
        trained = best.model.to(network.device).eval()
    return ngram_baseline(
        parts.train, parts.valid, tokenizer.level, tokenizer.vocabulary_size, trained
    )


@contextlib.contextmanager
def _display(on_event: OnEvent | None, *, asked: bool) -> Iterator[OnEvent]:
    """What is called with the events of a run: a display, if asked for, and then the caller's."""
    announce = on_event or (lambda event: None)
    if not asked or not is_first_process():
        yield announce
        return
    # By name, because presentation is a layer above: it is loaded where something is shown.
    with import_module("textgen.presentation.training").training_progress() as display:

        def both(event: TrainingEvent) -> None:
            display(event)
            announce(event)

        yield both


def _is_restart(out: Path) -> bool:
    """Whether ``torchrun`` started this process in place of one that failed in the same run."""
    folder = storage.find_complete(out / checkpoint.LAST) if restart_count() else None
    if folder is None:
        return False
    return checkpoint.read_header(folder / checkpoint.CONFIG).machine.launch == launch_id()


class _Interrupt(contextlib.AbstractContextManager["_Interrupt"]):
    """Defers KeyboardInterrupt until the run has been saved, and raises it at its end.

    Where the program has a handler of its own for Ctrl-C, that stays.

    Args:
        stop: Returns the number of another signal that asks the run to end, or None.
    """

    def __init__(self, stop: Callable[[], int | None] | None) -> None:
        self.received, self._stop = False, stop
        is_main = threading.current_thread() is threading.main_thread()
        self._handles = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> Self:
        if self._handles:
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.received and kind is None:
            raise KeyboardInterrupt

    def requested(self) -> int | None:
        """The number of the signal that asks the run to end, or None."""
        if self.received:
            return signal.SIGINT
        return None if self._stop is None else self._stop()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Runs a callback of the caller's, which may raise KeyboardInterrupt itself."""
        try:
            yield
        except KeyboardInterrupt:
            self.received = True

    def _receive(self, signum: int, frame: object) -> None:
        self.received = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # for the second one


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
    skip_binary: bool = False,
    **options: Unpack[RunOptions],
) -> Plan:
    """The plan of ``train`` with the same arguments, with reasons; nothing is written.

    The speed is measured, which takes some seconds.

    Raises:
        TextgenError: As ``train``.
    """
    check_arguments(plan, locals())
    source = corpus_source(
        corpora, valid, encoding, errors, tokenizer=tokenizer, skip_binary=skip_binary
    )
    with explaining_preset(preset, options):
        run = TrainingRun.new(Path(), source, with_preset(options, preset), device, threads)
        if init_from is not None:
            run = run.fine_tuned(init_from=str(init_from), extend_vocabulary=extend_vocabulary)
        corpus = read_corpus(run)
    from textgen.training import autotune

    return autotune.plan(run, corpus)


def corpus_source(
    corpora: tuple[str | Path, ...],
    valid: str | Path | None,
    encoding: str,
    errors: str,
    *,
    tokenizer: str | Path | None = None,
    skip_binary: bool = False,
) -> CorpusSource:
    """Where the text comes from, with absolute paths. Raises UsageError for a run's folder."""
    for path in corpora:
        _refuse_run(str(path))
    return CorpusSource(
        corpora=tuple(map(_absolute, corpora)),
        valid=None if valid is None else _absolute(valid),
        encoding=encoding,
        errors=errors,
        tokenizer=None if tokenizer is None else str(tokenizer),
        skip_binary=skip_binary,
    )


def _refuse_run(path: str) -> None:
    """Raise UsageError for the folder of a run, whose JSON files would be read as text."""
    parts = (Path(path), *(Path(path) / name for name in (checkpoint.BEST, checkpoint.LAST)))
    if any((part / checkpoint.WEIGHTS).is_file() for part in parts):
        raise UsageError(
            "a checkpoint is not a text",
            where=path,
            fix="continue the run with --out and --resume, or start from it with --init-from",
        )


def _absolute(path: str | Path) -> str:
    """A path that a resumed run finds from wherever it is started; ``-`` is stdin."""
    if not str(path):
        raise UsageError("an empty path was given for a text", fix="name a file or a folder")
    return str(path) if str(path) == "-" else str(Path(path).absolute())


def _join(device: Device) -> contextlib.AbstractContextManager[Ranks]:
    """All processes of the run, once all have been started."""
    place = process_rank()
    if place is None:
        return contextlib.nullcontext(SINGLE_PROCESS)
    from textgen.training.distributed import ProcessGroup

    return ProcessGroup(place, device)


def _start_event(
    shared: "SharedStart", corpus: TrainingCorpus, trainer: "Trainer"
) -> TrainingStart:
    header, ranks = shared.header, trainer.ranks
    validations: tuple[Validation, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    if shared.saved is not None and not shared.text_changed:  # whose losses are not comparable
        validations, points = checkpoint.read_metrics(shared.out / checkpoint.METRICS)
        losses = tuple((point.step, point.loss) for point in points)
    notes = []
    if ranks.size > 1:
        batch = header.training.batch_size
        notes.append(f"{ranks.size} processes train together, each with a batch of {batch}")
    if shared.processes_before not in (None, ranks.size):
        notes.append(f"processes: {ranks.size} instead of {shared.processes_before} before")
    return TrainingStart(
        parameters=None if is_uncounted(header.model) else header.parameters,
        vocabulary_size=header.model.vocabulary_size,
        device=header.machine.device,
        precision=header.machine.precision,
        description=header.model.description,
        out=str(shared.out),
        resumed_step=0 if shared.saved is None else shared.saved.snapshot.progress.step,
        notes=(*corpus.notes, *notes),
        losses=losses,
        validations=validations,
        best=trainer.directory.best,
    )


def _same_text(header: checkpoint.Header, out: Path) -> tuple[str, ...]:
    """The arguments with which another run has the text and the tokens of this one."""
    source, held_out = header.source, header.training.valid_fraction
    if len(source.paths) == 1 and is_encoded(source.paths[0]):
        return source.corpora
    options = {"--valid": source.valid, "--tokenizer": str(out)}
    if source.valid is None and held_out != VALID_FRACTION:
        options["--valid-fraction"] = str(held_out)
    for name in ("encoding", "errors"):
        value = getattr(source, name)
        options[f"--{name}"] = value if value != getattr(CorpusSource(), name) else None
    given = [part for name, each in options.items() if each is not None for part in (name, each)]
    return (*source.corpora, *given)


def _result(trainer: "Trainer") -> TrainingResult:
    from textgen.models import count_parameters

    config, progress = trainer.state.model.config, trainer.state.progress
    return TrainingResult(
        checkpoint=str(trainer.directory.out),
        steps=progress.step,
        tokens_seen=progress.tokens_seen,
        seconds=progress.seconds,
        tokens_per_second=progress.tokens_per_second,
        parameters=count_parameters(config),
        validation=trainer.directory.best,
        last_validation=trainer.validation,
        uniform_loss=math.log(config.vocabulary_size),
        model=config.model,
        same_text=_same_text(trainer.directory.template, trainer.directory.out),
        interrupted=trainer.interrupted,
        ended_early=trainer.ended_early,
        peak_memory_bytes=peak_resident_bytes(),
    )
