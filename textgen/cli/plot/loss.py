"""``textgen plot loss``: how did it learn?"""

from pathlib import Path
from typing import Annotated

from textgen.cli.fields import choice_option, command_options
from textgen.cli.plot.showing import Checkpoints, FormatOption, OutOption, deliver, opened
from textgen.config import LossOver

EXAMPLES = """
    How one run learned:
    textgen plot loss checkpoints/mine
    Several runs, against the text they have seen, for a slide:
    textgen plot loss runs/* --x tokens --out loss.png
    The points as a table:
    textgen plot loss checkpoints/mine --format tsv > loss.tsv
"""

XOption = Annotated[LossOver, choice_option("--x", LossOver, "What the loss is shown over.")]


@command_options()
def loss(
    *,
    checkpoints: Checkpoints,
    x: XOption = "seconds",
    out: OutOption = None,
    output: FormatOption = "picture",
) -> None:
    """Show how the loss fell, in training and on the text held out, of one run or of several.

    The curves are in metrics.jsonl, in the folder that train wrote. The first steep fall goes
    out of the picture, where it would press all the rest flat; it is among the numbers.
    """
    from textgen import checkpoint as library
    from textgen.presentation.pictures.line_figure import line_figure
    from textgen.presentation.pictures.line_terminal import line_terminal
    from textgen.presentation.pictures.loss import loss_picture, loss_rows

    with opened(out) as file:
        runs = [library.loss_curves(Path(path)) for path in checkpoints]
        picture = loss_picture(runs, x)
        deliver(
            file,
            output,
            figure=lambda: line_figure([picture]),
            terminal=lambda width: line_terminal([picture], width),
            rows=lambda: loss_rows(runs),
        )
