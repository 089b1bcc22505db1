"""``textgen sample``: let a model write."""

from typing import Annotated, Any, Literal

import typer

from textgen.cli.fields import choice_option, command_options
from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
)
from textgen.cli.parsing import typed_text
from textgen.config import SamplingConfig

Format = Literal["text", "json"]

EXAMPLES = """
    Let it write five hundred tokens:
    textgen sample checkpoints/mine
    Go on from a beginning, keeping to what is likely:
    textgen sample checkpoints/mine --prompt "Once upon" --temperature 0.7
    A hundred single sentences, for a script:
    textgen sample checkpoints/mine --count 100 --sentences 1 --format json
"""


PromptOption = Annotated[
    str,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What to go on from; - reads it from stdin.",
        show_default=False,
        rich_help_panel="Text",
    ),
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "Text, or a JSON object for each sample.")
]


@command_options(SamplingConfig)
def sample(
    *,
    checkpoint: Checkpoint,
    prompt: PromptOption = "",
    given: dict[str, Any],
    output: FormatOption = "text",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Let a trained model write text.

    The text appears as it is written. It begins with the prompt, which on a terminal is bold;
    several samples are set apart by a line of dashes. With --format json every sample is one
    object: text (what follows the prompt), its log-probability under the model, and why it
    ended.

    The same seed gives the same text. Each sample depends on the seed and its own number
    alone, so a larger --count only adds to what a smaller one wrote.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation import console, records
    from textgen.presentation.samples import SampleWriter

    prompt = _prompt_from_stdin() if prompt == "-" else typed_text("--prompt", prompt)
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    for message in model.notes:
        console.note(message)
    if output == "json":
        for written in model.samples(prompt, **given):
            records.emit_record(records.sample_record(written))
        return
    writer = SampleWriter(prompt, SamplingConfig.from_options(given).count)
    on_text = writer.piece if writer.streams else None
    for written in model.samples(prompt, on_text=on_text, **given):
        writer.sample(written)
    writer.end()


def _prompt_from_stdin() -> str:
    """All of stdin as one text, by the rules a corpus is read by, without its last newline."""
    from textgen.corpus import sentences

    return "\n".join(sentences("-"))
