"""``textgen predict``: the probabilities of the next token or word, or of what fills a blank."""

from typing import Annotated, Literal

import typer
from rich.text import Text

from textgen.cli import options
from textgen.cli.options import choice_option, command_options, number_option, typed_text
from textgen.presentation import console, records
from textgen.presentation.samples import prediction_bars

Format = Literal["bars", "json"]

EXAMPLES = """
    What may come after this text, token by token?
    textgen predict checkpoints/mine "Once upon a"
    Which words may come?
    textgen predict checkpoints/mine "Once upon a " --words
    What fits into the blank? A bidirectional model reads the text on both sides of it:
    textgen predict checkpoints/both "The ____ sat on the mat"
    The whole distribution, for a script:
    textgen predict checkpoints/mine "Once upon a" --format json
"""


@command_options
def predict(
    *,
    checkpoint: options.Checkpoint,
    prompt: Annotated[
        str,
        typer.Argument(
            metavar="[TEXT]",
            help="The text so far, or a sentence with a ____; - reads texts from stdin, one per"
            " line.",
            show_default=False,
        ),
    ] = "",
    words: Annotated[
        bool, typer.Option("--words", help="Predict words, of any number of tokens.")
    ] = False,
    top: Annotated[
        int, number_option("--top", "How many to show, the most probable first.", default=10)
    ] = 10,
    output: Annotated[Format, choice_option("--format", Format, "How to show it.")] = "bars",
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
) -> None:
    """Show the most probable next tokens or words, or what fits into a blank (____).

    A bar for each of the most probable tokens, or words, and the entropy of the distribution in
    bits. --format json gives one object with every token, or with the most probable words.

    A blank, three underscores or more, stands for one token: for a character model, one character.
    """
    from textgen.data.text import sentences
    from textgen.language_model import LanguageModel

    prompts = sentences("-") if prompt == "-" else [typed_text("TEXT", prompt)]
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    options.say_notes(model)
    for each in prompts:
        predicted = model.predict(each, words=top if words else None)
        if output == "json":
            records.emit_record(records.prediction_record(predicted))
            continue
        if prompt == "-":
            console.show(Text(console.shown(each), style="heading"))
        console.show(prediction_bars(predicted, top, console.out_console().width))
