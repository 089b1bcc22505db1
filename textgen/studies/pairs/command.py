"""``textgen pairs``: which of two sentences a model finds more probable."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import typer

from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    JobsOption,
    PrecisionOption,
    TextFiles,
    ThreadsOption,
    choice_option,
    command_options,
)
from textgen.config import ScoringConfig

PairsFormat = Literal["table", "tsv", "json"]

EXAMPLES = """
    How often does the model prefer the grammatical sentence?
    textgen pairs checkpoints/mine blimp/wh_island.jsonl
    Counted by phenomenon, for R or pandas:
    textgen pairs checkpoints/mine pairs.tsv --by phenomenon --format tsv
"""

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Minimal pairs: BLiMP's JSON lines, or good and bad between tabs; - reads stdin.",
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FIELD",
        help="Count them by this field, too.",
        show_default="default: UID, linguistics_term or field",
    ),
]
FormatOption = Annotated[
    PairsFormat, choice_option("--format", PairsFormat, "How to show the counts.")
]


@command_options(extra={ScoringConfig: ("open_vocabulary",)})
def pairs(
    *,
    checkpoint: Checkpoint,
    file: FileArgument,
    by: ByOption = None,
    given: dict[str, Any],
    output: FormatOption = "table",
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Count the minimal pairs whose good sentence is the more probable one.

    The share of such pairs is given in all and by phenomenon, each with its 95 % interval.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation.tables import UnknownReport
    from textgen.studies.pairs import view
    from textgen.studies.pairs.pairs import Tally, read_pairs, score_pairs

    files = TextFiles(encoding, errors)
    model = LanguageModel.load(checkpoint, device=device, threads=threads, precision=precision)
    tally, writer = Tally(by), view.FORMATS[output](pseudo=not model.is_causal)
    unknown = UnknownReport(in_lines=False)
    open_vocabulary = given.get("open_vocabulary", False)

    def score(texts: Iterable[str]) -> Iterator[float]:
        scores = model.scores(texts, jobs=jobs, open_vocabulary=open_vocabulary)
        return (each.log_prob for each in unknown.counted(scores))

    for scored in score_pairs(read_pairs(files.read(file), file), score):
        tally.add(scored)
        writer.pair(scored)
    writer.end(tally.total, tally.by, tally.groups)
    unknown.say()
    files.say_notes(model)
