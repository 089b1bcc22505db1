"""What a grammar is made of: tables of rows, and choices between sequences of symbols."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from typing import NoReturn, TypeAlias

from textgen.errors import DataError


class GrammarError(DataError):
    """A grammar file does not say what it should; ``where`` is ``file:line``."""


def fail(what: str, where: str, why: str | None = None, fix: str | None = None) -> NoReturn:
    """Raise a GrammarError."""
    raise GrammarError(what, where=where, why=why, fix=fix)


class Case(Enum):
    """How a cell is spelled where it is written: ``she``, ``She`` or ``SHE``."""

    AS_IS = "as is"
    CAPITAL = "capital"
    UPPER = "upper"

    def spell(self, text: str) -> str:
        """Spell the cell ``text``; only its first letter changes under ``CAPITAL``."""
        if self is Case.UPPER:
            return text.upper()
        return text[:1].upper() + text[1:] if self is Case.CAPITAL else text


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table: ``cells`` by column name, ``weight`` its share of the table."""

    cells: Mapping[str, str]
    weight: int


@dataclass(frozen=True, eq=False)
class Table:
    """Rows that one draw chooses between, such as the people of the stories."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


Bindings: TypeAlias = Mapping[str, Row]


@dataclass(frozen=True)
class Words:
    """Text written as it stands: without a newline, or a newline alone."""

    text: str


@dataclass(frozen=True)
class Recall:
    """Writes a cell of the row that ``variable`` was bound to earlier in the story.

    column: ``None`` stands for the table's first.
    """

    variable: str
    column: str | None
    case: Case
    where: str

    def text(self, bindings: Bindings) -> str:
        """What is written, given the story's bindings so far."""
        cells = bindings[self.variable].cells
        cell = next(iter(cells.values())) if self.column is None else cells[self.column]
        return self.case.spell(cell)


@dataclass(frozen=True)
class Condition:
    """Keeps the rows whose ``column`` equals a value (or, if not ``equal``, differs from it).

    variable: the variable whose cell ``value`` is the value; ``None`` if ``value`` is it itself.
    """

    column: str
    equal: bool
    variable: str | None
    value: str

    def wanted(self, bindings: Bindings) -> str:
        """The value to compare with, given the story's bindings so far."""
        return self.value if self.variable is None else bindings[self.variable].cells[self.value]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a ``Pick`` chooses from, once its conditions are known.

    texts, rows, log_probs: one entry a row.
    cumulative: the running sum of the rows' weights.
    by_initial: first character of the text -> indices of the rows written so.
    """

    texts: tuple[str, ...]
    rows: tuple[Row, ...]
    log_probs: tuple[float, ...]
    cumulative: tuple[int, ...]
    by_initial: Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Pick:
    """Draws a row of ``table``, writes its ``column`` and binds ``variable`` (if any) to it."""

    table: Table
    column: str
    case: Case
    variable: str | None
    conditions: tuple[Condition, ...]
    where: str
    _seen: dict[tuple[str, ...], Candidates] = field(default_factory=dict, repr=False)

    def candidates(self, bindings: Bindings) -> Candidates:
        """The rows that meet the conditions, their weights rescaled to sum to one.

        Raises GrammarError when no row meets them.
        """
        wanted = tuple(condition.wanted(bindings) for condition in self.conditions)
        if wanted not in self._seen:
            self._seen[wanted] = self._gather(wanted)
        return self._seen[wanted]

    def _gather(self, wanted: tuple[str, ...]) -> Candidates:
        checks = list(zip(self.conditions, wanted, strict=True))
        rows = tuple(
            row
            for row in self.table.rows
            if all((row.cells[check.column] == value) == check.equal for check, value in checks)
        )
        if not rows:
            fail(
                f"no row of table {self.table.name!r} is left to choose from",
                self.where,
                f"the conditions ask for {', '.join(map(repr, wanted))}",
            )
        texts = tuple(self.case.spell(row.cells[self.column]) for row in rows)
        by_initial: dict[str, list[int]] = {}
        for index, text in enumerate(texts):
            by_initial.setdefault(text[0], []).append(index)
        total = sum(row.weight for row in rows)
        return Candidates(
            texts=texts,
            rows=rows,
            log_probs=tuple(math.log(row.weight / total) for row in rows),
            cumulative=tuple(accumulate(row.weight for row in rows)),
            by_initial=by_initial,
        )


@dataclass(frozen=True, eq=False)
class Alternative:
    """One way to rewrite a choice; ``log_prob`` is the natural log of its probability."""

    log_prob: float
    symbols: tuple["Symbol", ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """One of its alternatives is written; ``cumulative`` is the running sum of their weights."""

    alternatives: tuple[Alternative, ...]
    cumulative: tuple[int, ...]

    @classmethod
    def between(cls, weighted: Sequence[tuple[int, tuple["Symbol", ...]]]) -> "Choice":
        """The choice between ``(weight, symbols)`` pairs."""
        total = sum(weight for weight, _ in weighted)
        return cls(
            tuple(Alternative(math.log(weight / total), symbols) for weight, symbols in weighted),
            tuple(accumulate(weight for weight, _ in weighted)),
        )


Symbol: TypeAlias = Words | Recall | Pick | Choice

NEWLINE = Words("\n")


@dataclass(frozen=True, eq=False)
class Grammar:
    """A proper grammar without recursion: it writes finitely many stories, and their
    probabilities sum to one.

    story: what one story is, up to and with the newline of its last line.
    path: the file it was read from, for messages.
    """

    story: tuple[Symbol, ...]
    path: str
