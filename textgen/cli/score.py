"""``textgen score``: how probable is this text?"""

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from textgen.cli.fields import choice_option, command_options
from textgen.cli.options import (
    Checkpoint,
    ContextOption,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    LogBaseOption,
    ScorePrecision,
    ThreadsOption,
)
from textgen.cli.parsing import typed_text
from textgen.config import LogBase
from textgen.errors import UsageError
from textgen.results import ScoreSum, SentenceScore

Format = Literal["table", "tsv", "json"]
ScoreLevel = Literal["sentence", "token"]

EXAMPLES = """
    Which of two sentences is likelier, and by how much?
    textgen score checkpoints/mine --text "the dogs are" --text "the dogs is"
    How well does the model predict a text it has not seen?
    textgen score checkpoints/mine heldout.txt --context document
    The surprisal of every token, as a table for R or pandas:
    textgen score checkpoints/mine my.txt --level token --format tsv > my.tsv
"""


FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]",
        help="Sentences to score; - or nothing reads stdin.",
        show_default=False,
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="Score this sentence instead of a file; give it twice to compare two.",
        show_default=False,
    ),
]
LevelOption = Annotated[
    ScoreLevel,
    choice_option("--level", ScoreLevel, "Show each sentence, or every token of each."),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the scores.")]
PrecisionOption = Annotated[
    ScorePrecision,
    choice_option(
        "--precision", ScorePrecision, "Arithmetic of scoring; bf16 is rough.", panel="Machine"
    ),
]


@command_options()
def score(
    *,
    checkpoint: Checkpoint,
    file: FileArgument = None,
    text: TextOption = None,
    level: LevelOption = "sentence",
    context: ContextOption = "sentence",
    log_base: LogBaseOption = "e",
    output: FormatOption = "table",
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Say how probable sentences are.

    For each sentence: its log-probability, <EOS> included; perplexity a token, with and
    without the unknown ones; and bits a character, the figure in which models of different
    tokens compare. The totals come last.

    In JSON log_prob is natural, whatever --log-base says. TSV names the base in its header:
    log_prob, log2_prob or log10_prob; a token's surprisal is always in bits.
    """
    if file is not None and text:
        raise UsageError(
            "FILE and --text cannot both be given", where=file, fix="give the sentences one way"
        )
    from textgen.corpus import sentences
    from textgen.language_model import LanguageModel
    from textgen.presentation import console

    model = LanguageModel.load(checkpoint, device=device, threads=threads, precision=precision)
    unit = model.tokenizer.config.unit
    typed = [typed_text("--text", each) for each in text or ()]
    texts = typed or sentences(file or "-", unit=unit, encoding=encoding, errors=errors)
    scores = model.scores(texts, context=context, tokens=level == "token")
    _write(scores, output, log_base, tokens=level == "token", compare=len(text or ()) == 2)
    # Last, because an error in the text is to be the only line.
    for message in model.notes:
        console.note(message)


def _write(
    scores: Iterable[SentenceScore], output: Format, base: LogBase, *, tokens: bool, compare: bool
) -> None:
    """Write the scores as they come, then their totals and, of two texts, which is likelier."""
    from textgen.presentation import console
    from textgen.presentation import scores as writers

    writer = writers.FORMATS[output](base, tokens=tokens)
    total, number = ScoreSum(0.0, 0, 0, 0.0, 0), 0
    compared: list[SentenceScore] = []
    for each in scores:
        if number == 0:
            writer.begin()
        writer.sentence(each)
        total, number = total + each, number + 1
        if compare:
            compared.append(each)
    writer.end(total, number)
    if output == "tsv" and tokens:
        writers.say_totals(total, number, base)
    if output == "table" and len(compared) == 2:
        console.show("", writers.comparison(compared[0], compared[1], base))
