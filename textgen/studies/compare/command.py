"""``textgen compare``: the losses of several models on the same text."""

import contextlib
import math
import sys
from collections.abc import Iterator
from itertools import cycle
from typing import Annotated, Literal

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from textgen.cli.failures import StopRequest, exit_code, listening
from textgen.cli.options import (
    Corpora,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    SkipBinaryOption,
    ThreadsOption,
    ValidOption,
    choice_option,
    command_options,
    typed_options,
)
from textgen.config import TokenizerConfig, TrainingConfig
from textgen.data.corpus import CorpusSource
from textgen.presentation import records
from textgen.presentation.console import (
    inform,
    is_terminal,
    note,
    out_console,
    say,
    show,
    shown,
)
from textgen.presentation.numbers import duration, figure, fixed, label, rounded
from textgen.presentation.tables import ngram_advice, section
from textgen.presentation.terminal_plot import Curve, plot
from textgen.presentation.training import Progress, training_progress
from textgen.results import TrainingPhase, TrainingStart
from textgen.studies.compare.config import ComparisonConfig
from textgen.studies.compare.results import (
    Comparison,
    ComparisonEvent,
    ComparisonStart,
    ModelResult,
    RunResult,
    RunStart,
)

EXAMPLES = """
    Every kind of model, for a minute each, on your own text:
    textgen compare mytext.txt --out comparisons/mine
    One layer against two, three times each:
    textgen compare --out c --models lstm,lstm:hidden-size=256,256 --seeds 3
    Models of a million parameters each, for the same number of updates:
    textgen compare mytext.txt --out c --parameters 1000000 --steps 2000
    Use one of them like any other checkpoint:
    textgen sample comparisons/mine/lstm-seed1
"""

_STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red")
_WIDEST_PLOT, _LEAST_ROWS = 100, 14
_MARK = "*"


class ComparisonProgress(contextlib.ExitStack):
    """Shows the events of a comparison on stderr; a context manager.

    Each run has the display of training, and one line when it has ended.
    """

    _run: Progress | None = None
    _name = ""

    def __call__(self, event: ComparisonEvent) -> None:
        if isinstance(event, ComparisonStart):
            self.close()
            what = f"{event.runs} runs of {event.models} models" if event.runs > 1 else "1 run"
            what += f" on the same {rounded(event.train_tokens)} tokens"
            if event.finished:
                has = "has" if event.finished == 1 else "have"
                what += f"; {event.finished} {has} ended already"
            if event.runs > event.finished and event.seconds is not None:
                what += f"; they take {duration(event.seconds)} in total, and start-up"
            note(what)
        elif isinstance(event, RunStart):
            self._name = f"run {event.number} of {event.runs}: {shown(event.model)}"
            self._name += f", seed {event.seed}"
            left = event.remaining_seconds
            heading = self._name + ", resumed" * event.resumed
            heading += "" if left is None else f"; {duration(left)} left in total"
            if not is_terminal(sys.stderr):
                inform(Text(heading, no_wrap=True))
            self._run = training_progress(heading)
            self.enter_context(self._run)
        elif isinstance(event, RunResult):
            self.close()
            loss = f"{label('loss', pseudo=not event.is_causal)} {fixed(event.loss, 4)}"
            ended = f"  {loss}  {rounded(event.parameters)} parameters  "
            last = duration(event.seconds), "label"
            if event.failed is not None:
                ended, last = "  ", (f"failed: {shown(event.failed)}", "warning")
            tell = inform if event.failed is None else say
            tell(Text.assemble(self._name, ended, last, no_wrap=True))
        else:
            if self._run is None:  # the text is read
                self._run = training_progress()
                self.enter_context(self._run)
            self._run(event)

    def close(self) -> None:
        """End the display of the run."""
        super().close()
        self._run = None

    def stopping(self, signum: int) -> None:
        if self._run is not None:
            self._run.stopping(signum)


def comparison_summary(comparison: Comparison, width: int) -> RenderableType:
    """The table, the curves and a sample of each model, for a terminal of this width."""
    rows, done, planned = comparison.rows, len(comparison.runs), comparison.planned
    if not rows:
        return Text("no run has ended yet", style="label")
    title = "Comparison" if done == planned else f"Comparison, {done} of {planned} runs"
    parts = [section(title, Group(_table(rows, width - 2), Text(), *_remarks(comparison)))]
    drawn = _curves(rows, min(width, _WIDEST_PLOT) - 2)
    if drawn:
        which = ", the median run of each model" if done > len(rows) else ""
        parts.append(section(f"Validation loss against seconds of training{which}", drawn))
    if any(row.sample for row in rows):
        columns = Column(style="label", no_wrap=True), Column(no_wrap=True, ratio=1)
        samples = Table.grid(*columns, padding=(0, 2, 0, 0), expand=True)
        for row in rows:
            samples.add_row(shown(row.model), shown(row.sample or "–"))
        parts.append(section("Samples", samples))
    return Group(*parts)


def _table(rows: tuple[ModelResult, ...], width: int) -> Table:
    """The figures; if the width is small, columns are left out."""
    columns = {
        "parameters": [rounded(row.parameters) for row in rows],
        "seconds": [figure(row.seconds, 3) for row in rows],
        "tokens/s": [fixed(row.tokens_per_second, 0) for row in rows],
        "loss": [fixed(row.loss, 4) for row in rows],
        "±": ["–" if row.loss_deviation is None else fixed(row.loss_deviation, 4) for row in rows],
        "perplexity": [figure(row.perplexity) for row in rows],
        "bits/char": [figure(row.bits_per_character) for row in rows],
    }
    if not any(row.loss_deviation is not None for row in rows):
        del columns["±"]
    names = [shown(row.model) + ("" if row.is_causal else f" {_MARK}") for row in rows]
    names = [name.replace(":", "\n ") for name in names]  # an option in each line
    longest = max(cell_len(line) for name in names for line in name.split("\n"))
    for dispensable in ("seconds", "tokens/s", "perplexity"):
        taken = sum(max(map(cell_len, (name, *cells))) + 2 for name, cells in columns.items())
        if taken + longest > width:
            del columns[dispensable]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="label")
    table.add_column("model", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, name, *cells in zip(rows, names, *columns.values(), strict=True):
        has_loss = row.is_causal and row.failed < len(row.runs)
        table.add_row(name, *cells, style="" if has_loss else "label")
    return table


def _remarks(comparison: Comparison) -> list[Text]:
    """What the figures of the table mean, and what went wrong."""
    remarks = ["The best is first; loss is of the validation part, in nats per token."]
    seeds = max(len(row.runs) for row in comparison.rows)
    if seeds > 1:
        remarks.append(f"Means over {seeds} seeds; ± is the standard deviation of the loss.")
    if not all(row.is_causal for row in comparison.rows):
        remarks.append(
            f"{_MARK} a pseudo-loss, of tokens predicted from both sides: no loss compares with it."
        )
    texts = [Text(each, style="label") for each in remarks]
    texts += [Text(each, style="warning") for each in _better(comparison)]
    for run in comparison.runs:
        if run.failed is not None:
            failure = f"{shown(run.model)}, seed {run.seed}: {shown(run.failed)}"
            texts.append(Text(failure, style="warning"))
    return texts


def _better(comparison: Comparison) -> list[str]:
    """What predicts better than the best network of the comparison, and how to add it."""
    networks = [row for row in comparison.rows if row.is_causal and not _counts(row)]
    if comparison.ngram is None or not networks or math.isnan(networks[0].loss):
        return []
    advice = ngram_advice(shown(networks[0].model), networks[0].loss, comparison.ngram)
    if networks[0].runs[0].description.split(",")[0].split()[0] != "lstm":
        advice.pop("lstm+ngram", None)
    there = {row.runs[0].description.split(",")[0].split()[0] for row in comparison.rows}
    lines = list(advice.values())
    if missing := [model for model in advice if model not in there]:
        lines.append(
            f"To compare them, give the same command with --models ...,{','.join(missing)}"
        )
    return lines


def _counts(row: ModelResult) -> bool:
    return row.runs[0].description.split(",")[0] == "ngram"


def _curves(rows: tuple[ModelResult, ...], width: int) -> Text:
    """A curve per causal model, of the run with the median loss; a single point is a level line."""
    curves = {}
    for row in rows:
        good = [run for run in row.runs if run.failed is None and run.is_causal]
        if good:
            middle = sorted(good, key=lambda run: run.loss)[(len(good) - 1) // 2]
            curves[row.model] = [(each.seconds, each.loss) for each in middle.curve]
    if not any(len(points) > 1 for points in curves.values()):
        return Text()
    end = max(points[-1][0] for points in curves.values())
    styled = [
        Curve(shown(name), points if len(points) > 1 else [*points, (end, points[0][1])], style)
        for (name, points), style in zip(curves.items(), cycle(_STYLES), strict=False)
    ]
    rows_of_plot = max(_LEAST_ROWS, len(styled) + 2)
    return plot(styled, width, rows_of_plot, x_name="seconds", names_beside=True)


Format = Literal["table", "json"]
OutOption = Annotated[
    str,
    typer.Option("--out", metavar="DIR", help="The folder of all runs.", show_default="required"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the comparison that is in --out.")
]
FormatOption = Annotated[Format, choice_option("--format", Format, "How to show the results.")]


@contextlib.contextmanager
def _saying_how_to_continue() -> Iterator[None]:
    """Of a comparison that a signal ends at once."""
    try:
        yield
    except SystemExit:
        note("stopped at once; what was saved is kept, and the same command continues it")
        raise


@command_options
def compare(
    *,
    corpus: Corpora = None,
    out: OutOption,
    overwrite: OverwriteOption = False,
    output: FormatOption = "table",
    comparison: ComparisonConfig,
    tokens: TokenizerConfig,
    training: TrainingConfig,
    typed: frozenset[str],
    valid: ValidOption = None,
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    skip_binary: SkipBinaryOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train several models on the same text, and compare their losses.

    Each is trained on the same tokens for the same time, or with --parameters at the same size,
    and is an ordinary checkpoint in its own folder in --out. The table lists the best first; below
    it are a plot of the loss against seconds and a sample of each model.

    Options of one model follow its name. Ctrl-C saves and stops; the same command continues
    where it stopped, and may then name more models or seeds.
    """
    if not corpus:
        note("no corpus given: comparing on the bundled stories")
    progress = ComparisonProgress()
    request = StopRequest(progress.stopping)

    def on_event(event: ComparisonEvent) -> None:
        if isinstance(event, TrainingStart):
            request.arm()
        progress(event)

    with listening(request), _saying_how_to_continue():
        with progress:
            source = CorpusSource(tuple(corpus or []), valid)
            # Before PyTorch, and all that it needs, is imported.
            on_event(TrainingPhase("reading", source.name, total=source.size))
            import textgen

            found = textgen.compare(
                *(corpus or []),
                out=out,
                overwrite=overwrite,
                valid=valid,
                encoding=encoding,
                errors=errors,
                skip_binary=skip_binary,
                device=device,
                threads=threads,
                on_event=on_event,
                stop=request,
                **typed_options(typed, comparison, tokens, training),
            )
        if is_terminal(sys.stderr):
            inform("")
        if output == "json":
            for run in found.runs:
                records.emit_record(run.to_json())
            records.emit_record({"total": found.to_json()})
        else:
            show(comparison_summary(found, out_console().width))
    if found.interrupted is not None:
        note("stopped, and saved; the same command continues it")
        raise typer.Exit(exit_code(found.interrupted))
