"""What stands on the right of a rule's dash, as symbols.

Text stands for itself, ``<references>`` for rules, tables and variables, ``{one|of|these}`` for
a choice between equals, ``//`` for the end of a line.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from textgen.grammar.symbols import (
    NEWLINE,
    Case,
    Choice,
    Condition,
    Pick,
    Recall,
    Symbol,
    Table,
    Words,
    fail,
)

TOKEN = re.compile(r"<[^<>]*>|\s*//\s*|[{|}<>]|(?:(?!\s*//)[^{|}<>])+")
REFERENCE = re.compile(
    r"<(?:(?P<variable>[a-z][a-z0-9]*)=)?"
    r"(?P<name>[A-Za-z][A-Za-z0-9]*)"
    r"(?:\((?P<conditions>[^()]*)\))?"
    r"(?:\.(?P<column>[A-Za-z][A-Za-z0-9]*))?>"
)
CONDITION = re.compile(
    r"\s*(?P<column>[a-z][a-z0-9]*)\s*(?P<relation>!?=)"
    r"\s*(?:(?P<variable>[a-z][a-z0-9]*)\.)?(?P<value>[^.]+?)\s*"
)


@dataclass(frozen=True)
class Source:
    """A piece of a grammar file; ``where`` is the ``file:line`` at which it begins."""

    text: str
    where: str


class SequenceReader:
    """Reads sequences.

    tables: by name, the tables that references may draw from.
    rule: gives the choice for a rule's name and the place of the reference, or raises.
    used_tables: the names of the tables that have been drawn from so far.
    """

    def __init__(self, tables: Mapping[str, Table], rule: Callable[[str, str], Choice]) -> None:
        self.tables = tables
        self.rule = rule
        self.used_tables: set[str] = set()

    def read(self, source: Source) -> tuple[Symbol, ...]:
        """The symbols of ``source``. Raises GrammarError."""
        tokens = iter(TOKEN.findall(source.text))
        symbols, end = self._until(tokens, source.where)
        if end is not None:
            fail(f"{end!r} stands outside a choice", source.where)
        return symbols

    def _until(self, tokens: Iterator[str], where: str) -> tuple[tuple[Symbol, ...], str | None]:
        """The symbols up to the next ``|`` or ``}`` of this choice, and which of them it is."""
        symbols: list[Symbol] = []
        for token in tokens:
            if token in ("|", "}"):
                return tuple(symbols), token
            if token == "{":
                symbols.append(self._choice(tokens, where))
            elif token.strip() == "//":
                symbols.append(NEWLINE)
            elif token in ("<", ">"):
                fail(f"{token!r} has no partner", where)
            elif token.startswith("<"):
                symbols.append(self._reference(token, where))
            else:
                symbols.append(Words(token))
        return tuple(symbols), None

    def _choice(self, tokens: Iterator[str], where: str) -> Choice:
        """A choice between equals, whose opening brace has been read."""
        alternatives: list[tuple[Symbol, ...]] = []
        end: str | None = "|"
        while end == "|":
            symbols, end = self._until(tokens, where)
            if symbols in alternatives:
                fail("two parts of a choice in braces are the same", where)
            alternatives.append(symbols)
        if end is None:
            fail("'{' has no partner", where)
        if len(alternatives) == 1:
            fail("a choice in braces has only one part", where)
        return Choice.between([(1, symbols) for symbols in alternatives])

    def _reference(self, token: str, where: str) -> Symbol:
        reference = REFERENCE.fullmatch(token)
        if reference is None:
            fail(
                f"{token} is no reference",
                where,
                fix="write <Rule>, <table>, <variable=table.column> or <variable.column>",
            )
        name, variable = reference["name"], reference["variable"]
        if name in self.tables:
            self.used_tables.add(name)
            return self._pick(reference, self.tables[name], where)
        if variable is not None or reference["conditions"] is not None:
            fail(f"there is no table {name!r}", where)
        if name[0].isupper():
            if reference["column"] is not None:
                fail(f"{name} is a rule and has no columns", where)
            return self.rule(name, where)
        column = reference["column"]
        return Recall(name, column and column.lower(), _case(column), where)

    def _pick(self, reference: re.Match[str], table: Table, where: str) -> Pick:
        variable = reference["variable"]
        if variable in self.tables:
            fail(f"{variable!r} is a table and cannot be a variable", where)
        column = (reference["column"] or table.columns[0]).lower()
        _check_column(table, column, where)
        case = _case(reference["column"])
        _check_distinct([case.spell(row.cells[column]) for row in table.rows], reference[0], where)
        conditions = reference["conditions"].split(",") if reference["conditions"] else []
        return Pick(
            table=table,
            column=column,
            case=case,
            variable=variable,
            conditions=tuple(_condition(each, table, where) for each in conditions),
            where=where,
        )


def _condition(text: str, table: Table, where: str) -> Condition:
    match = CONDITION.fullmatch(text)
    if match is None:
        fail(
            f"{text!r} is no condition", where, fix="write column=value or column!=variable.column"
        )
    _check_column(table, match["column"], where)
    return Condition(match["column"], match["relation"] == "=", match["variable"], match["value"])


def _check_column(table: Table, column: str, where: str) -> None:
    if column not in table.columns:
        fail(f"table {table.name} has no column {column!r}", where, " | ".join(table.columns))


def _check_distinct(texts: Sequence[str], reference: str, where: str) -> None:
    """Refuse a draw whose text would not tell which row was drawn."""
    if len(set(texts) - {""}) < len(texts):
        unclear = next(text for text in texts if not text or texts.count(text) > 1)
        fail(
            f"{reference} does not tell its rows apart",
            where,
            f"the text {unclear!r} does not say which row was drawn",
        )


def _case(column: str | None) -> Case:
    """``she`` as it is, ``She`` with a capital, ``SHE`` all in capitals."""
    if column is None or column[0].islower():
        return Case.AS_IS
    return Case.UPPER if len(column) > 1 and column.isupper() else Case.CAPITAL
