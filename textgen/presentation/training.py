"""Training for people: a display that changes in place, plain lines, or TensorBoard."""

import contextlib
import importlib
import math
import sys
import textwrap
import time
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.errors import ResourceError, UsageError
from textgen.presentation.console import in_one_piece, is_terminal, live_console, note, say, shown
from textgen.presentation.numbers import (
    BITS_PER_CHARACTER,
    count,
    duration,
    figure,
    fixed,
    label,
    labelled,
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
_LEAST_PLOT, _MOST_PLOT = 3, 8  # rows of dots; two more are a gap and the labels
_LEAST_SAMPLE, _MOST_SAMPLE = 4, 8  # rows of text; two more are a gap and the title
_MOST_POINTS = 512
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
    over: bool = False
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
    head: list[RenderableType] = [*_title(state, width), *_bars(state, width)]
    spare = height - len(head) - figures.row_count - 1  # one line for the note on stopping
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
        stopping = "Stopping after this step, and saving. Ctrl-C again stops at once."
        short = "Stopping, and saving."
        parts.append(Text(stopping if len(stopping) <= width else short, style="warning"))
    return Padding(Group(*parts), (0, 1, len(gap), 1))


def _rows(spare: int) -> tuple[int, int]:
    """How many of the free rows the curve and the sample take; 0 for one that does not fit.

    First the sample gets its minimum, then the curve its maximum, then the sample the rest.
    """
    sample = _LEAST_SAMPLE if spare >= _LEAST_SAMPLE + 2 else 0
    spare -= sample + 2 if sample else 0
    curve = min(_MOST_PLOT, spare - 2) if spare >= _LEAST_PLOT + 2 else 0
    spare -= curve + 2 if curve else 0
    return curve, min(_MOST_SAMPLE, sample + spare) if sample else 0


def _title(state: TrainingState, width: int) -> list[Text]:
    start = state.start
    if start is None:
        return []
    model = f"{start.description}, {rounded(start.parameters)} parameters, {start.device}"
    title = Text.assemble((shown(start.out), "heading"), (f"  {shown(model)}", "label"))
    title.truncate(width, overflow="ellipsis")
    return [title]


def _bars(state: TrainingState, width: int) -> list[Text]:
    """The progress of the run and of the epoch."""
    step, number, epoch, left, progress, part = state.step, 0, 1, "–", 0.0, 0.0
    if step is not None:
        number, epoch = step.step, max(1, math.ceil(step.epoch))
        progress, part = min(1.0, max(0.0, step.progress)), step.epoch - (epoch - 1)
        left = duration(step.remaining_seconds)
    bars = (
        (f"{'run':<9}", progress, f" {progress:4.0%}  {left:>7} left"),
        (f"{f'epoch {epoch}':<9}", part, f" {part:4.0%}  step {count(number)}"),
    )
    name_width = max(len(name) for name, _, _ in bars)
    cells = max(4, width - name_width - max(len(end) for _, _, end in bars))
    lines = []
    for name, part, end in bars:
        done = round(part * cells)
        bar = ("━" * done, "accent"), ("─" * (cells - done), "faint")
        lines.append(Text.assemble((f"{name:<{name_width}}", "label"), *bar, end))
    return lines


def _figures(state: TrainingState, *, narrow: bool) -> Table:
    """Names and numbers: losses on the left, speed and the like on the right."""
    left, right = _loss_facts(state), _run_facts(state)
    if narrow:
        by_character = state.start is not None and state.start.level == "char"
        hidden = "perplexity" if by_character else BITS_PER_CHARACTER
        return facts(pair for pair in (*left, *right[:3]) if pair[0] != hidden)
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(style="label", width=16)
        table.add_column(min_width=14)
    for pair, other in zip(left, right, strict=True):
        table.add_row(*pair, *other)
    return table


def _loss_facts(state: TrainingState) -> list[Fact]:
    validation = state.validation
    training: Fact = ("training loss", fixed(state.step.loss, 4) if state.step else "–")
    if validation is None:
        return [training, ("validation loss", "–"), ("perplexity", "–"), (BITS_PER_CHARACTER, "–")]
    best = "  best" if validation.loss <= state.best_loss else ""
    loss = Text.assemble(fixed(validation.loss, 4), (best, "good"))
    perplexity = figure(validation.perplexity)
    if validation.pseudo:
        names = [label(name, pseudo=True) for name in ("loss", "perplexity")]
        return [training, (names[0], loss), (names[1], perplexity), ("", "")]
    bits = figure(validation.bits_per_character)
    return [
        training,
        ("validation loss", loss),
        ("perplexity", perplexity),
        (BITS_PER_CHARACTER, bits),
    ]


def _run_facts(state: TrainingState) -> list[Fact]:
    step, saved = state.step, state.saved
    return [
        ("speed", f"{count(round(step.tokens_per_second))} tokens/s" if step else "–"),
        ("learning rate", f"{step.learning_rate:.2g}" if step else "–"),
        ("memory", size(step.memory_bytes) if step and step.memory_bytes else "–"),
        ("saved", f"step {count(saved.step)}" if saved else "–"),
    ]


def _sample(sample: TrainingSample, width: int, rows: int, *, steady: bool) -> list[Text]:
    """The newest sample.

    Args:
        steady: Whether it takes a constant number of rows, so that nothing below it jumps.
    """
    title = Text(f"At step {count(sample.step)} the model generates", style="label")
    text = Text(shown(sample.text.strip("\n"), keep="\n").expandtabs(4))
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        lines += list(line.wrap(_WRAPPER, width - 2)) or [Text()]
    lines = [*lines, *([Text()] * rows if steady else [])][:rows]
    return [title, *(Text.assemble("  ", line) for line in lines)]


def _thinned(points: list[Point]) -> list[Point]:
    """The means of pairs of points, once there are more than a plot can show."""
    if len(points) < _MOST_POINTS:
        return points
    pairs = zip(points[::2], points[1::2], strict=False)
    return [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairs]


_FRAME_SECONDS = 0.4
_LINE_SHARE, _LINE_SECONDS = 0.1, 60.0


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Shows the events of training on stderr; a context manager."""

    @abstractmethod
    def __call__(self, event: TrainingEvent) -> None: ...

    def stopping(self, signum: int) -> None:
        """A signal was received. Called inside a signal handler, which must not write."""
        return

    def __exit__(self, *error: object) -> None:
        return


def training_progress(heading: str | None = None) -> Progress:
    """The display for the current stderr.

    Args:
        heading: Of a run that is one of several. A display that changes in place shows it above,
            and disappears at the end of the run.
    """
    return LiveProgress(heading) if is_terminal(sys.stderr) else LineProgress()


class LiveProgress(Progress):
    """One frame, redrawn in place.

    It is drawn only at events, by the thread that trains: no other thread competes with training
    for the interpreter, and nothing flickers.
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
                self._live.console.print(Text(f"note: {shown(message)}", style="label"))
        elif isinstance(event, TrainingWarning):
            self._live.console.print(Text(f"warning: {shown(event.text)}", style="warning"))
        self._state.add(event)
        now = time.monotonic()
        if not isinstance(event, TrainingStep) or now - self._drawn_at >= _FRAME_SECONDS:
            self._draw()
            self._drawn_at = now

    def stopping(self, signum: int) -> None:
        self._state.stopping = True

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._state.start is None:
            self._live.update(Text())
            self._live.transient = True
        else:
            self._state.stopping, self._state.over = False, True
            self._draw()
        self._live.stop()

    def _draw(self) -> None:
        seen = self._console.size
        with in_one_piece(self._console):
            if seen != self._drawn_for:  # the terminal has wrapped the last frame
                self._console.clear()
                self._drawn_for = seen
            self._live.update(self._frame(seen.width, seen.height), refresh=True)

    def _frame(self, width: int, height: int) -> RenderableType:
        if self._heading is None:
            return training_view(self._state, width, height)
        above = Text(f" {self._heading}", style="label", no_wrap=True, overflow="ellipsis")
        return Group(above, training_view(self._state, width, height - 1))


class LineProgress(Progress):
    """A line for each validation, and one for every tenth of the run or every minute."""

    def __init__(self) -> None:
        self._next_progress = 0.0
        self._next_seconds = 0.0

    def __call__(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            self._started(event)
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

    def _started(self, start: TrainingStart) -> None:
        for message in start.notes:
            note(message)
        _say_line(
            f"training {shown(start.out)}:",
            shown(start.description),
            f"{rounded(start.parameters)} parameters",
            f"vocabulary {count(start.vocabulary_size)}",
            f"{start.device} {start.precision}",
        )

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


def _say_line(*parts: str) -> None:
    say(Text("  ".join(parts), no_wrap=True))


_SCALARS = {
    "loss/training": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "tokens_per_second": "tokens_per_second",
}


class TensorBoardLog(contextlib.AbstractContextManager["TensorBoardLog"]):
    """Logs the events of training to TensorBoard under a folder; a context manager.

    Nothing is written before the run starts. A resumed run uses the same folder: what was logged
    after the step from which it is resumed is no longer shown.

    Raises:
        ResourceError: The optional package is missing, or the folder is a file.
    """

    def __init__(self, folder: str) -> None:
        if not folder:
            raise UsageError("--log-dir needs a folder")
        try:
            importlib.import_module("tensorboard")
        except ImportError as error:
            raise ResourceError(
                "--log-dir needs the package tensorboard",
                why="it is not installed",
                fix="pip install 'textgen[tensorboard]'",
            ) from error
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
            for name, attribute in _SCALARS.items():
                self._writer.add_scalar(name, getattr(event, attribute), event.step)
        elif isinstance(event, Validation):
            (name,) = labelled({"loss": event.loss}, pseudo=event.pseudo)
            self._writer.add_scalar(f"{name}/validation", event.loss, event.step)
            self._writer.flush()
        elif isinstance(event, TrainingSample):
            # TensorBoard takes text for Markdown, in which indented text stays as it is.
            self._writer.add_text("sample", textwrap.indent(event.text, "    "), event.step)

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
