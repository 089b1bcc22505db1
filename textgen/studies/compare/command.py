"""``textgen compare``: which model learns this text best?"""

import sys
from typing import Annotated, Any, Literal

import typer

from textgen.cli.failures import StopRequest, exit_code, listening
from textgen.cli.options import (
    Corpora,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    ThreadsOption,
    ValidOption,
    choice_option,
    command_options,
)
from textgen.config import TokenizerConfig, TrainingConfig, option_names
from textgen.presentation import console, records
from textgen.results import TrainingStart
from textgen.studies.compare.config import ComparisonConfig
from textgen.studies.compare.results import ComparisonEvent
from textgen.studies.compare.view import ComparisonProgress, comparison_summary

Format = Literal["table", "json"]

EXAMPLES = """
    Every model there is, for a minute each, on your own text:
    textgen compare mytext.txt --out comparisons/mine
    One layer against two, three times each:
    textgen compare --out c --models lstm,lstm:hidden-size=256,256 --seeds 3
    Models of a million parameters each, that learn from as many updates:
    textgen compare mytext.txt --out c --parameters 1000000 --steps 2000
    Use one of them as any other checkpoint:
    textgen sample comparisons/mine/lstm-seed1
"""

OutOption = Annotated[
    str,
    typer.Option("--out", metavar="DIR", help="The folder of all runs.", show_default="required"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the comparison that is in --out.")
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "How to show what the models reached.")
]
_OF_TRAINING = tuple(option_names(TrainingConfig) - option_names(ComparisonConfig))


@command_options(ComparisonConfig, TokenizerConfig, extra={TrainingConfig: _OF_TRAINING})
def compare(
    *,
    corpus: Corpora = None,
    out: OutOption,
    overwrite: OverwriteOption = False,
    output: FormatOption = "table",
    given: dict[str, Any],
    valid: ValidOption = None,
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train several models alike on the same text, and compare what they reach.

    Each learns from the same tokens for the same time, or with --parameters at the same size,
    and is an ordinary checkpoint in a folder of its own in --out. The table has the best first;
    below it the loss is drawn against seconds, and each model writes a sample.

    An option of one model stands after its name. Ctrl-C saves and stops; the same command
    continues where it stopped, and may then name more models or seeds.
    """
    import textgen

    if not corpus:
        console.note("no corpus given: comparing on the bundled stories")
    progress = ComparisonProgress()
    request = StopRequest(progress.stopping)

    def on_event(event: ComparisonEvent) -> None:
        if isinstance(event, TrainingStart):
            request.arm()
        progress(event)

    with listening(request):
        with progress:
            found = textgen.compare(
                *(corpus or []),
                out=out,
                overwrite=overwrite,
                valid=valid,
                encoding=encoding,
                errors=errors,
                device=device,
                threads=threads,
                on_event=on_event,
                stop=request,
                **given,
            )
        if console.is_terminal(sys.stderr):
            console.say("")
        if output == "json":
            for run in found.runs:
                records.emit_record(run.to_json())
            records.emit_record({"total": found.to_json()})
        else:
            console.show(comparison_summary(found, console.out_console().width))
    if found.interrupted is not None:
        console.note("stopped, and saved; the same command continues it")
        raise typer.Exit(exit_code(found.interrupted))
