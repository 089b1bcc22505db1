"""``textgen pairs``: how often a model finds the good sentence of a pair more probable."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

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
    value_option,
)
from textgen.config import ScoringConfig
from textgen.presentation.console import say, show, shown
from textgen.presentation.formats import UnknownReport
from textgen.presentation.numbers import count, fixed, labelled
from textgen.presentation.records import emit_record, emit_rows
from textgen.results import Accuracy
from textgen.studies.pairs.pairs import PairScore, Tally, read_pairs, score_pairs

EXAMPLES = """
    How often does the model prefer the grammatical sentence?
    textgen pairs checkpoints/mine blimp/wh_island.jsonl
    Counted by phenomenon, for R or pandas:
    textgen pairs checkpoints/mine pairs.tsv --by phenomenon --format tsv
"""


def _write_table(tally: Tally, *, pseudo: bool) -> None:
    """The groups, those with the lowest accuracy first, then the total."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="label")
    table.add_column(Text(shown(tally.by or "")), overflow="fold")
    for name in ("accuracy", "95 % interval", "right", "pairs"):
        table.add_column(name, justify="right", no_wrap=True)
    hardest_first = sorted(tally.groups.items(), key=lambda group: (group[1].share, group[0]))
    rows = [(Text(shown(name)), accuracy) for name, accuracy in hardest_first]
    for title, accuracy in [*rows, (Text("all", style="heading"), tally.total)]:
        shares = accuracy.share, *accuracy.interval
        share, low, high = (fixed(100 * each, 1) for each in shares)
        counts = count(accuracy.right), count(accuracy.pairs)
        table.add_row(title, f"{share} %", f"{low} – {high} %", *counts)
    show(table)
    likelier = "has the greater pseudo-log-likelihood" if pseudo else "is the likelier"
    show(Text(f"Right: the good sentence {likelier}. Intervals are Wilson's.", "label"))
    if tally.total.tied:
        noun = "pair is" if tally.total.tied == 1 else "pairs are"
        show(Text(f"{count(tally.total.tied)} {noun} equally likely: not right.", "warning"))


def _write_tsv(tally: Tally) -> None:
    """A row for each group; the total goes to stderr. Pairs without groups are one, ``all``."""
    groups = dict(sorted(tally.groups.items())) or {"all": tally.total}
    emit_rows([[tally.by or "group", *_accuracy_record(tally.total)]])
    emit_rows([name, *_accuracy_record(each).values()] for name, each in groups.items())
    total = tally.total
    right = f"right: {count(total.right)} of {count(total.pairs)}, {100 * total.share:.1f} %"
    say(Text(right, style="label", no_wrap=True))


def _accuracy_record(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    counts = {"right": accuracy.right, "tied": accuracy.tied, "pairs": accuracy.pairs}
    return {"accuracy": accuracy.share, "low": low, "high": high, **counts}


def _pair_record(scored: PairScore, *, pseudo: bool) -> dict[str, Any]:
    record = {
        "line": scored.pair.line,
        "sentence_good": scored.pair.good,
        "sentence_bad": scored.pair.bad,
        "fields": dict(scored.pair.fields),
        "log_prob_good": scored.good_log_prob,
        "log_prob_bad": scored.bad_log_prob,
        "right": scored.right,
    }
    return labelled(record, pseudo=pseudo)


Format = Literal["table", "tsv", "json"]
FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Minimal pairs: BLiMP's JSON lines, or good and bad between tabs; - reads stdin.",
    ),
]
ByOption = Annotated[
    str | None,
    value_option(
        "--by",
        "FIELD",
        "Count them by this field, too.",
        default="UID, linguistics_term or field",
    ),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the counts.")]


@command_options
def pairs(
    *,
    checkpoint: Checkpoint,
    file: FileArgument,
    by: ByOption = None,
    config: Annotated[ScoringConfig, "open_vocabulary"],
    output: FormatOption = "table",
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Count the minimal pairs whose good sentence is the more probable one.

    The share of such pairs is given in total and by phenomenon, each with its 95 % interval.
    """
    from textgen.language_model import LanguageModel

    files = TextFiles(encoding, errors)
    model = LanguageModel.load(checkpoint, device=device, threads=threads, precision=precision)
    tally, unknown = Tally(by), UnknownReport(in_lines=False)

    def score(texts: Iterable[str]) -> Iterator[float]:
        scores = model.scores(texts, config, jobs=jobs)
        return (each.log_prob for each in unknown.counted(scores))

    for scored in score_pairs(read_pairs(files.read(file), file), score):
        tally.add(scored)
        if output == "json":
            emit_record(_pair_record(scored, pseudo=not model.is_causal))
    if output == "json":
        groups = {name: _accuracy_record(tally.groups[name]) for name in sorted(tally.groups)}
        emit_record({"total": _accuracy_record(tally.total) | {"by": tally.by, "groups": groups}})
    elif output == "tsv":
        _write_tsv(tally)
    else:
        _write_table(tally, pseudo=not model.is_causal)
    unknown.say()
    files.say_notes(model)
