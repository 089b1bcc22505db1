"""``textgen export``: write a model in the format of another program."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textgen.cli.options import Checkpoint, choice_option, command_options, say_notes
from textgen.errors import ResourceError
from textgen.presentation.console import note

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

FORMATS = {
    "transformers": "textgen.exports.transformers",
    "arpa": "textgen.exports.arpa",
    "onnx": "textgen.exports.onnx",
}
"""The formats by name, each with its module: its function ``write(model, out)`` checks that the
model has a kind that the format can hold, writes, and returns the notes for the user. A module is
imported when its format is asked for."""

Write = Callable[["LanguageModel", Path], list[str]]

EXAMPLES = """
    For transformers: a folder that AutoModelForCausalLM and AutoTokenizer open
    textgen export checkpoints/mine --to transformers exported/mine
    An n-gram model for KenLM and speech recognisers:
    textgen export checkpoints/5gram --to arpa mine.arpa.gz
    A network for onnxruntime:
    textgen export checkpoints/mine --to onnx exported/onnx
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
) -> None:
    """Write a model in the format of another program.

    What is written needs no textgen, and gives the probabilities of textgen score.
    """
    from textgen.language_model import LanguageModel

    if Path(out).exists():
        raise ResourceError("exists", where=out, fix="name another, or remove it first")
    write: Write = import_module(FORMATS[to]).write
    model = LanguageModel.load(checkpoint, device="cpu")
    for message in write(model, Path(out)):
        note(message)
    say_notes(model)
