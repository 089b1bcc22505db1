"""``textgen train``: learn a language model from text."""

import contextlib
import sys
from typing import Annotated, Any, Literal

import typer

from textgen.cli import options
from textgen.cli.failures import StopRequest, exit_code, listening
from textgen.cli.options import choice_option, command_options, typed_options, value_option
from textgen.config import ModelConfig, TokenizerConfig, TrainingConfig, parse_duration
from textgen.data.corpus import CorpusSource
from textgen.errors import ResourceError, UsageError, not_both
from textgen.presentation import console, records, tables
from textgen.presentation.training import TensorBoardLog, training_progress
from textgen.results import CheckpointSaved, TrainingEvent, TrainingPhase, TrainingStart
from textgen.training.ranks import is_first_process, process_rank

Format = Literal["text", "json"]

_SECONDS_BETWEEN_SAMPLES = 8.0

EXAMPLES = """
    Train on the bundled stories for a minute:
    textgen train --out checkpoints/first --budget 60s
    Train on your own texts for two hours, with two layers:
    textgen train books/ --out checkpoints/b --budget 2h --hidden-size 512,512
    Continue a stopped run, for three hours in all:
    textgen train --out checkpoints/b --resume --budget 3h
    Show first what would be trained, and why:
    textgen train books/ --budget 2h --plan
    Train on words instead of characters:
    textgen train books/ --out checkpoints/words --level word --epochs 10
    Fine-tune that model on another kind of text:
    textgen train mine/ --out checkpoints/m --init-from checkpoints/words
"""


OutOption = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR", help="The folder of the run.", show_default="required"),
]
PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan", help="Show what would be trained, its size and speed, and why; train nothing."
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue the stopped run in --out, with its own options.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that is in --out.")
]
ChangedCorpusOption = Annotated[
    bool,
    typer.Option("--accept-changed-corpus", help="Resume although the text has changed since."),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the result.")]
TokenizerOption = Annotated[
    str | None,
    value_option(
        "--tokenizer",
        "DIR",
        "Use the tokenizer of this folder or checkpoint instead of learning one.",
        panel="Tokens",
    ),
]
InitFromOption = Annotated[
    str | None,
    value_option(
        "--init-from",
        "CHECKPOINT",
        "Fine-tune: start from the weights, shape and tokenizer of this checkpoint.",
    ),
]
ExtendVocabularyOption = Annotated[
    bool,
    typer.Option(
        "--extend-vocabulary",
        help="Add tokens that are new in the text to those of --init-from.",
        rich_help_panel="Tokens",
    ),
]
SampleEveryOption = Annotated[
    str | None,
    value_option(
        "--sample-every",
        "TIME",
        "Time between the samples shown during training, or none. They do not affect training.",
        panel="Logging and saving",
        default=f"{_SECONDS_BETWEEN_SAMPLES:.0f}s on a terminal, else none",
    ),
]
LogDirOption = Annotated[
    str | None,
    value_option(
        "--log-dir",
        "DIR",
        "Also log to TensorBoard; needs the package tensorboard.",
        panel="Logging and saving",
    ),
]


@command_options
def train(
    *,
    corpus: options.Corpora = None,
    out: OutOption = None,
    plan: PlanOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    accept_changed_corpus: ChangedCorpusOption = False,
    output: FormatOption = "text",
    valid: options.ValidOption = None,
    encoding: options.EncodingOption = "utf-8",
    errors: options.ErrorsOption = "strict",
    skip_binary: options.SkipBinaryOption = False,
    init_from: InitFromOption = None,
    tokenizer: TokenizerOption = None,
    extend_vocabulary: ExtendVocabularyOption = False,
    preset: options.PresetOption = None,
    tokens: TokenizerConfig,
    model: ModelConfig,
    training: TrainingConfig,
    typed: frozenset[str],
    sample_every: SampleEveryOption = None,
    log_dir: LogDirOption = None,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
) -> None:
    """Train a recurrent language model on text.

    Learns a tokenizer and a model from the text, and measures how well the model predicts the
    held-out part. --budget, --epochs or --steps sets the length of the run; the learning rate
    falls to zero at its end.

    The folder --out then holds two checkpoints, best and last. Ctrl-C saves and stops; the same
    command with --resume continues as if the run had never stopped.
    """
    corpora, seconds = corpus or [], _seconds_between_samples(sample_every)
    arguments: dict[str, Any] = {
        "tokenizer": tokenizer,
        "init_from": init_from,
        "extend_vocabulary": extend_vocabulary,
        "preset": preset,
        "valid": valid,
        "device": device,
        "threads": threads,
        "encoding": encoding,
        "errors": errors,
        "skip_binary": skip_binary,
        **typed_options(typed, tokens, model, training),
    }
    if plan:
        if resume:
            raise not_both("--plan", "--resume", "a plan describes a new run")
        from textgen import plan as library_plan

        if not corpora:
            console.note("no corpus given: planning for the bundled stories")
        planned = library_plan(*corpora, **arguments)
        for message in planned.notes:
            console.note(message)
        if output == "json":
            records.emit_record(records.plan_record(planned))
        else:
            console.show(tables.plan_tables(planned))
        return
    if out is None:
        raise UsageError("--out is needed", fix="add --out DIR, the folder to save the run in")
    arguments |= {
        "out": out,
        "resume": resume,
        "overwrite": overwrite,
        "accept_changed_corpus": accept_changed_corpus,
        "sample_every": seconds,
    }
    if is_first_process():
        _run(corpora, arguments, output, log_dir)
    else:
        _run_silently(corpora, arguments)


def _seconds_between_samples(typed: str | None) -> float | None:
    if typed is None:
        return _SECONDS_BETWEEN_SAMPLES if console.is_terminal(sys.stderr) else None
    if typed == "none":
        return None
    try:
        return parse_duration(typed, "--sample-every")
    except UsageError as error:
        raise UsageError(f"--sample-every: {error.what}", fix="write 10s, 5m or none") from None


def _run(
    corpora: list[str], arguments: dict[str, Any], output: Format, log_dir: str | None
) -> None:
    log = None if log_dir is None else TensorBoardLog(log_dir)
    if not corpora and not arguments["resume"]:
        console.note("no corpus given: training on the bundled stories")
    progress = training_progress()
    request = StopRequest(progress.stopping, among=process_rank() is not None)
    kept = _Kept(arguments["out"], resumes=arguments["resume"])

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            request.arm()
        elif isinstance(event, TrainingPhase) and event.name == "baseline":
            request.disarm()  # the run is complete
        kept(event)
        progress(event)
        if log is not None:
            log(event)

    with listening(request), kept:
        with progress, log or contextlib.nullcontext():
            # Before PyTorch, and all that it needs, is imported.
            on_event(_first_phase(corpora, arguments))
            from textgen import train as library_train

            result = library_train(*corpora, on_event=on_event, stop=request, **arguments)
        if output == "json":
            records.emit_record(records.training_record(result))
        else:
            better = tables.better_models(result, arguments["out"])
            console.show(*tables.training_summary(result, arguments["out"]), *better)
    if result.interrupted is not None:
        if output == "json":
            folder = tables.quoted(arguments["out"])
            console.note(
                f"stopped, and saved; continue with: textgen train --out {folder} --resume"
            )
        raise typer.Exit(exit_code(result.interrupted))


def _first_phase(corpora: list[str], arguments: dict[str, Any]) -> TrainingPhase:
    if arguments["resume"] and not corpora:
        return TrainingPhase("loading", f"the run in {arguments['out']}")
    source = CorpusSource(tuple(corpora), arguments["valid"])
    return TrainingPhase("reading", source.name, total=source.size)


class _Kept(contextlib.AbstractContextManager["_Kept"]):
    """Says what a run that a signal ends at once has saved, and how to continue it."""

    def __init__(self, out: str, *, resumes: bool) -> None:
        self._folder, self._resumes = tables.quoted(out), resumes
        self._saved: int | None = None
        self._is_complete = False

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingPhase):
            self._is_complete = event.name == "baseline"
        elif isinstance(event, CheckpointSaved) and event.name == "last":
            self._saved = event.step

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not SystemExit:
            return
        again = f"textgen train --out {self._folder} --resume"
        if self._is_complete:
            console.note(f"stopped; the run is complete and saved in {self._folder}")
        elif self._saved is not None:
            console.note(f"stopped at once; from step {self._saved:,} it continues with:")
            console.say_plain(f"  {again}")
        elif self._resumes:
            console.note("stopped, and the run is as it was; continue with:")
            console.say_plain(f"  {again}")
        else:
            console.note("stopped before anything was saved; the same command starts again")


def _run_silently(corpora: list[str], arguments: dict[str, Any]) -> None:
    """Take part in a run of several processes, of which the first writes all output."""
    request = StopRequest(among=True)

    def stop() -> int | None:
        request.arm()  # the signal is reported to rank 0, which decides
        return request()

    with listening(request):
        from textgen import train as library_train

        try:
            result = library_train(*corpora, stop=stop, **arguments)
        except ResourceError:
            if request.signum is None:
                raise
            raise typer.Exit(exit_code(request.signum)) from None
    if result.interrupted is not None:
        raise typer.Exit(exit_code(result.interrupted))
