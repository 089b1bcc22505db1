"""``textgen info``: what is this checkpoint?"""

from typing import Annotated, Literal

from textgen.cli.options import Checkpoint, choice_option, command_options

Format = Literal["table", "json"]

EXAMPLES = """
    What did I train, on what, and how well did it learn?
    textgen info checkpoints/mine
    The same for a script:
    textgen info checkpoints/mine --format json
"""


@command_options()
def info(
    *,
    checkpoint: Checkpoint,
    output: Annotated[Format, choice_option("--format", Format, "How to show it.")] = "table",
) -> None:
    """Show what a checkpoint is.

    Its sizes, tokenizer and corpus, how it was trained and how well it learned, with the
    curve of its training, and the versions of what made it. Every byte of it is checked.
    """
    from textgen import checkpoint as library
    from textgen.presentation import console, records
    from textgen.presentation.info import checkpoint_info

    described = library.describe(checkpoint)
    if output == "json":
        records.emit_record(records.info_record(described))
    else:
        width = console.out_console().width
        console.show(checkpoint_info(described, width))
