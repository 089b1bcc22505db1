"""Training for people: a display that changes in place, plain lines, or TensorBoard."""

import contextlib
import importlib
import math
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textgen.errors import ResourceError, UsageError, missing_package
from textgen.presentation.console import (
    inform,
    is_quiet,
    is_terminal,
    live_console,
    note,
    say,
    shown,
)
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
    PhaseName,
    TrainingEvent,
    TrainingPhase,
    TrainingProgress,
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
_SLOW_SECONDS = 2.0
_NO_STEP = TrainingProgress(0, 0, math.nan, math.nan, 0, 0, 0, 0, 0, math.nan)
_DOING: dict[PhaseName, str] = {
    "reading": "Reading",
    "learning": "Learning the vocabulary of",
    "encoding": "Tokenizing",
    "loading": "Loading",
    "measuring": "Measuring the speed of",
    "counting": "Counting n-grams in",
    "validating": "Validating on",
    "saving": "Saving",
    "baseline": "Estimating an n-gram model for comparison",
}
_AFTER: dict[PhaseName, str] = {"validating": "this validation", "saving": "this save"}
_WRAPPER = Console(width=_WIDEST)  # Text.wrap asks for one, for its tab size alone


@dataclass
class TrainingState:
    """What the display shows of the events so far."""

    start: TrainingStart | None = None
    step: TrainingProgress | None = None
    validation: Validation | None = None
    best_loss: float = float("inf")
    sample: TrainingSample | None = None
    saved_step: int | None = None
    phase: TrainingPhase | None = None
    since_figures: float = 0.0  # seconds since the newest figures
    waited: float = 0.0  # seconds of the phase, or of the step
    stopping: bool = False
    ended: bool = False
    losses: list[Point] = field(default_factory=list)
    validations: list[Point] = field(default_factory=list)

    def add(self, event: TrainingEvent) -> None:
        self.phase = event if isinstance(event, TrainingPhase) else None
        if isinstance(event, TrainingStart):
            self.start = event
            if event.resumed_step:
                self.saved_step = event.resumed_step
            for step, loss in event.losses:
                self.losses = _thinned([*self.losses, (float(step), loss)])
            for validation in event.validations:
                self.add(validation)
            if event.best is not None:
                self.validation = self.validation or event.best
                self.best_loss = event.best.loss
        elif isinstance(event, TrainingProgress):
            if math.isnan(event.loss) and self.losses:
                event = replace(event, loss=self.losses[-1][1])
            self.step = event
            if isinstance(event, TrainingStep):
                self.losses = _thinned([*self.losses, (float(event.step), event.loss)])
        elif isinstance(event, Validation):
            self.validation = event
            self.best_loss = min(self.best_loss, event.loss)
            self.validations = _thinned([*self.validations, (float(event.step), event.loss)])
        elif isinstance(event, TrainingSample):
            self.sample = event
        elif isinstance(event, CheckpointSaved):
            self.saved_step = event.step


def training_view(state: TrainingState, width: int, height: int) -> RenderableType:
    """One frame: the model, the progress, the figures, the loss curves, a sample, the phase.

    Before the start of the run, the phase alone.
    """
    width = min(width, _WIDEST) - 2
    if state.start is None:
        return _status(state, width)
    figures = _figures(state, narrow=width < _NARROW)
    head: list[RenderableType] = [*_bars(state, width)]
    start = state.start
    model = ", ".join([start.description, *_parameters(start), start.device])
    title = Text.assemble((shown(start.out), "heading"), (f"  {shown(model)}", "label"))
    title.truncate(width, overflow="ellipsis")
    head.insert(0, title)
    rows = height - len(head) - figures.row_count - 1  # one line for the phase
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
    if rows >= _LEAST_PLOT + 2:  # with a gap and the labels
        curves = (
            Curve("training", state.losses, "faint"),
            Curve("validation", state.validations, "accent"),
        )
        plot_rows = min(_MOST_PLOT, rows - 2)
        drawn = plot(curves, width, plot_rows) if len(state.losses) > 1 else Text()
        parts += [Text(), drawn or Text("\n" * plot_rows)]  # its place, so that nothing jumps
    parts += sample
    frame = Padding(Group(*parts, *gap), (0, 1))
    return frame if state.ended else Group(frame, _status(state, width))


def _status(state: TrainingState, width: int) -> Text:
    """The phase, in one line; empty between phases.

    The cursor stays at its end, where the terminal writes ^C: that must not wrap.
    """
    phase, style = state.phase, "label"
    if state.stopping:
        after = _AFTER.get(phase.name, "this step") if phase is not None else "this step"
        line = f"Stopping after {after}, and saving. Ctrl-C again stops at once."
        style = "warning"
    elif phase is not None:
        line = phase_text(phase)
        if phase.total and phase.done:
            line += f"  {min(1.0, phase.done / phase.total):4.0%}"
        if state.waited >= 1:
            line += f"  {_whole(math.floor(state.waited))}"
    elif state.waited >= _SLOW_SECONDS and state.step is not None and state.step.progress < 1:
        line = f"Step {count(state.step.step + 1)}  {_whole(math.floor(state.waited))}"
    else:
        line = ""
    text = Text(f" {line}", style=style, no_wrap=True)
    text.truncate(width - 4, overflow="ellipsis")
    return text


def phase_text(phase: TrainingPhase) -> str:
    """What a run does, for people: ``Reading a.txt, 2.88 MB``."""
    text = f"{_DOING[phase.name]} {shown(phase.what)}".rstrip()
    if phase.name == "reading":
        if phase.total is not None:
            text += f", {size(phase.total)}"
        elif phase.done:
            text += f", {size(phase.done)} so far"
    return text


def _parameters(start: TrainingStart) -> list[str]:
    """Their number, unless the n-grams among them are still to be counted."""
    return [] if start.parameters is None else [f"{rounded(start.parameters)} parameters"]


def _bars(state: TrainingState, width: int) -> list[Text]:
    """The progress of the run and of the epoch."""
    step = state.step or _NO_STEP
    epoch, progress = max(1, math.ceil(step.epoch)), min(1.0, max(0.0, step.progress))
    part, left = step.epoch - (epoch - 1), _whole(_remaining(state))
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


def _whole(seconds: float) -> str:
    """A duration in whole seconds, for a clock: ``9s``, ``1m 22s``."""
    return f"{round(seconds)}s" if seconds < 10 else duration(seconds)


def _remaining(state: TrainingState) -> float:
    """Seconds left of the run; those since the newest figures have passed."""
    left = (state.step or _NO_STEP).remaining_seconds - state.since_figures
    return left if math.isnan(left) else max(0.0, left)


def _place(step: TrainingProgress) -> str:
    """When the next validation is due."""
    due = step.next_validation
    return "–" if math.isnan(due) else "at the end" if due >= 1 else f"at {due:.0%}"


def _figures(state: TrainingState, *, narrow: bool) -> Table:
    """Names and numbers: losses on the left, speed and the like on the right."""
    step, validation = state.step or _NO_STEP, state.validation
    pseudo = validation is not None and validation.pseudo
    loss, perplexity, bits = Text(_place(step), style="label"), "–", "–"
    if validation is not None:
        best = "  best" if validation.loss <= state.best_loss else ""
        loss = Text.assemble(fixed(validation.loss, 4), (best, "good"))
        perplexity = figure(validation.perplexity)
        bits = figure(validation.bits_per_character)
    left: list[Fact] = [
        ("training loss", fixed(step.loss, 4)),
        (label("loss", pseudo=True) if pseudo else "validation loss", loss),
        (label("perplexity", pseudo=pseudo), perplexity),
        ("", "") if pseudo else (BITS_PER_CHARACTER, bits),
    ]
    right: list[Fact] = [
        ("speed", f"{count(round(speed))} tokens/s" if (speed := step.tokens_per_second) else "–"),
        ("learning rate", f"{step.learning_rate:.2g}" if step.learning_rate > 0 else "–"),
        ("memory", size(step.memory_bytes) if step.memory_bytes else "–"),
        ("saved", "–" if state.saved_step is None else f"step {count(state.saved_step)}"),
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
_POLL_SECONDS = 0.2
_LINE_SHARE, _LINE_SECONDS = 0.1, 60.0
_SAID: frozenset[PhaseName] = frozenset({"reading", "measuring", "counting", "baseline"})


class LiveProgress(contextlib.AbstractContextManager["LiveProgress"]):
    """One frame, redrawn in place.

    It is drawn at events, by the thread that trains. At each whole second of a phase, or of a step,
    a thread that otherwise sleeps draws it, so that the clock goes on and leaves out no second.
    """

    def __init__(self, heading: str | None = None) -> None:
        self._heading = heading
        self._state = TrainingState()
        self._console = live_console()
        self._live = Live(
            Text(),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=heading is not None,
        )
        self._event_drawn_at, self._is_stale = -math.inf, False
        self._figures_at = self._phase_at = time.monotonic()
        self._tick_at = self._phase_at + 1
        self._drawn_for = self._console.size
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __call__(self, event: TrainingEvent) -> None:
        with self._lock:
            self._add(event)

    def _add(self, event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart):
            for message in event.notes:
                self._console.print(Text(f"note: {shown(message)}", style="label"))
        elif isinstance(event, TrainingWarning):
            self._console.print(Text(f"warning: {shown(event.text)}", style="warning"))
        now, before = time.monotonic(), self._state.phase
        self._state.add(event)
        phase, started = self._state.phase, self._state.start is not None
        begins = phase is not None and (before is None or phase.name != before.name)
        if isinstance(event, TrainingProgress):
            self._figures_at = now
        if begins or phase is None:
            self._phase_at, self._tick_at = now, now + 1
        # A phase of a run that takes less than a second is not shown: it would flicker.
        often = isinstance(event, TrainingProgress) or (phase is not None and not begins)
        if often and now - self._event_drawn_at < _FRAME_SECONDS:
            self._is_stale = True
        elif phase is None or not started:
            self._draw(of_event=True)

    def stopping(self, signum: int) -> None:
        """A signal was received. Called inside a signal handler, which must not write."""
        self._state.stopping = True
        self._event_drawn_at, self._is_stale = -math.inf, True  # it is drawn soon

    def __enter__(self) -> Self:
        self._live.start()
        self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._clock.join()
        if self._state.start is None:
            self._live.update(Text())
            self._live.transient = True
        else:
            self._state.ended = True
            self._draw(of_event=True)
        self._live.stop()

    def _tick(self) -> None:
        while not self._ended.wait(self._pause()):
            with self._lock:
                now = time.monotonic()
                stale = self._is_stale and now - self._event_drawn_at >= _FRAME_SECONDS
                if stale or now >= self._tick_at:
                    self._draw(of_event=stale)

    def _pause(self) -> float:
        """Seconds until a frame may be due."""
        return min(_POLL_SECONDS, max(0.0, self._tick_at - time.monotonic()))

    def _draw(self, *, of_event: bool) -> None:
        now, self._is_stale = time.monotonic(), False
        if of_event:
            self._event_drawn_at = now
        self._state.since_figures, self._state.waited = now - self._figures_at, now - self._phase_at
        self._tick_at = self._phase_at + math.floor(self._state.waited) + 1
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
    """Lines: one for a phase that may take long, each validation, every tenth or every minute."""

    _next_progress = _next_seconds = 0.0

    def __init__(self, heading: str | None = None) -> None:
        self._is_one_of_several = heading is not None
        self._state = TrainingState()

    def __call__(self, event: TrainingEvent) -> None:
        before = self._state.phase
        self._state.add(event)
        if isinstance(event, TrainingPhase):
            begins = before is None or before.name != event.name
            if begins and event.name in _SAID and not self._is_one_of_several:
                text = phase_text(event)
                _say_line(text[:1].lower() + text[1:])
        elif isinstance(event, TrainingStart):
            for message in event.notes:
                note(message)
            _say_line(
                f"training {shown(event.out)}:",
                shown(event.description),
                *_parameters(event),
                f"vocabulary {count(event.vocabulary_size)}",
                f"{event.device} {event.precision}",
            )
            if event.resumed_step:
                best = event.best and f"best validation loss {fixed(event.best.loss, 4)}"
                _say_line(f"step {count(event.resumed_step)}", "resumed", *([best] if best else []))
        elif isinstance(event, TrainingProgress):
            self._stepped(event)
        elif isinstance(event, Validation):
            pseudo = event.pseudo
            _say_line(
                f"step {count(event.step)}",
                f"validation {label('loss', pseudo=pseudo)} {fixed(event.loss, 4)}",
                f"{label('perplexity', pseudo=pseudo)} {figure(event.perplexity)}",
                *([] if pseudo else [f"{figure(event.bits_per_character)} {BITS_PER_CHARACTER}"]),
                *(["best"] if event.loss <= self._state.best_loss else []),
            )
        elif isinstance(event, TrainingSample):
            _say_line(f"step {count(event.step)}", "the model generates:")
            for line in event.text.strip().splitlines():
                _say_line("", shown(line))
        elif isinstance(event, TrainingWarning):
            say(Text(f"textgen: warning: {shown(event.text)}"))

    def _stepped(self, step: TrainingProgress) -> None:
        if math.isnan(step.loss) and step.progress < 1:  # before the first update
            return
        if step.progress < self._next_progress and step.seconds < self._next_seconds:
            return
        at_end = step.progress >= 1
        self._next_progress = math.inf if at_end else min(1.0, step.progress + _LINE_SHARE)
        self._next_seconds = math.inf if at_end else step.seconds + _LINE_SECONDS
        validates = self._state.validation is None and not math.isnan(step.next_validation)
        saved = self._state.saved_step
        _say_line(
            f"step {count(step.step)}",
            f"{step.progress:.0%}",
            f"epoch {figure(step.epoch, 3)}",
            f"loss {fixed(step.loss, 4)}",
            *([f"learning rate {step.learning_rate:.2g}"] if step.learning_rate > 0 else []),
            *([f"{count(round(speed))} tokens/s"] if (speed := step.tokens_per_second) else []),
            *([size(step.memory_bytes)] if step.memory_bytes else []),
            *([f"saved step {count(saved)}"] if saved else []),
            *([f"validation {_place(step)}"] if validates else []),
            f"{duration(step.remaining_seconds)} left",
        )

    def stopping(self, signum: int) -> None:
        """Called inside a signal handler, which must not write."""

    def __exit__(self, *error: object) -> None:
        pass


def _say_line(*parts: str) -> None:
    inform(Text("  ".join(parts), no_wrap=True))


Progress = LiveProgress | LineProgress


def training_progress(heading: str | None = None) -> Progress:
    """The display for the current stderr; with --quiet there are only warnings.

    With a heading, of a run that is one of several, what changes in place disappears at its end.
    """
    in_place = is_terminal(sys.stderr) and not is_quiet()
    return LiveProgress(heading) if in_place else LineProgress(heading)


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
