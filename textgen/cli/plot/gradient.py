"""``textgen plot gradient``: how far back does learning reach?"""

from typing import Annotated

import typer

from textgen.cli import parsing
from textgen.cli.fields import command_options
from textgen.cli.options import DeviceOption, ThreadsOption
from textgen.cli.plot.showing import (
    Checkpoints,
    FormatOption,
    OutOption,
    ReadOption,
    deliver,
    opened,
)

EXAMPLES = """
    Where does the plain network's gradient vanish, and the LSTM's not?
    textgen plot gradient checkpoints/lstm checkpoints/rnn --out gradient.png
    As far back as three hundred tokens, on a text of your own:
    textgen plot gradient checkpoints/mine --lags 300 --file my.txt
"""
_MOST_CHARACTERS = 400_000


@command_options()
def gradient(
    *,
    checkpoints: Checkpoints,
    file: ReadOption = None,
    lags: Annotated[
        int,
        typer.Option(
            "--lags",
            parser=parsing.whole_number("--lags", least=1),
            metavar="N",
            help="How many tokens back to look.",
            show_default="default: 100",
        ),
    ] = 100,
    out: OutOption = None,
    output: FormatOption = "picture",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show how much of a loss reaches back to what the network was k tokens before.

    That is the length of the gradient of one token's loss with respect to the state from which
    k more tokens were read: of an LSTM, hidden values and cells of all layers as one vector; of
    a plain network, its hidden values. Over many places of a text, in double precision.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation.pictures.gradient import gradient_picture, gradient_rows
    from textgen.presentation.pictures.line_figure import line_figure
    from textgen.presentation.pictures.line_terminal import line_terminal
    from textgen.studies.gradient import gradient_norms
    from textgen.studies.reading import text_to_read

    with opened(out) as target:
        measured, read = [], set()
        for path in checkpoints:
            model = LanguageModel.load(path, device=device, threads=threads, precision="float64")
            text, what = text_to_read(model, file, most=_MOST_CHARACTERS)
            measured.append(gradient_norms(model, text, lags=lags))
            read.add(what)
        picture = gradient_picture(measured, read.pop() if len(read) == 1 else "")
        deliver(
            target,
            output,
            figure=lambda: line_figure([picture]),
            terminal=lambda width: line_terminal([picture], width),
            rows=lambda: gradient_rows(measured),
        )
