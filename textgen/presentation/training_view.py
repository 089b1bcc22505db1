"""One frame of the training display, for a terminal of any width."""

import math
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import shown
from textgen.presentation.numbers import count, duration, figure, fixed, rounded, size
from textgen.presentation.plots import Curve, plot
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    Validation,
)

_WIDEST = 110
_NARROW = 64
_LEAST_PLOT, _MOST_PLOT = 3, 8  # rows of dots; two more are a gap and the labels
_LEAST_SAMPLE, _MOST_SAMPLE = 4, 8  # rows of text; two more are a gap and the title
_MOST_POINTS = 512
_WRAPPER = Console(width=_WIDEST)  # Text.wrap asks for one, for its tab size alone


@dataclass
class TrainingState:
    """What the events so far add up to."""

    start: TrainingStart | None = None
    step: TrainingStep | None = None
    validation: Validation | None = None
    best_loss: float = float("inf")
    sample: TrainingSample | None = None
    saved: CheckpointSaved | None = None
    stopping: bool = False
    over: bool = False
    losses: list[tuple[float, float]] = field(default_factory=list)
    validations: list[tuple[float, float]] = field(default_factory=list)

    def add(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            self.start = event
        elif isinstance(event, TrainingStep):
            self.step = event
            self.losses = _thinned([*self.losses, (float(event.step), event.loss)])
        elif isinstance(event, Validation):
            self.validation = event
            self.best_loss = min(self.best_loss, event.loss)
            self.validations = _thinned([*self.validations, (float(event.step), event.loss)])
        elif isinstance(event, TrainingSample):
            self.sample = event
        elif isinstance(event, CheckpointSaved):
            self.saved = event


def training_view(state: TrainingState, width: int, height: int) -> RenderableType:
    """The frame: what is trained, how far, the figures, the curve, what the model writes."""
    width = min(width, _WIDEST) - 2
    figures = _figures(state, narrow=width < _NARROW)
    head: list[RenderableType] = [*_title(state, width), *_bars(state, width)]
    spare = height - len(head) - figures.row_count - 1  # one line to say that it is stopping
    gap = [Text()] if spare >= 3 else []  # above all, before the figures, below all
    plot_rows, sample_rows = _rows(spare - 3)
    parts = [*gap, *head, *gap, figures]
    if plot_rows and len(state.losses) > 3:
        curves = (
            Curve("training", state.losses, "faint"),
            Curve("validation", state.validations, "accent"),
        )
        parts += [Text(), plot(curves, width, plot_rows)]
    if sample_rows and state.sample is not None:
        parts += [Text(), *_sample(state.sample, width, sample_rows, steady=not state.over)]
    if state.stopping:
        parts.append(_stopping(width))
    return Padding(Group(*parts), (0, 1, len(gap), 1))


def _rows(spare: int) -> tuple[int, int]:
    """How many rows the curve and the sample get of those that are left; 0 where it does not fit.

    The sample has its least first, then the curve all it can use, then the sample more.
    """
    sample = _LEAST_SAMPLE if spare >= _LEAST_SAMPLE + 2 else 0
    spare -= sample + 2 if sample else 0
    curve = min(_MOST_PLOT, spare - 2) if spare >= _LEAST_PLOT + 2 else 0
    spare -= curve + 2 if curve else 0
    return curve, min(_MOST_SAMPLE, sample + spare) if sample else 0


def _stopping(width: int) -> Text:
    said = "Stopping: this step is finished and saved. Ctrl-C again leaves at once."
    return Text(said if len(said) <= width else "Stopping, and saving.", style="warning")


def _title(state: TrainingState, width: int) -> list[Text]:
    start = state.start
    if start is None:
        return []
    what = f"{start.description}, {rounded(start.parameters)} parameters, {start.device}"
    title = Text.assemble((shown(start.out), "heading"), (f"  {shown(what)}", "label"))
    title.truncate(width, overflow="ellipsis")
    return [title]


def _bars(state: TrainingState, width: int) -> list[Text]:
    """How far the run is, and how far the pass over the training part."""
    step = state.step
    progress = min(1.0, max(0.0, step.progress)) if step else 0.0
    passes = max(1, math.ceil(step.epoch)) if step else 1
    part = step.epoch - (passes - 1) if step else 0.0
    left = duration(step.remaining_seconds) if step else "–"
    names = ("run", f"epoch {passes}")
    ends = (
        f" {progress:4.0%}  {left:>7} left",
        f" {part:4.0%}  step {count(step.step if step else 0)}",
    )
    name_width = max(9, *map(len, names))
    cells = max(4, width - name_width - max(map(len, ends)))
    return [
        Text.assemble((f"{name:<{name_width}}", "label"), *_bar(share, cells), end)
        for name, share, end in zip(names, (progress, part), ends, strict=True)
    ]


def _bar(share: float, cells: int) -> tuple[tuple[str, str], tuple[str, str]]:
    done = round(share * cells)
    return ("━" * done, "accent"), ("─" * (cells - done), "faint")


def _figures(state: TrainingState, *, narrow: bool) -> Table:
    """Names and numbers: what was learned on the left, how it runs on the right."""
    left, right = _learned(state), _running(state)
    table = Table.grid(padding=(0, 2, 0, 0))
    rows: list[tuple[str, str | Text]]
    if narrow:
        table.add_column(style="label")
        table.add_column()
        hidden = "perplexity" if _is_by_character(state) else "bits a character"
        rows = [each for each in (*left, *right[:3]) if each[0] != hidden]
        for name, value in rows:
            table.add_row(name, value)
        return table
    for _ in range(2):
        table.add_column(style="label", width=16)
        table.add_column(min_width=14)
    for (name, value), (other_name, other) in zip(left, right, strict=True):
        table.add_row(name, value, other_name, other)
    return table


def _is_by_character(state: TrainingState) -> bool:
    return state.start is not None and state.start.level == "char"


def _learned(state: TrainingState) -> list[tuple[str, str | Text]]:
    step, validation = state.step, state.validation
    loss: str | Text = "–"
    if validation is not None:
        best = validation.loss <= state.best_loss
        loss = Text.assemble(fixed(validation.loss, 4), ("  best" if best else "", "good"))
    if validation is not None and validation.pseudo:
        return [
            ("training loss", fixed(step.loss, 4) if step else "–"),
            ("pseudo-loss", loss),
            ("pseudo-perplexity", figure(validation.perplexity)),
            ("", ""),
        ]
    return [
        ("training loss", fixed(step.loss, 4) if step else "–"),
        ("validation loss", loss),
        ("perplexity", figure(validation.perplexity) if validation else "–"),
        ("bits a character", figure(validation.bits_per_character) if validation else "–"),
    ]


def _running(state: TrainingState) -> list[tuple[str, str | Text]]:
    step, saved = state.step, state.saved
    speed = f"{count(round(step.tokens_per_second))} tokens/s" if step else "–"
    return [
        ("speed", speed),
        ("learning rate", f"{step.learning_rate:.2g}" if step else "–"),
        ("memory", size(step.memory_bytes) if step and step.memory_bytes else "–"),
        ("saved", f"step {count(saved.step)}" if saved else "–"),
    ]


def _sample(sample: TrainingSample, width: int, rows: int, *, steady: bool) -> list[Text]:
    """The newest sample; steady: in a constant number of rows, so that nothing below it jumps."""
    title = Text(f"At step {count(sample.step)} the model writes", style="label")
    text = Text(shown(sample.text.strip("\n"), keep="\n").expandtabs(4))
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        lines += list(line.wrap(_WRAPPER, width - 2)) or [Text()]
    lines = [*lines, *([Text()] * rows if steady else [])][:rows]
    return [title, *(Text.assemble("  ", line) for line in lines)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same curve by means of two points each, once there are more than can be seen."""
    if len(points) < _MOST_POINTS:
        return points
    pairs = zip(points[::2], points[1::2], strict=False)
    return [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairs]
