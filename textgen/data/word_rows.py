"""Texts in words, one per row of a CSV or TSV file: rows to items, their words to a text."""

import csv
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

from textgen.config import suggestion
from textgen.data.lines import Text, joined_word
from textgen.errors import DataError, TextgenWarning

_DELIMITERS = ",\t;"
_HEADER_READ = 2**16  # characters, to find the delimiter: the csv module refuses a longer cell
_APOSTROPHES = "'\u2019"
_CONTRACTED = ("n't", "n\u2019t")
_LONGEST_CLITIC = 3  # letters after an apostrophe: 's, 'll
_OPENING = ("Ps", "Pi")  # Unicode categories
_OPENING_MARKS = "\u00a1\u00bf"
_LOOSE = "#&*@/\\\u00a7\u00b6\u2020\u2021\u2022\u203b"  # with a space on both sides, as dashes
_CLOSING_QUOTES = {
    **{'"': '"', "\u201c": "\u201d", "\u201e": "\u201c\u201d"},
    **{"\u00ab": "\u00bb", "\u00bb": "\u00ab"},
}
"""The quotation marks that can open, and what then closes them."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: Its first in the file, from 1.
        text: As it stands in the file, without its end.
    """

    line: int
    text: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """Rows that are one text. words: The text that each row adds to it."""

    rows: tuple[Row, ...]
    words: tuple[str, ...]
    text: Text


class WordRows:
    """A table with a row for each word, delimited by commas, tabs or semicolons, with a header.

    The delimiter is the one that divides the header into columns of the names that are needed, or
    into most columns. Cells are quoted by the rules of the ``csv`` module; blank lines are no rows.

    Args:
        lines: Of the file, without their ends.
        name: Of the file, for messages.
        words: The column with the words.
        by: The columns, between commas, whose equal values in consecutive rows make an item; None:
            all rows are one.
        separator: What comes between words. If it is white space, it is not put before
            punctuation and contractions (``n't``, ``'s``), nor after opening brackets and quotation
            marks, and the words lose the white space around them.

    Raises:
        DataError: The header does not have the columns.
    """

    def __init__(
        self, lines: Iterable[str], name: str, *, words: str, by: str | None, separator: str
    ) -> None:
        self.name, self._separator, rest = name, separator, iter(lines)
        self._lines: list[str] = []  # of the row that is being read
        first = next(rest, "")
        wanted = [words, *_names(by, first)]

        def columns(delimiter: str) -> tuple[int, int]:
            cells = next(csv.reader([first[:_HEADER_READ]], delimiter=delimiter), [])
            return len(set(wanted) & set(cells)), len(cells)

        self.delimiter = max(_DELIMITERS, key=columns)
        reading = self._read(chain([first], rest))
        self.header = next(reading, Row(1, "", ()))
        self._word = self._column(words)
        self.by = [self._column(column) for column in wanted[1:]]
        self._rows = self._checked(reading)

    def items(self) -> Iterator[Item]:
        """The items, as the lines arrive.

        Raises:
            DataError: A row is not as the header, a word has a line break, or there are no rows.
        """
        warned = False
        for _, rows in groupby(self._rows, lambda row: [row.cells[place] for place in self.by]):
            item = self._item(tuple(rows))
            if not self._separator and not warned:
                warned = _warn_if_joined(item)
            yield item

    def _item(self, rows: tuple[Row, ...]) -> Item:
        words = tuple(row.cells[self._word] for row in rows)
        spaced = self._separator.isspace()
        if spaced:
            words = tuple(word.strip() for word in words)
        parts: list[str] = []
        ends: list[int] = []
        length, marks, joins_next = 0, _Marks(), True
        for word in words:
            joins, then = marks.read(word) if spaced else (False, False)
            if word:
                parts += [word] if joins or joins_next else [self._separator, word]
                length += len(word) if joins or joins_next else len(self._separator) + len(word)
                joins_next = then
            ends.append(length)
        return Item(rows, words, Text(rows[0].line, "".join(parts), word_ends=tuple(ends)))

    def _column(self, name: str) -> int:
        columns = self.header.cells
        if columns.count(name) != 1:
            raise DataError(
                f"{'two columns' if name in columns else 'no column'} {name!r}",
                where=f"{self.name}, line 1",
                why=f"it has {', '.join(map(repr, columns)) or 'none'}",
                fix=suggestion(name, columns) or "choose one of its columns",
            )
        return columns.index(name)

    def _read(self, lines: Iterator[str]) -> Iterator[Row]:
        """The header and the rows."""
        number = 1
        rows = csv.reader(self._taken(lines), delimiter=self.delimiter, strict=True)
        while True:
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise DataError(
                    "not a row of cells",
                    where=f"{self.name}, line {number}",
                    why=str(error),
                    fix='put a cell with a quotation mark in it between two, and double it: """"',
                ) from error
            if cells is None:
                return
            if cells:
                yield Row(number, "\n".join(self._lines), tuple(cells))
            number += len(self._lines)
            self._lines.clear()

    def _taken(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._lines.append(line)
            yield line + "\n"

    def _checked(self, rows: Iterator[Row]) -> Iterator[Row]:
        row, columns = None, len(self.header.cells)
        for row in rows:
            where = f"{self.name}, line {row.line}"
            if len(row.cells) != columns:
                raise DataError(
                    f"{len(row.cells)} cells, not {columns} as in the header",
                    where=where,
                    fix="give each row as many; quote a cell that has the delimiter in it",
                )
            if "\n" in row.cells[self._word]:
                raise DataError(
                    f"a line break in the column {self.header.cells[self._word]!r}",
                    where=where,
                    fix='give it a row for each word; a quotation mark alone is written """"',
                )
            yield row
        if row is None:
            raise DataError("no rows below the header", where=self.name, fix="give a row per word")


def _names(by: str | None, header: str) -> Sequence[str]:
    """The columns that are named between commas; a name may be quoted if it has one in it."""
    return [] if by is None else [name.strip() for name in next(csv.reader([by]), [])]


def _warn_if_joined(item: Item) -> bool:
    """Warn about two words of an item without a space; whether there are any."""
    for row, (before, after) in zip(item.rows[1:], pairwise(item.words), strict=True):
        word = joined_word(before, after)
        if word is not None and not _is_contracted(after):
            warnings.warn(
                f"line {row.line}: scored as {word!r}, without a space between its words; write"
                " the space into the cells, or leave --separator out",
                TextgenWarning,
                stacklevel=2,
            )
            return True
    return False


def _is_contracted(word: str) -> bool:
    """Whether it is ``n't``, ``'s``, ``'ll`` or the like, rather than a word after a quote."""
    after = word.lstrip(_APOSTROPHES)
    clitic = len(word) - len(after) == 1 and len(after) <= _LONGEST_CLITIC and after.isalpha()
    return clitic or word.lower() in _CONTRACTED


class _Marks:
    """The punctuation of a text, word by word: what is written without a space before or after."""

    def __init__(self) -> None:
        self._open = ""  # the quotation mark that is open
        self._begun = False

    def read(self, word: str) -> tuple[bool, bool]:
        """Whether the next word of the text joins the one before it, and the one after it."""
        opens = [self._opens(character) for character in word]
        is_first, self._begun = not self._begun, self._begun or bool(word)
        if all(unicodedata.category(character)[0] == "P" for character in word) and word:
            dash = unicodedata.category(word[0]) == "Pd" or word[0] in _LOOSE
            opens_single = is_first and word in _APOSTROPHES
            return not (opens[0] or dash), opens[-1] or opens_single
        return _is_contracted(word), False

    def _opens(self, character: str) -> bool:
        """Whether it is an opening bracket or quotation mark."""
        if self._open and character in _CLOSING_QUOTES[self._open]:
            self._open = ""
            return False
        if character in _CLOSING_QUOTES:
            self._open = character
            return True
        return unicodedata.category(character) in _OPENING or character in _OPENING_MARKS
