"""``textgen plot memory``: does it remember?"""

from typing import Annotated, Literal

from textgen.cli.fields import choice_option, command_options
from textgen.cli.options import DeviceOption, ThreadsOption
from textgen.cli.plot.showing import (
    Checkpoints,
    FormatOption,
    OutOption,
    ReadOption,
    deliver,
    opened,
)
from textgen.errors import UsageError

What = Literal["choices", "context"]

EXAMPLES = """
    Which of two models, trained on the bundled stories, remembers further back?
    textgen plot memory checkpoints/lstm checkpoints/rnn --out memory.png
    How much context does a model of any text make use of?
    textgen plot memory checkpoints/mine --what context
"""
_MOST_CHARACTERS = 2_000_000


@command_options()
def memory(
    *,
    checkpoints: Checkpoints,
    what: Annotated[
        What,
        choice_option("--what", What, "Choices over a distance, or the loss over the context."),
    ] = "choices",
    file: ReadOption = None,
    out: OutOption = None,
    output: FormatOption = "picture",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show what a model remembers.

    choices: of a model of the bundled stories, how often it finds the one of two that agrees
    with what was said long before: agreement, quotes, brackets, pronouns, facts; by the number
    of characters between. context: of any model, its loss when it sees only so many tokens of
    what comes before.
    """
    if what == "choices" and file is not None:
        raise UsageError("--file goes with --what context", fix="leave it out, or add that")
    from textgen.language_model import LanguageModel
    from textgen.presentation.pictures import memory as pictures
    from textgen.presentation.pictures.line_figure import line_figure
    from textgen.presentation.pictures.line_terminal import line_terminal
    from textgen.studies.memory import loss_by_context, recall
    from textgen.studies.reading import text_to_read

    with opened(out) as target:
        choices, contexts, read = {}, {}, set()
        for path in checkpoints:
            model = LanguageModel.load(path, device=device, threads=threads)
            if what == "choices":
                choices[path] = recall(model)
            else:
                text, source = text_to_read(model, file, most=_MOST_CHARACTERS)
                end = model.tokenizer.terminator
                sentences = text.removesuffix(end).split(end) if end else [text]
                contexts[path] = loss_by_context(model, sentences)
                read.add(source)
        if what == "choices":
            drawn, rows = pictures.choices_pictures(choices), pictures.choices_rows(choices)
        else:
            of = read.pop() if len(read) == 1 else ""
            drawn, rows = [pictures.context_picture(contexts, of)], pictures.context_rows(contexts)
        deliver(
            target,
            output,
            figure=lambda: line_figure(drawn, pictures.CHOICES_TITLE, pictures.CHOICES_NOTE),
            terminal=lambda width: line_terminal(drawn, width),
            rows=lambda: rows,
        )
