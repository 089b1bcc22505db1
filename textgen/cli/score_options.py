"""The options of ``textgen score`` that no configuration has."""

from typing import Annotated, Any, get_args

import typer

from textgen.cli.fields import choice_option
from textgen.cli.options import ScorePrecision
from textgen.cli.parsing import whole_number
from textgen.config import NbestFormat, PairsFormat, ScoreFormat

_NBEST, _PAIRS = "N-best lists", "Minimal pairs"


def _named(name: str, metavar: str, help: str, *, panel: str | None = None) -> Any:
    """An option that is nothing unless it is given."""
    return typer.Option(name, metavar=metavar, help=help, show_default=False, rich_help_panel=panel)


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
    _named(
        "--text", "TEXT", "Score this sentence instead of a file; give it twice to compare two."
    ),
]
ContinuationsOption = Annotated[
    str | None,
    _named(
        "--continuations",
        "FILE",
        "Score what goes on from what: a TSV with the columns prefix and continuation.",
    ),
]
HtmlOption = Annotated[
    str | None,
    _named(
        "--html",
        "FILE",
        "Write the text as a heat map of surprisal into one HTML page, too.",
    ),
]
NbestOption = Annotated[
    str | None,
    _named(
        "--nbest",
        "FILE",
        "Rerank a recogniser's n-best list: lines of 'id hypothesis', or of id, acoustic"
        " score, language model's score and hypothesis between tabs.",
        panel=_NBEST,
    ),
]
TuneOption = Annotated[
    str | None,
    _named(
        "--tune",
        "REFERENCES",
        "Find the weights with the fewest word errors against lines of 'id words'.",
        panel=_NBEST,
    ),
]
MixOption = Annotated[
    str | None,
    _named(
        "--mix",
        "MODEL",
        "Another checkpoint, or an ARPA or KenLM file, to mix in word by word.",
        panel=_NBEST,
    ),
]
PairsOption = Annotated[
    str | None,
    _named(
        "--pairs",
        "FILE",
        "Count the minimal pairs whose good sentence is the likelier: BLiMP's JSON lines,"
        " or good and bad between tabs.",
        panel=_PAIRS,
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
