"""``textgen export``: write a model in the format of another program."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, get_args

import typer

from textgen.cli.options import (
    Checkpoint,
    choice,
    choice_option,
    command_options,
    say_notes,
    value_option,
)
from textgen.errors import ResourceError, UsageError
from textgen.exports import PagePrecision
from textgen.presentation.console import note

FORMATS = {
    "transformers": "textgen.exports.transformers",
    "arpa": "textgen.exports.arpa",
    "onnx": "textgen.exports.onnx",
    "html": "textgen.exports.html",
}
"""The formats by name, each with its module: its function ``write(model, out)`` checks that the
model has a kind that the format can hold, writes, and returns the notes for the user. A module is
imported when its format is asked for."""

Write = Callable[..., list[str]]

EXAMPLES = """
    For transformers: a folder that AutoModelForCausalLM and AutoTokenizer open
    textgen export checkpoints/mine --to transformers exported/mine
    An n-gram model for KenLM and speech recognisers:
    textgen export checkpoints/5gram --to arpa mine.arpa.gz
    A network for onnxruntime:
    textgen export checkpoints/mine --to onnx exported/onnx
    One page that writes and reads text in a browser, without a server:
    textgen export checkpoints/mine --to html story.html
"""


@command_options
def export(
    *,
    checkpoint: Checkpoint,
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="The file or folder to write; it must not exist yet."),
    ],
    to: Annotated[str, choice_option("--to", FORMATS, "The format.")],
    precision: Annotated[
        PagePrecision | None,
        value_option(
            "--precision",
            "PRECISION",
            "Of the weights in html: int8, float16 or float32; what it changes is measured.",
            default="int8",
            parser=choice("--precision", get_args(PagePrecision)),
        ),
    ] = None,
) -> None:
    """Write a model in the format of another program.

    What is written needs no textgen, and gives the probabilities of textgen score; html of 8 or
    16 bits nearly so.
    """
    from textgen.language_model import LanguageModel

    if Path(out).exists():
        raise ResourceError("OUT exists", where=out, fix="name another, or remove it first")
    if precision is not None and to != "html":
        raise UsageError(f"--precision does not apply to {to}", fix="leave it out")
    write: Write = import_module(FORMATS[to]).write
    model = LanguageModel.load(checkpoint, device="cpu")
    options = {} if precision is None else {"precision": precision}
    for message in write(model, Path(out), **options):
        note(message)
    say_notes(model)
