"""The options of ``textgen score`` that no configuration has."""

from typing import Annotated, get_args

import typer

from textgen.cli.fields import choice_option
from textgen.cli.options import ScorePrecision
from textgen.cli.parsing import whole_number
from textgen.config import NbestFormat, PairsFormat, ScoreFormat

_NBEST, _PAIRS = "N-best lists", "Minimal pairs"

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
ContinuationsOption = Annotated[
    str | None,
    typer.Option(
        "--continuations",
        metavar="FILE",
        help="Score what goes on from what: a TSV with the columns prefix and continuation.",
        show_default=False,
    ),
]
HtmlOption = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write the text as a heat map of surprisal into one HTML page, too.",
        show_default=False,
    ),
]
NbestOption = Annotated[
    str | None,
    typer.Option(
        "--nbest",
        metavar="FILE",
        help="Rerank a recogniser's n-best list: lines of 'id hypothesis', or of id, acoustic"
        " score, language model's score and hypothesis between tabs.",
        show_default=False,
        rich_help_panel=_NBEST,
    ),
]
TuneOption = Annotated[
    str | None,
    typer.Option(
        "--tune",
        metavar="REFERENCES",
        help="Find the weights with the fewest word errors against lines of 'id words'.",
        show_default=False,
        rich_help_panel=_NBEST,
    ),
]
MixOption = Annotated[
    str | None,
    typer.Option(
        "--mix",
        metavar="MODEL",
        help="Another checkpoint, or an ARPA or KenLM file, to mix in word by word.",
        show_default=False,
        rich_help_panel=_NBEST,
    ),
]
PairsOption = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        metavar="FILE",
        help="Count the minimal pairs whose good sentence is the likelier: BLiMP's JSON lines,"
        " or good and bad between tabs.",
        show_default=False,
        rich_help_panel=_PAIRS,
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FIELD",
        help="Count them by this field, too.",
        show_default="default: UID, linguistics_term or field",
        rich_help_panel=_PAIRS,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="How to show the scores.",
        show_default="; ".join(
            f"{of}{', '.join(get_args(names))}"
            for of, names in (
                ("", ScoreFormat),
                ("of --nbest: ", NbestFormat),
                ("of --pairs: ", PairsFormat),
            )
        ),
    ),
]
PrecisionOption = Annotated[
    ScorePrecision,
    choice_option(
        "--precision", ScorePrecision, "Arithmetic of scoring; bf16 is rough.", panel="Machine"
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        parser=whole_number("--jobs", least=1),
        metavar="N",
        help="Processes that share the work, each with a model; of GPUs each takes one.",
        show_default="default: 1",
        rich_help_panel="Machine",
    ),
]
