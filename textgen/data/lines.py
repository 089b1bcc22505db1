"""Texts to be scored, with the prefix that each continues; reading ahead in a thread."""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

from textgen.errors import DataError

_PAUSE_SECONDS = 0.1
_MOST_TEXTS, _MOST_CHARACTERS = 8192, 2**19


@dataclass(frozen=True)
class Text:
    """A text to be scored.

    Attributes:
        line: its number, from 1.
        prefix: the text that it continues; None if it is a whole sentence.
        word_ends: where its words end, in characters, if it comes in words of its own.
    """

    line: int
    text: str
    prefix: str | None = None
    word_ends: tuple[int, ...] | None = None


Item = str | tuple[str, str] | Text
"""A sentence, a (prefix, continuation) pair, or either with the number of its line."""


T = TypeVar("T")


class ReadAhead(Generic[T]):
    """An iterable of which a thread takes some items ahead.

    An exception of the iterable is raised after the items before it.

    Args:
        most: how many items wait at a time.
        characters: how many characters of memory an item takes; the items that wait take
            half a million at most, unless there is only one.
    """

    def __init__(
        self, items: Iterable[T], *, most: int, characters: Callable[[T], int] = lambda _: 0
    ) -> None:
        self._items, self._most, self._characters_of = items, most, characters
        self._waiting: deque[T] = deque()
        self._characters = 0
        self._changed = Condition()
        self._ended = self._abandoned = False
        self._error: BaseException | None = None

    def __iter__(self) -> Generator[T]:
        # A daemon, because it may wait for a line that never comes.
        Thread(target=self._read, daemon=True).start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._has_next_or_ended)
                    if not self._waiting:
                        break
                    item = self._waiting.popleft()
                    self._characters -= self._characters_of(item)
                    self._changed.notify_all()
                yield item
        finally:
            with self._changed:
                self._abandoned = True
                self._changed.notify_all()
        if self._error is not None:
            raise self._error

    def pauses(self) -> bool:
        """Whether no item arrives for a tenth of a second."""
        with self._changed:
            return not self._changed.wait_for(self._has_next_or_ended, _PAUSE_SECONDS)

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._abandoned:
                        return
                    self._waiting.append(item)
                    self._characters += self._characters_of(item)
                    self._changed.notify_all()
        except BaseException as error:  # raised again in the thread that takes the items
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _has_next_or_ended(self) -> bool:
        return bool(self._waiting) or self._ended

    def _has_room(self) -> bool:
        waiting = len(self._waiting)
        few = waiting < self._most and self._characters < _MOST_CHARACTERS
        return self._abandoned or not waiting or few


def arriving(texts: Iterable[Item]) -> ReadAhead[Item]:
    """Texts that arrive slowly, or without end: lines of a pipe, or typed."""
    return ReadAhead(texts, most=_MOST_TEXTS, characters=characters_of)


def characters_of(item: Item) -> int:
    if isinstance(item, Text):
        return len(item.text) + len(item.prefix or "")
    return len(item) if isinstance(item, str) else sum(map(len, item))


_UNSPACED_SCRIPTS = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"  # Thai to Balinese
    "\u3005-\u3007\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han, kana
    "\ua980-\ua9ff\uaa60-\uaa7f\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def has_unspaced_script(text: str) -> bool:
    """Whether some of it is in a script that is written without spaces between words."""
    return bool(_UNSPACED_SCRIPTS.search(text))


def _is_of_word(character: str) -> bool:
    """Whether this is a letter, digit or mark of a script that has spaces between words."""
    is_alphanumeric = unicodedata.category(character)[0] in "LMN"
    return is_alphanumeric and not _UNSPACED_SCRIPTS.match(character)


def joined_word(before: str, after: str) -> str | None:
    """The word that the end of a text and the beginning of the next form without a space.

    None if they form none, or in a script that is written without spaces.

    >>> joined_word("past the barn", "fell.")
    'barnfell'
    """
    if not (before and after and _is_of_word(before[-1]) and _is_of_word(after[0])):
        return None
    begin, end = len(before) - 1, 1
    while begin and _is_of_word(before[begin - 1]):
        begin -= 1
    while end < len(after) and _is_of_word(after[end]):
        end += 1
    return before[begin:] + after[:end]


_COLUMNS = ("prefix", "continuation")


def continuations(lines: Iterable[str], name: str) -> Iterator[Text]:
    """The prefix and the continuation of each line of a TSV file, as the lines arrive.

    The first line may be a header with the columns ``prefix`` and ``continuation``; without one,
    they are the only two columns.

    Args:
        name: of the file, for messages.

    Raises:
        DataError: A line has another number of columns.
    """
    places, count = (0, 1), 2
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if number == 1 and set(_COLUMNS) <= set(fields):
            places, count = (fields.index(_COLUMNS[0]), fields.index(_COLUMNS[1])), len(fields)
            continue
        if len(fields) != count:
            raise DataError(
                f"expected {count} columns, found {len(fields)}",
                where=f"{name}, line {number}",
                fix="put one tab between the prefix and its continuation",
            )
        yield Text(number, fields[places[1]], prefix=fields[places[0]])
