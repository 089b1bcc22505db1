"""A comparison of models: how it goes, its table, and a plot of loss against seconds."""

import sys
from itertools import cycle
from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import is_terminal, note, say, shown
from textgen.presentation.numbers import count, duration, figure, fixed, rounded
from textgen.presentation.plots import Curve, Point, plot
from textgen.presentation.progress import Progress, training_progress
from textgen.presentation.tables import section
from textgen.results import (
    ComparedRun,
    Comparison,
    ComparisonEvent,
    ComparisonRow,
    ComparisonStart,
    RunEnd,
    RunStart,
)
from textgen.studies.comparison_file import row_json

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
STYLES = (*_COLOURS, *(f"bright_{colour}" for colour in _COLOURS))
"""The styles of curves, in their order; neighbours are unlike."""
_WIDEST_PLOT, _LEAST_ROWS = 100, 14
_MARK = "*"
_DISPENSABLE = (None, "seconds", "tokens/s", "perplexity")  # None: long names in one line


class ComparisonProgress:
    """Receives the events of a comparison and shows them on stderr; a context manager.

    Each run has its display, and one line when it has ended.
    """

    def __init__(self) -> None:
        self._run: Progress | None = None

    def __call__(self, event: ComparisonEvent) -> None:
        if isinstance(event, ComparisonStart):
            note(_plan(event))
        elif isinstance(event, RunStart):
            self._begin(_heading(event))
        elif isinstance(event, RunEnd):
            self._end()
            _say_end(event)
        elif self._run is not None:
            self._run(event)

    def stopping(self, signum: int) -> None:
        if self._run is not None:
            self._run.stopping(signum)

    def _begin(self, heading: str) -> None:
        self._run = training_progress(passing=heading)
        if not is_terminal(sys.stderr):
            say(Text(heading, no_wrap=True))
        self._run.__enter__()

    def _end(self) -> None:
        if self._run is not None:
            self._run.__exit__(None, None, None)
            self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is None and is_terminal(sys.stderr):
            say(Text())


def _plan(start: ComparisonStart) -> str:
    models, left = len(start.models), start.runs - start.finished
    said = f"{start.runs} runs of {models} models" if start.runs > 1 else "1 run"
    said += f" on the same {rounded(start.train_tokens)} tokens"
    if start.finished:
        said += f"; {start.finished} {'has' if start.finished == 1 else 'have'} ended already"
    if left and start.seconds is not None:
        said += f"; altogether it takes {duration(start.seconds)} and what starting takes"
    return said


def _heading(start: RunStart) -> str:
    said = f"run {start.number} of {start.runs}: {shown(start.name)}, seed {start.seed}"
    if start.resumed:
        said += ", resumed"
    left = start.remaining_seconds
    return said if left is None else f"{said}; {duration(left)} left altogether"


def _say_end(end: RunEnd) -> None:
    run = end.run
    name = f"run {end.number} of {end.runs}: {shown(run.name)}, seed {run.seed}"
    if run.failed is not None:
        said = Text.assemble(name, "  ", (f"failed: {shown(run.failed)}", "warning"))
    else:
        loss = f"{'' if run.true else 'pseudo '}loss {fixed(run.loss, 4)}"
        said = Text(f"{name}  {loss}  {rounded(run.parameters)} parameters")
        said.append(f"  {duration(run.seconds)}", "label")
    said.no_wrap = True
    say(said)


def comparison_summary(comparison: Comparison, width: int) -> RenderableType:
    """The table, the curves and what each model writes, for a terminal of this width."""
    rows = comparison.rows
    if not rows:
        return Text("no run has ended yet", style="label")
    done = f"{len(comparison.runs)} of {comparison.planned} runs"
    title = "Comparison" if len(comparison.runs) == comparison.planned else f"Comparison, {done}"
    parts = [section(title, Group(_table(rows, width - 2), *_remarks(rows)))]
    drawn = _curves(rows, min(width, _WIDEST_PLOT) - 2)
    if drawn:
        several = any(len(row.runs) > 1 for row in rows)
        which = ", each model's middle run" if several else ""
        parts.append(section(f"Validation loss against seconds of training{which}", drawn))
    if any(row.sample for row in rows):
        parts.append(section("What they write", _samples(rows, width - 2)))
    return Group(*parts)


def _table(rows: tuple[ComparisonRow, ...], width: int) -> Table:
    """The figures. Where it is narrow names take several lines, and some columns are left out."""
    columns = {name: [each[name] for each in map(_figures, rows)] for name in _figures(rows[0])}
    if not any(row.loss_deviation is not None for row in rows):
        del columns["±"]
    names = [_name(row) for row in rows]
    for dispensable in _DISPENSABLE:
        taken = sum(max(map(cell_len, (name, *cells))) + 2 for name, cells in columns.items())
        if taken + max(map(cell_len, names)) <= width:
            break
        if dispensable is None:
            names = [name.replace(":", "\n ") for name in names]
        elif taken + max(cell_len(line) for name in names for line in name.split("\n")) > width:
            del columns[dispensable]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="label")
    table.add_column("model", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row, name, *cells in zip(rows, names, *columns.values(), strict=True):
        table.add_row(name, *cells, style="" if row.true and row.good else "label")
    return table


def _name(row: ComparisonRow) -> str:
    return shown(row.name) + ("" if row.true else f" {_MARK}")


def _figures(row: ComparisonRow) -> dict[str, str]:
    deviation = row.loss_deviation
    return {
        "parameters": rounded(row.parameters),
        "seconds": figure(row.seconds, 3),
        "tokens/s": "–" if not row.good else count(round(row.tokens_per_second)),
        "loss": fixed(row.loss, 4),
        "±": "–" if deviation is None else fixed(deviation, 4),
        "perplexity": figure(row.perplexity),
        "bits/char": figure(row.bits_per_character),
    }


def _remarks(rows: tuple[ComparisonRow, ...]) -> list[Text]:
    """What the figures of this table mean, and what went wrong."""
    said = ["The best is first; loss is of the validation part, in nats a token."]
    seeds = max(len(row.runs) for row in rows)
    if seeds > 1:
        said.append(f"Means over {seeds} seeds; ± is the standard deviation of the loss.")
    if not all(row.true for row in rows):
        said.append(
            f"{_MARK} a pseudo loss, of tokens predicted from both sides: no true one compares."
        )
    remarks = [Text(), *(Text(each, style="label") for each in said)]
    failed = [run for row in rows for run in row.runs if run.failed is not None]
    return remarks + [_failure(run) for run in failed]


def _failure(run: ComparedRun) -> Text:
    return Text(f"{shown(run.name)}, seed {run.seed}: {shown(run.failed or '')}", style="warning")


def _curves(rows: tuple[ComparisonRow, ...], width: int) -> Text:
    """A curve for each true loss, of its middle run; one reached at once holds from there on."""
    runs = [row.middle for row in rows if row.true and row.middle is not None]
    curves = {run.name: [(each.seconds, each.loss) for each in run.curve] for run in runs}
    if not any(len(points) > 1 for points in curves.values()):
        return Text()
    end = max(points[-1][0] for points in curves.values())
    styled = [
        Curve(shown(name), _held(points, end), style)
        for (name, points), style in zip(curves.items(), cycle(STYLES), strict=False)
    ]
    rows_of_plot = max(_LEAST_ROWS, len(styled) + 2)
    return plot(styled, width, rows_of_plot, x_name="seconds", names_beside=True)


def _held(points: list[Point], end: float) -> list[Point]:
    return [*points, (end, points[-1][1])] if len(points) == 1 else points


def _samples(rows: tuple[ComparisonRow, ...], width: int) -> RenderableType:
    names = [shown(row.name) for row in rows]
    room = width - max(map(cell_len, names)) - 2
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="label", no_wrap=True)
    table.add_column(no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        text = Text(shown(row.sample) if row.sample else "–", no_wrap=True)
        text.truncate(max(room, 8), overflow="ellipsis")
        table.add_row(name, text)
    return Padding(table, 0)


def total_record(comparison: Comparison) -> dict[str, Any]:
    """The table as one object, which comes last."""
    total: dict[str, Any] = {
        "rows": [row_json(row) for row in comparison.rows],
        "runs": len(comparison.runs),
        "planned": comparison.planned,
        "out": comparison.out,
        "vocabulary_size": comparison.vocabulary_size,
        "train_tokens": comparison.train_tokens,
        "valid_tokens": comparison.valid_tokens,
    }
    if comparison.interrupted is not None:
        total["interrupted"] = comparison.interrupted
    return {"total": total}
