"""Lines read ahead in a thread, and texts with the prefix that each continues."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

from textgen.errors import DataError

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


T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What an iterable gives, taken in a thread, some ahead.

    What taking it raises is raised in its place. most: how many wait at a time.
    """

    def __init__(self, items: Iterable[T], *, most: int) -> None:
        self._items, self._most = items, most
        self._come: deque[T] = deque()
        self._characters = 0
        self._changed = Condition()
        self._ended = self._left = False
        self._error: BaseException | None = None

    def __iter__(self) -> Generator[T]:
        # A daemon, because it may wait for a line that never comes.
        Thread(target=self._read, daemon=True).start()
        try:
            while self._has_next():
                yield self._next()
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

    def _size(self, item: T) -> int:
        """How many characters are held with it."""
        return 0

    def _has_next(self) -> bool:
        with self._changed:
            self._changed.wait_for(self._is_settled)
            return bool(self._come)

    def _next(self) -> T:
        with self._changed:
            item = self._come.popleft()
            self._characters -= self._size(item)
            self._changed.notify_all()
            return item

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._left:
                        return
                    self._come.append(item)
                    self._characters += self._size(item)
                    self._changed.notify_all()
        except BaseException as error:  # raised again where the items are wanted
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _is_settled(self) -> bool:
        return bool(self._come) or self._ended

    def _has_room(self) -> bool:
        held = len(self._come)
        few = held < self._most and self._characters < _MOST_CHARACTERS
        return self._left or not held or few


class Arriving(ReadAhead[Item]):
    """Texts that come slowly, or without end: lines of a pipe, of a person."""

    def __init__(self, texts: Iterable[Item]) -> None:
        super().__init__(texts, most=_MOST)

    def _size(self, item: Item) -> int:
        return characters_of(item)


def characters_of(item: Item) -> int:
    if isinstance(item, Text):
        return len(item.text) + len(item.prefix or "")
    return len(item) if isinstance(item, str) else sum(map(len, item))


_COLUMNS = ("prefix", "continuation")


def continuations(lines: Iterable[str], name: str) -> Iterator[Text]:
    """The prefix and the continuation of each line of a TSV, as they come.

    The first line may be a header, which says which columns these are; without one they are the
    only two. name: of the file. Raises DataError where a line has other columns.
    """
    places, count = (0, 1), 2
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if number == 1 and set(_COLUMNS) <= set(fields):
            places, count = (fields.index(_COLUMNS[0]), fields.index(_COLUMNS[1])), len(fields)
            continue
        if len(fields) != count:
            raise DataError(
                f"{len(fields)} columns, not {count}",
                where=f"{name}, line {number}",
                fix="put one tab between the prefix and its continuation",
            )
        yield Text(number, fields[places[1]], prefix=fields[places[0]])
