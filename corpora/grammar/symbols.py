"""The parts of a grammar: tables of rows, and choices between sequences of symbols."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from typing import NoReturn, TypeAlias

from textgen.errors import DataError


class GrammarError(DataError):
    """A grammar file is invalid; ``where`` is ``file:line``."""


def fail(what: str, where: str, why: str | None = None, fix: str | None = None) -> NoReturn:
    """Raise a GrammarError."""
    raise GrammarError(what, where=where, why=why, fix=fix)


class Case(Enum):
    """The case in which a cell is written: ``she``, ``She`` or ``SHE``."""

    AS_IS = "as is"
    CAPITAL = "capital"
    UPPER = "upper"

    def spell(self, text: str) -> str:
        """The text in this case; ``CAPITAL`` changes only the first letter."""
        if self is Case.UPPER:
            return text.upper()
        return text[:1].upper() + text[1:] if self is Case.CAPITAL else text


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table: cells by column name, and its relative weight."""

    cells: Mapping[str, str]
    weight: int


@dataclass(frozen=True, eq=False)
class Table:
    """Rows to draw from, such as the people of the stories."""

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

    column: ``None`` for the first column of the table.
    """

    variable: str
    column: str | None
    case: Case
    where: str

    def text(self, bindings: Bindings) -> str:
        """The text of the cell, given the bindings so far."""
        cells = bindings[self.variable].cells
        cell = next(iter(cells.values())) if self.column is None else cells[self.column]
        return self.case.spell(cell)


@dataclass(frozen=True)
class Condition:
    """Selects the rows whose ``column`` equals a value (or, if not ``equal``, differs from it).

    variable: if given, the value is the cell of its row in the column named ``value``.
    """

    column: str
    equal: bool
    variable: str | None
    value: str

    def wanted(self, bindings: Bindings) -> str:
        """The value to compare with, given the bindings so far."""
        return self.value if self.variable is None else bindings[self.variable].cells[self.value]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows that a ``Pick`` draws from under given conditions.

    texts, rows, log_probs: one entry per row.
    cumulative: running sum of the weights.
    by_initial: first character of the text -> indices of the rows.
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
    _cache: dict[tuple[str, ...], Candidates] = field(default_factory=dict, repr=False)

    def candidates(self, bindings: Bindings) -> Candidates:
        """The rows that meet the conditions, with renormalized weights.

        Raises:
            GrammarError: No row meets them.
        """
        wanted = tuple(condition.wanted(bindings) for condition in self.conditions)
        if wanted not in self._cache:
            self._cache[wanted] = self._select(wanted)
        return self._cache[wanted]

    def _select(self, wanted: tuple[str, ...]) -> Candidates:
        checks = list(zip(self.conditions, wanted, strict=True))
        rows = tuple(
            row
            for row in self.table.rows
            if all((row.cells[check.column] == value) == check.equal for check, value in checks)
        )
        if not rows:
            fail(
                f"no row of table {self.table.name!r} meets the conditions",
                self.where,
                f"the values required are {', '.join(map(repr, wanted))}",
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
    """One expansion of a choice, and the natural log of its probability."""

    log_prob: float
    symbols: tuple["Symbol", ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """Alternatives to draw from; ``cumulative`` is the running sum of their weights."""

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
    """A proper grammar without recursion; the probabilities of its stories sum to one.

    story: the symbols of a story, including the newline of its last line.
    path: the file it was read from, for messages.
    """

    story: tuple[Symbol, ...]
    path: str


# The variables that are bound on every path to a point, with their tables.
Bound: TypeAlias = frozenset[tuple[str, Table]]


def check_bindings(symbols: Sequence[Symbol]) -> None:
    """Check that every variable is bound before its use, and that its table has the column.

    Raises:
        GrammarError: On some path through ``symbols`` it is not.
    """
    _after_sequence(symbols, frozenset(), {})


def _after_sequence(
    symbols: Sequence[Symbol], bound: Bound, known: dict[tuple[Choice, Bound], Bound]
) -> Bound:
    """The variables bound after ``symbols``, given those bound before."""
    for symbol in symbols:
        if isinstance(symbol, Recall):
            _check_use(symbol.variable, symbol.column, bound, symbol.where)
        elif isinstance(symbol, Choice):
            bound = _after_choice(symbol, bound, known)
        elif isinstance(symbol, Pick):
            for condition in symbol.conditions:
                if condition.variable is not None:
                    _check_use(condition.variable, condition.value, bound, symbol.where)
            if symbol.variable is not None:
                others = {(name, table) for name, table in bound if name != symbol.variable}
                bound = frozenset({*others, (symbol.variable, symbol.table)})
    return bound


def _after_choice(choice: Choice, bound: Bound, known: dict[tuple[Choice, Bound], Bound]) -> Bound:
    """The variables bound after a choice: those bound by every alternative."""
    if (choice, bound) not in known:
        known[choice, bound] = frozenset.intersection(
            *(_after_sequence(each.symbols, bound, known) for each in choice.alternatives)
        )
    return known[choice, bound]


def _check_use(variable: str, column: str | None, bound: Bound, where: str) -> None:
    table = next((table for name, table in bound if name == variable), None)
    if table is None:
        fail(
            f"the variable {variable!r} may not be bound here",
            where,
            "on some path to this place no row was drawn for it",
            fix=f"write <{variable}=table> earlier, or in every alternative before",
        )
    if column is not None and column not in table.columns:
        fail(
            f"{variable!r} has no column {column!r}",
            where,
            f"table {table.name} has {' | '.join(table.columns)}",
        )
