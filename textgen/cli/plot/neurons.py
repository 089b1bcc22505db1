"""``textgen plot neurons``: what does a single cell do?"""

from typing import Annotated

import typer

from textgen.cli import parsing
from textgen.cli.fields import command_options
from textgen.cli.options import Checkpoint, DeviceOption, ThreadsOption
from textgen.cli.plot.showing import FormatOption, OutOption, ReadOption, deliver, opened
from textgen.errors import UsageError

EXAMPLES = """
    Are there cells that count the line, or know that a quote is open?
    textgen plot neurons checkpoints/mine
    What does cell 17 of the lowest layer do, in a text of your own?
    textgen plot neurons checkpoints/mine "“Well,” he said." --unit cell.0.17
    The same for a slide:
    textgen plot neurons checkpoints/mine --unit 0.17 --out cell.png
"""
_READ_CHARACTERS = 4000
_SHOWN, _SHOWN_OF_EACH = 1600, 480  # tokens of one unit; of each of several


@command_options()
def neurons(
    *,
    checkpoint: Checkpoint,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT]", help="What it reads.", show_default=False),
    ] = None,
    file: ReadOption = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            metavar="UNIT",
            help="The unit to show: cell.0.17, or 0.17, layer and number, or 17, in the top layer.",
            show_default="default: those that keep track of something",
        ),
    ] = None,
    out: OutOption = None,
    output: FormatOption = "picture",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show a text in the colours of what one unit of the network does, letter by letter.

    Without --unit, all units are searched for those that go best with the position in the line,
    with being inside quotes and inside brackets, by correlation; the best of each is shown.
    Of an LSTM the units are its cells and hidden values.
    """
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot both be given", fix="leave one out")
    from textgen.language_model import LanguageModel
    from textgen.presentation.pictures import neurons as pictures
    from textgen.studies import neurons as study
    from textgen.studies.reading import text_to_read

    with opened(out) as target:
        model = LanguageModel.load(checkpoint, device=device, threads=threads)
        if text is None:
            text = text_to_read(model, file, most=_READ_CHARACTERS)[0]
        states = study.read_states(model, parsing.typed_text("TEXT", text))
        if unit is None:
            found = study.search(states)
            traces = study.best_traces(states, found, most=_SHOWN_OF_EACH)
            rows = pictures.tracking_rows(found)
        else:
            found, traces = [], [study.trace(states, unit, most=_SHOWN)]
            rows = pictures.trace_rows(traces)
        deliver(
            target,
            output,
            figure=lambda: pictures.traces_figure(traces),
            terminal=lambda width: pictures.traces_terminal(traces, found, width),
            rows=lambda: rows,
        )
