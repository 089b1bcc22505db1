"""``textgen sample``: let a model write."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli.fields import choice_option, command_options
from textgen.cli.interactive import converse
from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
)
from textgen.cli.parsing import typed_text
from textgen.config import NoveltyConfig, SamplingConfig, option_names
from textgen.errors import UsageError, named

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
    from textgen.results import Sample

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
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What to go on from; - reads prompts from stdin, one a line.",
        show_default=False,
        rich_help_panel="Text",
    ),
]
PromptFileOption = Annotated[
    str | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="A file whose whole text is the prompt.",
        show_default=False,
        rich_help_panel="Text",
    ),
]
InteractiveOption = Annotated[
    bool,
    typer.Option(
        "--interactive",
        "-i",
        help="Write by turns: you a line, the model the next.",
        rich_help_panel="Text",
    ),
]
CorpusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        metavar="PATH",
        help="Where the training text is, if it was moved; may be given again.",
        show_default=False,
        rich_help_panel="Novelty",
    ),
]
FormatOption = Annotated[
    Format, choice_option("--format", Format, "Text, or a JSON object for each sample.")
]


@command_options(SamplingConfig, NoveltyConfig)
def sample(
    *,
    checkpoint: Checkpoint,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    interactive: InteractiveOption = False,
    given: dict[str, Any],
    corpus: CorpusOption = None,
    output: FormatOption = "text",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Let a trained model write text.

    The text appears as it is written. It begins with the prompt, which on a terminal is bold;
    several samples are set apart by a line of dashes. With --format json every sample is one
    object, as soon as it is finished: text (what follows the prompt), its log-probability under
    the model, and why it ended.

    The same seed gives the same text. Each sample depends on the seed and its own number
    alone, so a larger --count only adds to what a smaller one wrote.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation import console, records
    from textgen.presentation.samples import SampleWriter

    novelty = NoveltyConfig.from_options(given)
    judges = novelty != NoveltyConfig() or bool(corpus)
    if interactive and (prompt == "-" or output == "json" or "count" in given or judges):
        raise UsageError("--interactive writes one text as it comes, and reads stdin itself")
    prompts = _prompts(prompt, prompt_file)
    options = {name: given[name] for name in given if name in option_names(SamplingConfig)}
    model = LanguageModel.load(checkpoint, device=device, threads=threads)
    for message in model.notes:
        console.note(message)
    if interactive:
        converse(model, prompts[0], options)
        return
    writer = SampleWriter(len(prompts) * SamplingConfig.from_options(options).count)
    if judges:
        samples = _novel(model, prompts, options, corpus or [], novelty)
    else:
        on_text = writer.piece if writer.streams and output == "text" else None
        samples = model.samples(prompts, on_text=on_text, **options)
    warned = set[str]()
    for written in samples:
        if written.prompt_unknown and written.prompt not in warned:
            warned.add(written.prompt)
            console.note(f"the model does not know {named(written.prompt_unknown)} of the prompt")
        if output == "json":
            records.emit_record(records.sample_record(written))
        else:
            writer.sample(written)
    writer.end()


def _novel(
    model: "LanguageModel",
    prompts: list[str],
    options: dict[str, Any],
    corpus: list[str],
    asked: NoveltyConfig,
) -> "Iterator[Sample]":
    """Samples with their novelty; says when the index is made, which takes a while."""
    from textgen.presentation import console
    from textgen.studies import novelty

    if not novelty.is_indexed(model):
        console.note("indexing the training text, this once")
    return novelty.novel_samples(
        model,
        prompts,
        index=novelty.open_index(model, corpus),
        least=asked.copied_length,
        min_novelty=asked.min_novelty or 0.0,
        **options,
    )


def _prompts(prompt: str | None, file: str | None) -> list[str]:
    """What the samples go on from. Files are read by the rules that a corpus is read by."""
    from textgen.corpus import sentences

    if prompt is not None and file is not None:
        raise UsageError("--prompt and --prompt-file cannot both be given", fix="leave one out")
    if file is not None:
        return ["\n".join(sentences(file))]
    if prompt == "-":
        return list(sentences("-"))
    return [typed_text("--prompt", prompt or "")]
