"""The texts of a table: words, one per row, that make items; or sentences in a column."""

import csv
import unicodedata
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from textgen.data.lines import Text, joined_word
from textgen.data.tables import Row, Table
from textgen.errors import DataError, TextgenWarning, UsageError

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
class Item:
    """Rows that are one text.

    Attributes:
        words: The text that each row adds to it; of a sentence with a region, what comes before
            the region, the region, and the rest; empty of one without.
    """

    rows: tuple[Row, ...]
    words: tuple[str, ...]
    text: Text


class Stimuli(ABC):
    """The texts of a table, in order."""

    def __init__(self, table: Table) -> None:
        self.table = table

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """The items, as the lines arrive. Raises DataError for a row that has none."""


class WordRows(Stimuli):
    """A table with a row for each word.

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
        wanted = [words, *_names(by)]
        super().__init__(Table(lines, name, wanted))
        self.separator, self._name = separator, words
        self._word = self.table.column(words)
        self.by = [self.table.column(column) for column in wanted[1:]]

    def items(self) -> Iterator[Item]:
        warned = False
        for _, rows in groupby(
            self.table.rows(), lambda row: [row.cells[place] for place in self.by]
        ):
            item = self._item(tuple(rows))
            if not self.separator and not warned:
                warned = _warn_if_joined(item)
            yield item

    def _item(self, rows: tuple[Row, ...]) -> Item:
        words = tuple(row.cells[self._word] for row in rows)
        for row, word in zip(rows, words, strict=True):
            if "\n" in word:
                raise DataError(
                    f"a line break in the column {self._name!r}",
                    where=self.table.place(row),
                    fix='give it a row for each word; a quotation mark alone is written """"',
                )
        spaced = self.separator.isspace()
        if spaced:
            words = tuple(word.strip() for word in words)
        parts: list[str] = []
        ends: list[int] = []
        length, marks, joins_next = 0, _Marks(), True
        for word in words:
            joins, then = marks.read(word) if spaced else (False, False)
            if word:
                parts += [word] if joins or joins_next else [self.separator, word]
                length += len(word) if joins or joins_next else len(self.separator) + len(word)
                joins_next = then
            ends.append(length)
        return Item(rows, words, Text(rows[0].line, "".join(parts), word_ends=tuple(ends)))


class SentenceRows(Stimuli):
    """A table with a sentence in each row.

    White space at the edges of a region belongs, as that between words, to what comes after it.

    Args:
        lines, name: As of ``WordRows``.
        column: The column with the sentences.
        prefix: The column with what each continues; None: they are whole.
        region: The two columns, between a colon, with the beginning and the end of a region in
            characters of the sentence from 0, the end excluded. Empty cells: there is none.

    Raises:
        UsageError: The region is not two columns.
        DataError: The header does not have the columns.

    Attributes:
        has_region: Whether rows may have one.
    """

    def __init__(
        self,
        lines: Iterable[str],
        name: str,
        *,
        column: str,
        prefix: str | None = None,
        region: str | None = None,
    ) -> None:
        edges = [] if region is None else [each.strip() for each in region.split(":")]
        if region is not None and (len(edges) != 2 or not all(edges)):
            fix = "write start:end, the names of the two columns with its places"
            raise UsageError(f"--region must name two columns, got {region!r}", fix=fix)
        prefixes = [] if prefix is None else [prefix]
        super().__init__(Table(lines, name, [column, *prefixes, *edges]))
        self._sentence = self.table.column(column)
        self._prefix = [self.table.column(each) for each in prefixes]
        self._edges = [self.table.column(each) for each in edges]
        self.has_region = bool(edges)

    def items(self) -> Iterator[Item]:
        for row in self.table.rows():
            text = row.cells[self._sentence]
            prefix = next((row.cells[place] for place in self._prefix), None)
            ends = self._region(row, text)
            places = [0, *ends]
            words = tuple(text[begin:end] for begin, end in pairwise(places))
            yield Item((row,), words, Text(row.line, text, prefix, ends or None))

    def _region(self, row: Row, text: str) -> tuple[int, ...]:
        """Where the text before the region, the region and the text end; empty without one."""
        cells = [row.cells[place].strip() for place in self._edges]
        if not any(cells):
            return ()
        try:
            begin, end = map(_whole, cells)
            if not 0 <= begin <= end <= len(text):
                raise ValueError
        except ValueError:
            raise DataError(
                f"not a region: {':'.join(cells)}",
                where=self.table.place(row),
                why=f"the sentence has {len(text)} characters",
                fix="give a beginning and an end in it, counted from 0, the end excluded",
            ) from None
        ends = (
            len(text[:place].rstrip()) if place < len(text) else place for place in (begin, end)
        )
        return (*ends, len(text))


def _whole(cell: str) -> int:
    """A whole number, which data frames with gaps write as ``4.0``. Raises ValueError."""
    number = float(cell)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _names(by: str | None) -> Sequence[str]:
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
