"""``textgen info``: what a checkpoint contains."""

from typing import Annotated, Literal

from textgen.cli.options import Checkpoint, choice_option, command_options
from textgen.presentation import console, records, tables

Format = Literal["table", "json"]

EXAMPLES = """
    What was trained, on what, and how well does it predict?
    textgen info checkpoints/mine
    The same for a script:
    textgen info checkpoints/mine --format json
"""


@command_options
def info(
    *,
    checkpoint: Checkpoint,
    output: Annotated[Format, choice_option("--format", Format, "How to show it.")] = "table",
) -> None:
    """Show what a checkpoint contains and how it was trained.

    Its sizes, tokenizer and corpus, the options and the loss curve of its training, its
    validation, and the versions of the software. Every byte of it is checked.
    """
    from textgen import checkpoint as library

    described = library.describe(checkpoint)
    if output == "json":
        records.emit_record(records.info_record(described))
    else:
        console.show(tables.checkpoint_info(described, console.out_console().width))
