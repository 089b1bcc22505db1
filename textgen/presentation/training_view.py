"""One frame of the training display, for a terminal of any width."""

from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.presentation.console import shown
from textgen.presentation.numbers import count, duration, figure, fixed, rounded
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
_TALL, _SHORT = 26, 16
_PLOT_ROWS = 5
_SAMPLE_ROWS = 4
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
    parts: list[RenderableType] = [Text(), *_title(state, width), _bar(state, width)]
    parts += [Text(), _figures(state, narrow=width < _NARROW)]
    if height >= _TALL and len(state.losses) > 3:
        curves = (
            Curve("training", state.losses, "faint"),
            Curve("validation", state.validations, "accent"),
        )
        parts += [Text(), plot(curves, width, _PLOT_ROWS)]
    if height >= _SHORT and state.sample is not None:
        parts += [Text(), *_sample(state.sample, width)]
    if state.stopping:
        said = "Stopping: this step is finished and saved. Ctrl-C again leaves at once."
        parts.append(Text(said, style="warning"))
    return Padding(Group(*parts), (0, 1, 1, 1))


def _title(state: TrainingState, width: int) -> list[Text]:
    start = state.start
    if start is None:
        return []
    what = f"{start.description}, {rounded(start.parameters)} parameters, {start.device}"
    title = Text.assemble((shown(start.out), "heading"), (f"  {shown(what)}", "label"))
    title.truncate(width, overflow="ellipsis")
    return [title]


def _bar(state: TrainingState, width: int) -> Text:
    progress = min(1.0, max(0.0, state.step.progress)) if state.step else 0.0
    left = duration(state.step.remaining_seconds) if state.step else "–"
    said = f" {progress:4.0%}  {left:>7} left"
    cells = max(4, width - len(said))
    done = round(progress * cells)
    return Text.assemble(("━" * done, "accent"), ("─" * (cells - done), "faint"), said)


def _figures(state: TrainingState, *, narrow: bool) -> Table:
    """Names and numbers: what was learned on the left, how it runs on the right."""
    left, right = _learned(state), _running(state)
    table = Table.grid(padding=(0, 2, 0, 0))
    rows: list[tuple[str, str | Text]]
    if narrow:
        table.add_column(style="label")
        table.add_column()
        rows = [*left, *right[:3]]
        for name, value in rows:
            table.add_row(name, value)
        return table
    for _ in range(2):
        table.add_column(style="label", width=16)
        table.add_column(min_width=14)
    for (name, value), (other_name, other) in zip(left, right, strict=True):
        table.add_row(name, value, other_name, other)
    return table


def _learned(state: TrainingState) -> list[tuple[str, str | Text]]:
    step, validation = state.step, state.validation
    loss: str | Text = "–"
    if validation is not None:
        best = validation.loss <= state.best_loss
        loss = Text.assemble(fixed(validation.loss, 4), ("  best" if best else "", "good"))
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
        ("epoch", figure(step.epoch, 3) if step else "–"),
        ("learning rate", f"{step.learning_rate:.2g}" if step else "–"),
        ("saved", f"step {count(saved.step)}" if saved else "–"),
    ]


def _sample(sample: TrainingSample, width: int) -> list[Text]:
    """The newest sample in rows of a constant number, so that nothing below it jumps."""
    title = Text(f"At step {count(sample.step)} the model writes", style="label")
    text = Text(shown(sample.text.strip("\n"), keep="\n").expandtabs(4))
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        lines += list(line.wrap(_WRAPPER, width - 2)) or [Text()]
    lines = [*lines, *([Text()] * _SAMPLE_ROWS)][:_SAMPLE_ROWS]
    return [title, *(Text.assemble("  ", line) for line in lines)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same curve by means of two points each, once there are more than can be seen."""
    if len(points) < _MOST_POINTS:
        return points
    pairs = zip(points[::2], points[1::2], strict=False)
    return [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairs]
