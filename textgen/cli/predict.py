"""``textgen predict``: what comes next, or stands in a blank?"""

from typing import Annotated, Literal

import typer

from textgen.cli import options as parsing
from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
    choice_option,
    command_options,
    typed_text,
)

Format = Literal["bars", "json"]

EXAMPLES = """
    What may come after this, token by token?
    textgen predict checkpoints/mine "Once upon a"
    And which words?
    textgen predict checkpoints/mine "Once upon a " --words
    What stands in the blank? A bidirectional model reads what is on both sides of it:
    textgen predict checkpoints/both "The ____ sat on the mat"
    The whole distribution, for a script:
    textgen predict checkpoints/mine "Once upon a" --format json
"""


@command_options()
def predict(
    *,
    checkpoint: Checkpoint,
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="[TEXT]",
            help="What has been written so far, or a sentence with a ____.",
            show_default=False,
        ),
    ] = "",
    words: Annotated[
        bool, typer.Option("--words", help="Predict the next word, over as many tokens as it has.")
    ] = False,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            parser=parsing.whole_number("--top", least=1),
            metavar="N",
            help="How many to show, the likeliest first.",
            show_default="default: 10",
        ),
    ] = 10,
    output: Annotated[Format, choice_option("--format", Format, "How to show it.")] = "bars",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show what may come next, or what may stand in a ____, and how probable it is.

    A bar for each of the likeliest tokens, or words, and the entropy of the distribution: how
    many bits it takes, on average, to say what comes. With --format json it is one object with
    every token; of words, of which there is no end, the likeliest.

    A blank, three underscores or more, is one token: of a character model one character.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation import console, records
    from textgen.presentation.samples import prediction_bars

    prompt = typed_text("TEXT", prompt)
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    for message in model.notes:
        console.note(message)
    predicted = model.predict(prompt, words=top if words else None)
    if output == "json":
        records.emit_record(records.prediction_record(predicted))
    else:
        width = console.out_console().width
        console.show(prediction_bars(predicted, top, width))
