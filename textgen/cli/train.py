"""``textgen train``: learn a language model from text."""

import contextlib
import sys
from typing import Annotated, Any, Literal

import typer

from textgen.cli.failures import StopRequest, exit_code, listening
from textgen.cli.options import (
    Corpora,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    PresetOption,
    ThreadsOption,
    ValidOption,
    choice_option,
    command_options,
)
from textgen.config import ModelConfig, TokenizerConfig, TrainingConfig, flag, parse_duration
from textgen.errors import ResourceError, UsageError
from textgen.training.ranks import placed, speaks

Format = Literal["text", "json"]

_SECONDS_BETWEEN_SAMPLES = 8.0

EXAMPLES = """
    Train on the bundled stories for a minute:
    textgen train --out checkpoints/first --budget 60s
    Train on your own texts for two hours, with two layers:
    textgen train books/ --out checkpoints/b --budget 2h --hidden-size 512,512
    Go on where it stopped, for three hours altogether:
    textgen train --out checkpoints/b --resume --budget 3h
    See first what would be trained, and why:
    textgen train books/ --budget 2h --plan
    Train on words instead of characters:
    textgen train books/ --out checkpoints/words --level word --epochs 10
    Begin with that model, and learn from a text of another kind:
    textgen train mine/ --out checkpoints/m --init-from checkpoints/words
"""


OutOption = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="DIR", help="The folder to keep the model in.", show_default="required"
    ),
]
PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan", help="Tell what would be trained, how large, how fast and why, and stop there."
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on where the run in --out stopped; all else is remembered."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that is in --out.")
]
ChangedCorpusOption = Annotated[
    bool,
    typer.Option("--accept-changed-corpus", help="Resume although the text has changed since."),
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "How to show what the run reached.")
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="DIR",
        help="Use the tokenizer of this folder or checkpoint instead of learning one.",
        show_default=False,
        rich_help_panel="Tokens",
    ),
]
InitFromOption = Annotated[
    str | None,
    typer.Option(
        "--init-from",
        metavar="CHECKPOINT",
        help="Fine-tune: begin with the weights, shape and tokenizer of this checkpoint.",
        show_default=False,
    ),
]
ExtendVocabularyOption = Annotated[
    bool,
    typer.Option(
        "--extend-vocabulary",
        help="Add to --init-from's tokens those that are new in the text.",
        rich_help_panel="Tokens",
    ),
]
SampleEveryOption = Annotated[
    str | None,
    typer.Option(
        "--sample-every",
        metavar="TIME",
        help="Time between the samples shown while it learns, or none. They change no weight.",
        show_default=f"default: {_SECONDS_BETWEEN_SAMPLES:.0f}s on a terminal, else none",
        rich_help_panel="Watching and saving",
    ),
]
LogDirOption = Annotated[
    str | None,
    typer.Option(
        "--log-dir",
        metavar="DIR",
        help="Write the run for TensorBoard too; needs the package tensorboard.",
        show_default=False,
        rich_help_panel="Watching and saving",
    ),
]


@command_options(TokenizerConfig, ModelConfig, TrainingConfig)
def train(
    *,
    corpus: Corpora = None,
    out: OutOption = None,
    plan: PlanOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    accept_changed_corpus: ChangedCorpusOption = False,
    output: FormatOption = "text",
    valid: ValidOption = None,
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    init_from: InitFromOption = None,
    tokenizer: TokenizerOption = None,
    extend_vocabulary: ExtendVocabularyOption = False,
    preset: PresetOption = None,
    given: dict[str, Any],
    sample_every: SampleEveryOption = None,
    log_dir: LogDirOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train a recurrent language model on text.

    Learns a tokenizer and a model from the text, and shows how well it predicts the part that
    was held out. How long it runs is said by one of --budget, --epochs and --steps; the
    learning rate falls to zero exactly at the end.

    The folder --out then holds two checkpoints, best and last. Ctrl-C saves and stops; the
    same command with --resume goes on as if it had never stopped.
    """
    if resume and overwrite:
        raise UsageError(
            "--resume and --overwrite cannot both be given",
            why="one keeps the run in --out, the other replaces it",
            fix="keep one",
        )
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
        **given,
    }
    if plan:
        _refuse_with_plan(resume=resume, overwrite=overwrite)
        _plan(corpus or [], arguments, output)
        return
    if out is None:
        raise UsageError("--out is needed", fix="name the folder to keep the model in")
    arguments |= {
        "out": out,
        "resume": resume,
        "overwrite": overwrite,
        "accept_changed_corpus": accept_changed_corpus,
        "sample_every": _seconds_between_samples(sample_every),
    }
    if speaks():
        _run(corpus or [], arguments, output, log_dir)
    else:
        _follow(corpus or [], arguments)


def _refuse_with_plan(**others: bool) -> None:
    for name, value in others.items():
        if value:
            raise UsageError(
                f"--plan and {flag(name)} cannot both be given",
                why="a plan is of a run that begins",
                fix="keep one",
            )


def _plan(corpora: list[str], arguments: dict[str, Any], output: Format) -> None:
    from textgen import plan as library_plan
    from textgen.presentation import console, records
    from textgen.presentation import training as plans

    if not corpora:
        console.note("no corpus given: planning for the bundled stories")
    found = library_plan(*corpora, **arguments)
    if output == "json":
        records.emit_record(plans.plan_record(found))
    else:
        console.show(plans.plan_tables(found))


def _seconds_between_samples(typed: str | None) -> float | None:
    from textgen.presentation.console import is_terminal

    if typed is None:
        return _SECONDS_BETWEEN_SAMPLES if is_terminal(sys.stderr) else None
    if typed == "none":
        return None
    try:
        return parse_duration(typed, "--sample-every")
    except UsageError as error:
        raise UsageError(f"--sample-every: {error.what}", fix="write 10s, 5m or none") from None


def _run(
    corpora: list[str], arguments: dict[str, Any], output: Format, log_dir: str | None
) -> None:
    from textgen.presentation import console, records, tables
    from textgen.presentation.tensorboard import TensorBoardLog
    from textgen.presentation.training import training_progress
    from textgen.results import TrainingEvent, TrainingStart

    log = None if log_dir is None else TensorBoardLog(log_dir)
    if not corpora and not arguments["resume"]:
        console.note("no corpus given: training on the bundled stories")
    progress = training_progress()
    request = StopRequest(progress.stopping, among=placed() is not None)

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            request.arm()
        progress(event)
        if log is not None:
            log(event)

    with listening(request):
        from textgen import train as library_train

        with progress, log or contextlib.nullcontext():
            result = library_train(*corpora, on_event=on_event, stop=request, **arguments)
        if output == "json":
            records.emit_record(records.training_record(result))
        else:
            console.show(tables.training_summary(result, arguments["out"]))
    if result.interrupted is not None:
        if output == "json":
            folder = tables.quoted(arguments["out"])
            console.note(f"stopped, and saved; go on with: textgen train --out {folder} --resume")
        raise typer.Exit(exit_code(result.interrupted))


def _follow(corpora: list[str], arguments: dict[str, Any]) -> None:
    """Take part in a run of several processes, of which the first says everything."""
    request = StopRequest(among=True)

    def stop() -> int | None:
        request.arm()  # the first process hears of the signal, and is the one to decide
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
