"""Training as one watches it: a display that changes in place, or plain lines now and then."""

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from textgen.presentation.console import in_one_piece, is_terminal, live_console, note, say, shown
from textgen.presentation.numbers import count, duration, figure, fixed, rounded, size
from textgen.presentation.training_view import TrainingState, training_view
from textgen.results import (
    TrainingEvent,
    TrainingSample,
    TrainingStart,
    TrainingStep,
    TrainingWarning,
    Validation,
)

_FRAME_SECONDS = 0.4
_LINE_SHARE, _LINE_SECONDS = 0.1, 60.0


class Progress(ABC):
    """Receives the events of training and shows them on stderr; a context manager."""

    @abstractmethod
    def __call__(self, event: TrainingEvent) -> None: ...

    @abstractmethod
    def stopping(self, signum: int) -> None:
        """Somebody asked training to stop. Called inside a signal handler."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def training_progress(passing: str | None = None) -> Progress:
    """The display that suits stderr as it is now.

    passing: what stands above a display that changes in place, and then goes away with it,
    because the run is one of several.
    """
    return LiveProgress(passing) if is_terminal(sys.stderr) else LineProgress()


class LiveProgress(Progress):
    """One frame, drawn anew in place.

    It is drawn only when something happened, and by the thread that trains: no other thread
    competes with training for the interpreter, and nothing flickers.
    """

    def __init__(self, passing: str | None = None) -> None:
        self._passing = passing
        self._state = TrainingState()
        self._console = live_console()
        self._live = Live(
            Text("Reading the text …", style="label"),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=passing is not None,
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            if seen != self._drawn_for:  # the terminal has laid the last frame out anew
                self._console.clear()
                self._drawn_for = seen
            self._live.update(self._frame(seen.width, seen.height), refresh=True)

    def _frame(self, width: int, height: int) -> RenderableType:
        if self._passing is None:
            return training_view(self._state, width, height)
        above = Text(f" {self._passing}", style="label", no_wrap=True, overflow="ellipsis")
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
            pseudo = "pseudo-" if event.pseudo else ""
            bits = [] if pseudo else [f"{figure(event.bits_per_character)} bits/char"]
            _say_line(
                f"step {count(event.step)}",
                f"validation {pseudo}loss {fixed(event.loss, 4)}",
                f"{pseudo}perplexity {figure(event.perplexity)}",
                *bits,
            )
        elif isinstance(event, TrainingSample):
            _say_line(f"step {count(event.step)}", "the model writes:")
            for line in event.text.strip().splitlines():
                _say_line("", shown(line))
        elif isinstance(event, TrainingWarning):
            say(Text(f"textgen: warning: {shown(event.text)}"))

    def stopping(self, signum: int) -> None:
        """Nothing is written from inside a signal handler; the summary says it."""

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
            f"rate {step.learning_rate:.2g}",
            f"{count(round(step.tokens_per_second))} tokens/s",
            *([size(step.memory_bytes)] if step.memory_bytes else []),
            f"{duration(step.remaining_seconds)} left",
        )


def _say_line(*parts: str) -> None:
    say(Text("  ".join(parts), no_wrap=True))
