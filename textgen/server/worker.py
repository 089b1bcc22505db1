"""The thread that computes: one batch of texts, which rows join and leave, and other work between.

The event loop hands rows in and is notified when they have something new; nothing else is shared.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from textgen.models import Model
from textgen.sampling.generator import Batch, Drawn, Request
from textgen.server.protocol import ProtocolError

TOGETHER = 64
"""The most texts side by side."""

_JOINING = 16
"""The most prompts read before the next token of the others."""

AnyResult = TypeVar("AnyResult")
Notify = Callable[[bool], None]


class Row:
    """A text that is being written.

    Args:
        notify: To be called when something is new after ``take``, with whether the text has ended.
        every_token: Whether tokens are news; otherwise only the end.

    Attributes:
        ended: Whether no more tokens come.
    """

    def __init__(self, request: Request, notify: Notify, *, every_token: bool) -> None:
        self.request, self.notify, self._every_token = request, notify, every_token
        self._drawn: deque[Drawn] = deque()
        self._is_news = False
        self.error: Exception | None = None
        self.cancelled = self.ended = False

    def add(self, drawn: Drawn) -> bool:
        """Append a token; returns whether that is news: the first since ``take``, or the end."""
        self._drawn.append(drawn)
        self.ended = drawn.finished is not None
        is_news = self.ended or (self._every_token and not self._is_news)
        self._is_news |= is_news
        return is_news

    def fail(self, error: Exception) -> None:
        self.error, self.ended = error, True

    def take(self) -> list[Drawn]:
        """The tokens that are new.

        Raises:
            Exception: The one that ended the row.
        """
        self._is_news = False  # first, so that a token that comes meanwhile is news
        if self.error is not None:
            raise self.error
        return [self._drawn.popleft() for _ in range(len(self._drawn))]


def notify_all(rows: Sequence[Row]) -> None:
    for row in rows:
        row.notify(row.ended)


class Worker:
    """Writes texts side by side, and does other work of the model, on one thread.

    Args:
        max_waiting: The most rows that wait for others to end.
        announce: Called on that thread with the rows that have news, once per token of all.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_waiting: int,
        announce: Callable[[Sequence[Row]], None] = notify_all,
    ) -> None:
        self._batch, self._max_waiting, self._announce = Batch(model), max_waiting, announce
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._running: dict[int, Row] = {}  # by the index of the request
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread when nothing is left to do."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows are being written, and how many wait."""
        return len(self._running), len(self._waiting)

    def submit(self, rows: list[Row]) -> None:
        """Write these texts, all or none.

        Raises:
            ProtocolError: Too many wait already.
        """
        with self._changed:
            ahead = len(self._running) + len(self._waiting)
            if ahead and ahead + len(rows) > TOGETHER + self._max_waiting:
                raise ProtocolError(
                    f"{len(self._waiting)} texts are waiting already; try again later",
                    status=429,
                    type="rate_limit_error",
                    code="rate_limit_exceeded",
                )
            self._waiting.extend(rows)
            self._changed.notify()

    def cancel(self, rows: list[Row]) -> None:
        """Give up these texts: the rows are free with the next token."""
        with self._changed:
            for row in rows:
                row.cancelled = True
            self._changed.notify()

    def call(self, work: Callable[[], AnyResult]) -> "Future[AnyResult]":
        """Do other work between two tokens."""
        future: Future[AnyResult] = Future()

        def do() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)

        with self._changed:
            self._work.append(do)
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._work or self._waiting or self._running or self._stopping
                )
                work = self._work.popleft() if self._work else None
                if self._stopping and not (work or self._waiting or self._running):
                    return
            if work is not None:
                work()
            self._draw(self._joining())

    def _joining(self) -> list[Row]:
        """The rows that join now; those that nobody waits for any more leave."""
        with self._changed:
            for index, row in list(self._running.items()):
                if row.cancelled:
                    self._batch.end(index)
                    del self._running[index]
            room = min(_JOINING, TOGETHER - len(self._running))
            joining: list[Row] = []
            while self._waiting and len(joining) < room:
                if not (row := self._waiting.popleft()).cancelled:
                    joining.append(row)
            self._running.update((row.request.index, row) for row in joining)
            return joining

    def _draw(self, joining: list[Row]) -> None:
        """A token for every row. What goes wrong ends all of them, and the next begin anew."""
        try:
            self._batch.step([row.request for row in joining])
            news = []
            for drawn in self._batch.draw() if self._batch.rows else ():
                row = self._running[drawn.index]
                if row.add(drawn):
                    news.append(row)
                if row.ended:
                    del self._running[drawn.index]
            if news:
                self._announce(news)
        except Exception as error:
            self._batch.clear()
            with self._changed:
                failed = list(self._running.values())
                self._running.clear()
            for row in failed:
                row.fail(error)
            self._announce(failed)
