"""Training for people: a display that changes in place, plain lines, or TensorBoard."""

import contextlib
import importlib
import math
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.errors import ResourceError, UsageError, missing_package
from textgen.presentation.console import is_terminal, live_console, note, say, shown
from textgen.presentation.numbers import (
    BITS_PER_CHARACTER,
    PSEUDO,
    count,
    duration,
    figure,
    fixed,
    label,
    rounded,
    size,
)
from textgen.presentation.tables import Fact, facts
from textgen.presentation.terminal_plot import Curve, Point, plot
from textgen.results import (
    CheckpointSaved,
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)

_WIDEST = 110
_NARROW = 64
_LEAST_PLOT, _MOST_PLOT, _SAMPLE = 3, 8, 4  # rows
_MOST_POINTS = 512
_NO_STEP = TrainingStep(0, 0, 0, 0, 0, 0, 0, 0, 0, remaining_seconds=math.nan)
_WRAPPER = Console(width=_WIDEST)  # Text.wrap asks for one, for its tab size alone


@dataclass
class TrainingState:
    """What the display shows of the events so far."""

    start: TrainingStart | None = None
    step: TrainingStep | None = None
    validation: Validation | None = None
    best_loss: float = float("inf")
    sample: TrainingSample | None = None
    saved: CheckpointSaved | None = None
    stopping: bool = False
    losses: list[Point] = field(default_factory=list)
    validations: list[Point] = field(default_factory=list)

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
    """One frame: the model, the progress, the figures, the loss curves, a sample."""
    width = min(width, _WIDEST) - 2
    figures = _figures(state, narrow=width < _NARROW)
    head: list[RenderableType] = [*_bars(state, width)]
    if (start := state.start) is not None:
        model = f"{start.description}, {rounded(start.parameters)} parameters, {start.device}"
        title = Text.assemble((shown(start.out), "heading"), (f"  {shown(model)}", "label"))
        title.truncate(width, overflow="ellipsis")
        head.insert(0, title)
    rows = height - len(head) - figures.row_count - 1  # one line for the note on stopping
    gap = [Text()] if rows >= 3 else []  # above all, before the figures, below all
    parts = [*gap, *head, *gap, figures]
    rows -= 3
    sample: list[RenderableType] = []
    if rows >= _SAMPLE + 2:
        rows -= _SAMPLE + 2  # with a gap and a title
        if state.sample is not None:
            title = Text(f"At step {count(state.sample.step)} the model generates", style="label")
            text = Text(shown(state.sample.text.strip("\n"), keep="\n").expandtabs(4))
            lines = [*text.wrap(_WRAPPER, width - 2), *[Text()] * _SAMPLE]  # so that nothing jumps
            sample = [Text(), title, *(Text.assemble("  ", line) for line in lines[:_SAMPLE])]
    if rows >= _LEAST_PLOT + 2 and len(state.losses) > 3:  # with a gap and the labels
        curves = (
            Curve("training", state.losses, "faint"),
            Curve("validation", state.validations, "accent"),
        )
        parts += [Text(), plot(curves, width, min(_MOST_PLOT, rows - 2))]
    parts += sample
    if state.stopping:
        stopping = "Stopping after this step, and saving. Ctrl-C again stops at once."
        parts.append(Text(stopping, style="warning", no_wrap=True, overflow="ellipsis"))
    return Padding(Group(*parts), (0, 1, len(gap), 1))


def _bars(state: TrainingState, width: int) -> list[Text]:
    """The progress of the run and of the epoch."""
    step = state.step or _NO_STEP
    epoch, progress = max(1, math.ceil(step.epoch)), min(1.0, max(0.0, step.progress))
    part, left = step.epoch - (epoch - 1), duration(step.remaining_seconds)
    bars = (
        ("run", progress, f" {progress:4.0%}  {left:>7} left"),
        (f"epoch {epoch}", part, f" {part:4.0%}  step {count(step.step)}"),
    )
    name_width = max(9, *(len(name) for name, _, _ in bars))
    cells = max(4, width - name_width - max(len(end) for _, _, end in bars))
    lines = []
    for name, part, end in bars:
        done = round(part * cells)
        bar = ("━" * done, "accent"), ("─" * (cells - done), "faint")
        lines.append(Text.assemble((f"{name:<{name_width}}", "label"), *bar, end))
    return lines


def _figures(state: TrainingState, *, narrow: bool) -> Table:
    """Names and numbers: losses on the left, speed and the like on the right."""
    step, validation, saved = state.step, state.validation, state.saved
    pseudo = validation is not None and validation.pseudo
    loss, perplexity, bits = Text("–"), "–", "–"
    if validation is not None:
        best = "  best" if validation.loss <= state.best_loss else ""
        loss = Text.assemble(fixed(validation.loss, 4), (best, "good"))
        perplexity = figure(validation.perplexity)
        bits = figure(validation.bits_per_character)
    left: list[Fact] = [
        ("training loss", fixed(step.loss, 4) if step else "–"),
        (label("loss", pseudo=True) if pseudo else "validation loss", loss),
        (label("perplexity", pseudo=pseudo), perplexity),
        ("", "") if pseudo else (BITS_PER_CHARACTER, bits),
    ]
    right: list[Fact] = [
        ("speed", f"{count(round(step.tokens_per_second))} tokens/s" if step else "–"),
        ("learning rate", f"{step.learning_rate:.2g}" if step else "–"),
        ("memory", size(step.memory_bytes) if step and step.memory_bytes else "–"),
        ("saved", f"step {count(saved.step)}" if saved else "–"),
    ]
    if narrow:
        return facts((*left, *right[:2]))
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(style="label", width=16)
        table.add_column(min_width=14)
    for pair, other in zip(left, right, strict=True):
        table.add_row(*pair, *other)
    return table


def _thinned(points: list[Point]) -> list[Point]:
    """The means of pairs of points, once there are more than a plot can show."""
    if len(points) < _MOST_POINTS:
        return points
    pairs = zip(points[::2], points[1::2], strict=False)
    return [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairs]


_FRAME_SECONDS = 0.4
_LINE_SHARE, _LINE_SECONDS = 0.1, 60.0


class LiveProgress(contextlib.AbstractContextManager["LiveProgress"]):
    """One frame, redrawn in place.

    It is drawn only at events, by the thread that trains: no other competes with it.
    """

    def __init__(self, heading: str | None = None) -> None:
        self._heading = heading
        self._state = TrainingState()
        self._console = live_console()
        self._live = Live(
            Text("Reading the text …", style="label"),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=heading is not None,
        )
        self._drawn_at = 0.0
        self._drawn_for = self._console.size

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            for message in event.notes:
                self._console.print(Text(f"note: {shown(message)}", style="label"))
        elif isinstance(event, TrainingWarning):
            self._console.print(Text(f"warning: {shown(event.text)}", style="warning"))
        self._state.add(event)
        now = time.monotonic()
        if not isinstance(event, TrainingStep) or now - self._drawn_at >= _FRAME_SECONDS:
            self._draw()
            self._drawn_at = now

    def stopping(self, signum: int) -> None:
        """A signal was received. Called inside a signal handler, which must not write."""
        self._state.stopping = True

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._state.start is None:
            self._live.update(Text())
            self._live.transient = True
        else:
            self._state.stopping = False
            self._draw()
        self._live.stop()

    def _draw(self) -> None:
        terminal = self._console.size
        height = terminal.height - (self._heading is not None)
        frame = training_view(self._state, terminal.width, height)
        if self._heading is not None:
            above = Text(f" {self._heading}", style="label", no_wrap=True, overflow="ellipsis")
            frame = Group(above, frame)
        if terminal != self._drawn_for:  # it has wrapped the last frame
            self._console.clear()
            self._drawn_for = terminal
        self._live.update(frame, refresh=True)


class LineProgress(contextlib.AbstractContextManager["LineProgress"]):
    """A line for each validation, and one for every tenth of the run or every minute."""

    _next_progress = _next_seconds = 0.0

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            for message in event.notes:
                note(message)
            _say_line(
                f"training {shown(event.out)}:",
                shown(event.description),
                f"{rounded(event.parameters)} parameters",
                f"vocabulary {count(event.vocabulary_size)}",
                f"{event.device} {event.precision}",
            )
        elif isinstance(event, TrainingStep):
            self._stepped(event)
        elif isinstance(event, Validation):
            pseudo = event.pseudo
            _say_line(
                f"step {count(event.step)}",
                f"validation {label('loss', pseudo=pseudo)} {fixed(event.loss, 4)}",
                f"{label('perplexity', pseudo=pseudo)} {figure(event.perplexity)}",
                *([] if pseudo else [f"{figure(event.bits_per_character)} {BITS_PER_CHARACTER}"]),
            )
        elif isinstance(event, TrainingSample):
            _say_line(f"step {count(event.step)}", "the model generates:")
            for line in event.text.strip().splitlines():
                _say_line("", shown(line))
        elif isinstance(event, TrainingWarning):
            say(Text(f"textgen: warning: {shown(event.text)}"))

    def _stepped(self, step: TrainingStep) -> None:
        if step.progress < self._next_progress and step.seconds < self._next_seconds:
            return
        self._next_progress = step.progress + _LINE_SHARE
        self._next_seconds = step.seconds + _LINE_SECONDS
        _say_line(
            f"step {count(step.step)}",
            f"{step.progress:.0%}",
            f"epoch {figure(step.epoch, 3)}",
            f"loss {fixed(step.loss, 4)}",
            f"learning rate {step.learning_rate:.2g}",
            f"{count(round(step.tokens_per_second))} tokens/s",
            *([size(step.memory_bytes)] if step.memory_bytes else []),
            f"{duration(step.remaining_seconds)} left",
        )

    def stopping(self, signum: int) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def _say_line(*parts: str) -> None:
    say(Text("  ".join(parts), no_wrap=True))


Progress = LiveProgress | LineProgress


def training_progress(heading: str | None = None) -> Progress:
    """The display for the current stderr.

    With a heading, of a run that is one of several, what changes in place disappears at its end.
    """
    return LiveProgress(heading) if is_terminal(sys.stderr) else LineProgress()


class TensorBoardLog(contextlib.AbstractContextManager["TensorBoardLog"]):
    """Logs the events of training to TensorBoard under a folder; a context manager.

    Nothing is written before the run starts. What was logged after the step from which a run is
    resumed is no longer shown.

    Raises:
        UsageError: The optional package is missing.
        ResourceError: The folder is a file.
    """

    def __init__(self, folder: str) -> None:
        if not folder:
            raise UsageError("--log-dir needs a folder")
        try:
            importlib.import_module("tensorboard")
        except ImportError as error:
            raise missing_package("--log-dir", "tensorboard", "tensorboard") from error
        if Path(folder).exists() and not Path(folder).is_dir():
            raise ResourceError("--log-dir is not a folder", where=folder)
        self._folder = folder
        self._writer: Any = None

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            # torch is loaded here and not before: an error in the text is reported at once.
            module = importlib.import_module("torch.utils.tensorboard")
            # The first step that the run repeats.
            again = event.resumed_step + 1 if event.resumed_step else None
            self._writer = module.SummaryWriter(self._folder, purge_step=again)
        elif isinstance(event, TrainingStep):
            self._writer.add_scalar("loss/training", event.loss, event.step)
            for name in ("learning_rate", "gradient_norm", "tokens_per_second"):
                self._writer.add_scalar(name, getattr(event, name), event.step)
        elif isinstance(event, Validation):
            name = f"{PSEUDO}loss/validation" if event.pseudo else "loss/validation"
            self._writer.add_scalar(name, event.loss, event.step)
            self._writer.flush()
        elif isinstance(event, TrainingSample):
            # TensorBoard takes text for Markdown, in which indented text stays as it is.
            self._writer.add_text("sample", textwrap.indent(event.text, "    "), event.step)

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
