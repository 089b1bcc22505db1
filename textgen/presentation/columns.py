"""Tables written row by row: the widths are settled before the first row is known."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from textgen.presentation.console import laid_out

Cell = str | tuple[str, str]
"""What stands in a column: text, or text and the style it has."""

_GAP = 2


@dataclass(frozen=True)
class Column:
    """width in cells; None for the one column that takes what is left and wraps in it.

    least: where that is less than this, each row is written as a paragraph instead.
    """

    name: str
    width: int | None
    right: bool = True
    least: int = 0


class Columns:
    """Rows under a header, ``indent`` cells from the left.

    A row is a string, escape codes included: tens of thousands of them must not wait for a
    layout of their own each.
    """

    def __init__(self, columns: Sequence[Column], console: Console, *, indent: int = 0) -> None:
        self._columns = columns
        self._console = console
        self._indent = indent
        taken = sum(each.width or 0 for each in columns) + _GAP * (len(columns) - 1)
        self.room = max(0, console.width - indent - taken)
        self.stacked = any(each.width is None and self.room < each.least for each in columns)
        self._codes: dict[str, tuple[str, str]] = {}

    def header(self) -> str:
        if self.stacked:
            return ""
        return self.row([(each.name, "label") for each in self._columns]) + self.rule()

    def rule(self) -> str:
        line = "─" * (self._console.width - self._indent)
        return " " * self._indent + self._painted(line, "faint") + "\n"

    def row(self, cells: Sequence[Cell]) -> str:
        """One row; a cell of several lines makes it several lines high."""
        pairs = [(cell, "") if isinstance(cell, str) else cell for cell in cells]
        return self._paragraph(pairs) if self.stacked else self._line(pairs)

    def _line(self, cells: Sequence[tuple[str, str]]) -> str:
        parts = [self._lines_of(*each) for each in zip(self._columns, cells, strict=True)]
        written = []
        for number in range(max(map(len, parts))):
            shown = []
            for column, lines, (_, style) in zip(self._columns, parts, cells, strict=True):
                text = lines[number] if number < len(lines) else ""
                space = " " * (
                    (self.room if column.width is None else column.width) - cell_len(text)
                )
                painted = self._painted(text, style)
                shown.append(space + painted if column.right else painted + space)
            line = " " * self._indent + (" " * _GAP).join(shown)
            written.append(line.rstrip(" ") + "\n")
        return "".join(written)

    def _lines_of(self, column: Column, cell: tuple[str, str]) -> Sequence[str]:
        text = cell[0]
        if column.width is not None or cell_len(text) <= self.room:
            return text.split("\n")
        return [line.plain.rstrip(" ") for line in Text(text).wrap(self._console, self.room)]

    def _paragraph(self, cells: Sequence[tuple[str, str]]) -> str:
        """The first two cells, then each number after its name, as many as fit in a line."""
        lines = [Text(" ").join(Text(*cell) for cell in cells[:2] if cell[0]), Text(" ")]
        for column, (text, style) in list(zip(self._columns, cells, strict=True))[2:]:
            if text and column.name:
                number = Text.assemble((f"{column.name} ", "label"), (text, style))
                number.plain = number.plain.replace("\n", " ")
                if lines[-1].cell_len + 1 + number.cell_len > self._console.width:
                    lines.append(Text(" "))
                lines[-1].append(" ").append_text(number)
        return laid_out(self._console, *lines)

    def _painted(self, text: str, style: str) -> str:
        """The text between the escape codes of a style, which are found out once."""
        if not style or not text:
            return text
        if style not in self._codes:
            before, _, after = laid_out(self._console, Text("x", style)).partition("x")
            self._codes[style] = before, after.removesuffix("\n")
        before, after = self._codes[style]
        return before + text + after
