"""Texts read ahead in a thread, so that one can tell whether the next has come."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread

_PATIENCE = 0.1  # seconds after which what does not come is not waited for
_MOST, _MOST_CHARACTERS = 8192, 2**19


@dataclass(frozen=True)
class Text:
    """A text to be scored. line: its number, from 1. prefix: what it goes on from, if it is not a
    whole sentence."""

    line: int
    text: str
    prefix: str | None = None


Item = str | tuple[str, str] | Text
"""A sentence; or what a text goes on from, and it; or either with the number of its line."""


class Arriving:
    """An iterable of texts that come slowly, or without end: lines of a pipe, of a person.

    Some thousand are read ahead. What reading them raises is raised in its place.
    """

    def __init__(self, texts: Iterable[Item]) -> None:
        self._texts = texts
        self._come: deque[Item] = deque()
        self._characters = 0
        self._changed = Condition()
        self._ended = self._left = False
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Item]:
        # A daemon, because it may wait for a line that never comes.
        Thread(target=self._read, daemon=True).start()
        try:
            while (item := self._next()) is not None:
                yield item
        finally:
            with self._changed:
                self._left = True
                self._changed.notify_all()
        if self._error is not None:
            raise self._error

    def pauses(self) -> bool:
        """Whether nothing more comes for a moment."""
        with self._changed:
            return not self._changed.wait_for(self._is_settled, _PATIENCE)

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(self._is_settled)
            if not self._come:
                return None
            item = self._come.popleft()
            self._characters -= characters_of(item)
            self._changed.notify_all()
            return item

    def _read(self) -> None:
        try:
            for item in self._texts:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._left:
                        return
                    self._come.append(item)
                    self._characters += characters_of(item)
                    self._changed.notify_all()
        except BaseException as error:  # raised again where the texts are wanted
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _is_settled(self) -> bool:
        return bool(self._come) or self._ended

    def _has_room(self) -> bool:
        held = len(self._come)
        few = held < _MOST and self._characters < _MOST_CHARACTERS
        return self._left or not held or few


def characters_of(item: Item) -> int:
    if isinstance(item, Text):
        return len(item.text) + len(item.prefix or "")
    return len(item) if isinstance(item, str) else sum(map(len, item))
