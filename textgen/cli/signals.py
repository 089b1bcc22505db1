"""Ctrl-C and SIGTERM while training: the first asks it to stop, the second leaves at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked training to stop, and by which signal.

    Until ``arm`` is called there is nothing to save, and the first signal ends the command.
    on_request is told once, from inside the signal handler: it must do little. among: it is
    one of several processes. Then a second signal is not impatience but torchrun, which hands on
    what all were sent; and the first one, while they wait to find each other, must not wait too.
    """

    def __init__(
        self, on_request: Callable[[int], None] | None = None, *, among: bool = False
    ) -> None:
        self.signum: int | None = None
        self._armed = False
        self._on_request, self.among = on_request, among

    def __call__(self) -> int | None:
        return self.signum

    def arm(self) -> None:
        if self.among and not self._armed:
            for signum in _SIGNALS:
                signal.signal(signum, self.handle)
        self._armed = True

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and self.among:
            return
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
        for signum in _SIGNALS:
            handler = signal.SIG_DFL if request.among else request.handle
            previous[signum] = signal.signal(signum, handler)
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
