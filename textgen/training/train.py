"""``train``: a corpus and a length of run to a folder with a trained model."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import checkpoint, storage
from textgen.config import Device, SamplingConfig, with_preset
from textgen.data.corpus import CorpusSource
from textgen.errors import UsageError
from textgen.process_memory import peak_resident_bytes
from textgen.results import NgramBaseline, Plan, TrainingEvent, TrainingResult, TrainingStart
from textgen.tokenizers.base import Tokenizer
from textgen.training import fine_tuning as origin
from textgen.training import run as run_settings
from textgen.training.ranks import Ranks, joined
from textgen.training.run import Manner, Settings, lasting
from textgen.training.tokens import Tokens, read_tokens

if TYPE_CHECKING:
    from textgen.models import Model
    from textgen.training.loop import Loop
    from textgen.training.prepare import Prepared


_SAMPLE_TOKENS = 160
_SAMPLE_TEMPERATURE = 0.8


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
    """Learn a language model from text and keep it in the folder ``out``.

    corpora: files, folders, ``-``, or one folder that ``tokenize`` wrote; none means the
    bundled corpus (on resume: the text the run began with). options: the fields of
    TokenizerConfig, ModelConfig and TrainingConfig, as ``hidden_size=512, budget="90s"``.
    init_from: a checkpoint to begin with, its weights, shape and tokenizer; extend_vocabulary:
    to which what is new in the text is added. preset: a name of PRESETS, whose options hold where
    none is given here.
    on_event: called with each TrainingEvent. stop: polled after each step; the number of a
    signal ends the run there, saved. sample_every: seconds between samples among the events.
    baseline: whether to find out, once it has ended, what counting n-grams reaches.

    Under ``torchrun`` every process calls this; the first alone writes and has events, and all
    return what it reached.

    Raises TextgenError; ``textgen.errors`` says which.
    """
    folder = Path(out)
    options = with_preset(options, preset)
    source = _source(corpora, valid, encoding, errors, tokenizer)
    if accept_changed_corpus and not resume:
        raise UsageError("--accept-changed-corpus needs --resume")
    settings = run_settings.settle(folder, source, options, device, threads)
    begins_with = None if init_from is None else str(init_from)
    manner = Manner(resume, overwrite, accept_changed_corpus, begins_with, extend_vocabulary)
    with joined() as ranks:

        def work() -> TrainingResult:
            result, start, tokens = _train(
                ranks, settings, options, manner, sample_every, on_event, stop
            )
            # The folder is whole and another run may have it: what follows is no part of the run.
            if baseline and result.interrupted is None:
                return dataclasses.replace(result, ngram=_ngram(start, tokens))
            return result

        return ranks.run(work, stop)


def _train(
    ranks: Ranks,
    settings: Settings,
    options: dict[str, Any],
    manner: Manner,
    sample_every: float | None,
    on_event: Callable[[TrainingEvent], None],
    stop: Callable[[], int | None],
) -> tuple[TrainingResult, TrainingStart, Tokens]:
    folder = settings.out
    settings, manner = run_settings.restarted(settings, manner)
    origin.check(folder, manner.init_from, resume=manner.resume, extend=manner.extend_vocabulary)
    run_settings.check_folder(folder, resume=manner.resume, overwrite=manner.overwrite)
    if manner.init_from is not None:
        settings = origin.take_over(
            settings, options, manner.init_from, extend=manner.extend_vocabulary
        )
    with storage.locked(folder), contextlib.ExitStack() as closing:
        for name in (checkpoint.BEST, checkpoint.LAST):
            storage.clear_leftovers(folder / name)
        if manner.resume:
            settings = run_settings.take_up(settings, options, manner.accept_changed_corpus)
            run_settings.check_processes(settings, ranks.size)
        # Text is read before torch is loaded, so that a fault in it is told at once.
        tokens = read_tokens(settings)
        from textgen.training.prepare import prepare

        prepared = prepare(settings, tokens, ranks, closing)
        start = _start(prepared, ranks)
        on_event(start)
        loop = _loop(prepared, lambda: stop() or ranks.signum, sample_every)
        for event in loop.run():
            on_event(event)
        return _result(loop, start), start, tokens


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
    """What ``train`` would do with the same arguments, and why; it writes nothing.

    The speed is measured, which takes some seconds. Raises TextgenError as ``train`` does.
    """
    options = with_preset(options, preset)
    source = _source(corpora, valid, encoding, errors, tokenizer)
    settings = run_settings.settle(Path(), source, options, device, threads)
    if init_from is not None:
        settings = origin.take_over(settings, options, str(init_from), extend=extend_vocabulary)
    tokens = read_tokens(settings)
    from textgen.training import autotune as planning

    return planning.plan(settings, tokens)


def _source(
    corpora: tuple[str | Path, ...],
    valid: str | Path | None,
    encoding: str,
    errors: str,
    tokenizer: str | Path | None,
) -> CorpusSource:
    return CorpusSource(
        corpora=tuple(map(lasting, corpora)),
        valid=None if valid is None else lasting(valid),
        encoding=encoding,
        errors=errors,
        tokenizer=None if tokenizer is None else str(tokenizer),
    )


def _start(prepared: "Prepared", ranks: Ranks) -> TrainingStart:
    settings, header = prepared.settings, prepared.record.template
    shape, notes = header.model, prepared.tokens.encoded.header.notes
    if ranks.size > 1:
        batch = settings.training.batch_size
        notes += (f"{ranks.size} processes learn together, each with a batch of {batch}",)
    return TrainingStart(
        parameters=header.parameters,
        vocabulary_size=shape.vocabulary_size,
        train_tokens=len(prepared.tokens.encoded.train),
        valid_tokens=len(prepared.tokens.encoded.valid),
        train_characters=prepared.tokens.encoded.header.train.characters,
        level=prepared.tokens.tokenizer.config.level,
        device=header.machine["device"],
        precision=header.machine["precision"],
        threads=header.machine["threads"],
        description=shape.description,
        out=str(settings.out),
        resumed_step=prepared.learner.step,
        notes=(*notes, *prepared.tokens.notes),
    )


def _loop(
    prepared: "Prepared", stop: Callable[[], int | None], sample_every: float | None
) -> "Loop":
    from textgen.training.loop import Loop
    from textgen.training.schedule import Schedule

    training, encoded = prepared.settings.training, prepared.tokens.encoded
    model = prepared.learner.model
    tokens_a_step = prepared.learner.tokens_a_step
    total_steps = training.steps
    if training.epochs is not None:
        total_steps = math.ceil(training.epochs * len(encoded.train) / tokens_a_step)
    return Loop(
        learner=prepared.learner,
        schedule=Schedule(training, total_steps),
        record=prepared.record,
        config=training,
        valid_ids=encoded.valid,
        valid_characters=encoded.header.valid.characters,
        tokens_an_epoch=len(encoded.train),
        stop=stop,
        write_sample=lambda: write_sample(model, prepared.tokens.tokenizer, prepared.learner.step),
        sample_every=sample_every if model.is_causal else None,
        validation=prepared.validation,
        # What a fine-tune begins with is known to be good: it may well be the best.
        validates_start=prepared.record.template.init_from is not None,
    )


def write_sample(model: "Model", tokenizer: Tokenizer, seed: int) -> str:
    """A few words of the model's, as it is now."""
    from textgen.sampling.writer import Writer

    config = SamplingConfig(length=_SAMPLE_TOKENS, temperature=(_SAMPLE_TEMPERATURE,), seed=seed)
    return next(Writer(model, tokenizer, config).write([""], None)).text


def _result(loop: "Loop", start: TrainingStart) -> TrainingResult:
    from textgen.models import count_parameters

    learner = loop.learner
    return TrainingResult(
        checkpoint=start.out,
        steps=learner.step,
        tokens_seen=learner.tokens_seen,
        seconds=learner.seconds,
        tokens_per_second=learner.tokens_seen / max(learner.step_seconds, 1e-9),
        parameters=count_parameters(learner.model.config),
        validation=loop.record.best,
        last_validation=loop.validation,
        uniform_loss=math.log(start.vocabulary_size),
        interrupted=loop.interrupted,
        ended_early=loop.ended_early,
        peak_memory_bytes=peak_resident_bytes(),
    )


def _ngram(start: TrainingStart, tokens: Tokens) -> NgramBaseline:
    from textgen.training.loop import ngram_baseline

    encoded = tokens.encoded
    return ngram_baseline(encoded.train, encoded.valid, start.level, start.vocabulary_size)
