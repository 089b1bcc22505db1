"""Ctrl-C and SIGTERM while training: the first asks it to stop, the second leaves at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class StopRequest:
    """Whether somebody asked training to stop, and by which signal.

    Until ``arm`` is called there is nothing to save, and the first signal ends the command.
    on_request is told once, from inside the signal handler: it must do little.
    """

    def __init__(self, on_request: Callable[[int], None] | None = None) -> None:
        self.signum: int | None = None
        self._armed = False
        self._on_request = on_request

    def __call__(self) -> int | None:
        return self.signum

    def arm(self) -> None:
        self._armed = True

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None or not self._armed:
            raise SystemExit(exit_code(signum))
        self.signum = signum
        if self._on_request is not None:
            self._on_request(signum)


def exit_code(signum: int) -> int:
    """What a shell reports of a program that this signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signum


@contextlib.contextmanager
def listening(request: StopRequest) -> Iterator[None]:
    """Hand both signals to ``request``, and put back what was there before."""
    previous: dict[signal.Signals, Any] = {}
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, request.handle)
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
