"""CSV and TSV files with a header: their delimiter, columns and rows, as the lines arrive."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from textgen.config import suggestion
from textgen.errors import DataError

_DELIMITERS = ",\t;"
_HEADER_READ = 2**16  # characters, to find the delimiter: the csv module refuses a longer cell


@dataclass(frozen=True)
class Row:
    """A row of a table. line: its first in the file, from 1."""

    line: int
    cells: tuple[str, ...]


class Table:
    """A table with a header, delimited by commas, tabs or semicolons.

    The delimiter is the one that divides the header into columns of the names that are needed, or
    into most columns. Cells are quoted by the rules of the ``csv`` module; blank lines are no rows.

    Args:
        lines: Of the file, without their ends.
        name: Of the file, for messages.
        wanted: The names of columns that are needed.

    Attributes:
        header: The names of the columns.
    """

    def __init__(self, lines: Iterable[str], name: str, wanted: Sequence[str]) -> None:
        self.name, rest = name, iter(lines)
        first = next(rest, "")

        def columns(delimiter: str) -> tuple[int, int]:
            cells = next(csv.reader([first[:_HEADER_READ]], delimiter=delimiter), [])
            return len(set(wanted) & set(cells)), len(cells)

        self.delimiter = max(_DELIMITERS, key=columns)
        self._lines = 0  # of the row that is being read
        self._reading = self._read(chain([first], rest))
        self.header = next(self._reading, Row(1, ())).cells

    def column(self, name: str) -> int:
        """The place of a column. Raises DataError if there is none of this name, or several."""
        if self.header.count(name) != 1:
            named = ", ".join(map(repr, self.header)) or "none"
            raise DataError(
                f"{'two columns' if name in self.header else 'no column'} {name!r}",
                where=f"{self.name}, line 1",
                why=f"it has {named}",
                fix=suggestion(name, self.header)
                or "choose one of its columns; the first line is to name them",
            )
        return self.header.index(name)

    def rows(self) -> Iterator[Row]:
        """The rows below the header.

        Raises:
            DataError: A row has not as many cells as the header, or is not one; there are none.
        """
        row, columns = None, len(self.header)
        for row in self._reading:
            if len(row.cells) != columns:
                raise DataError(
                    f"{len(row.cells)} cells, not {columns} as in the header",
                    where=self.place(row),
                    fix="give each row as many; quote a cell that has the delimiter in it",
                )
            yield row
        if row is None:
            raise DataError("no rows below the header", where=self.name, fix="give it rows")

    def place(self, row: Row) -> str:
        """Where a row is, for messages."""
        return f"{self.name}, line {row.line}"

    def _read(self, lines: Iterator[str]) -> Iterator[Row]:
        """The header and the rows."""
        number = 1
        rows = csv.reader(self._counted(lines), delimiter=self.delimiter, strict=True)
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
                yield Row(number, tuple(cells))
            number += self._lines
            self._lines = 0

    def _counted(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._lines += 1
            yield line + "\n"
