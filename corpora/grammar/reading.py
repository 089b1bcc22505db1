"""Reads a grammar file, in the format described in ``corpora/README.md``.

A file is a sequence of blocks. A block starts at the left margin, ``Name:`` for a rule or
``table name: column | column`` for a table; its entries are indented, ``- text`` or, with a
weight, ``3 - text``; an indented line without a dash continues the entry
before it. The text of an entry stands for itself, except ``<references>`` to rules, tables and
variables, ``{choices|between equals}``, and ``//`` for the end of a line.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grammar.symbols import (
    NEWLINE,
    Case,
    Choice,
    Condition,
    Grammar,
    GrammarError,
    Pick,
    Recall,
    Row,
    Symbol,
    Table,
    Words,
    check_bindings,
    fail,
)
from textgen.errors import ResourceError

RULE = re.compile(r"(?P<name>[A-Z][A-Za-z0-9]*):")
TABLE = re.compile(r"table (?P<name>[a-z][a-z0-9]*):(?P<columns>.*)")
ENTRY = re.compile(r"\s+(?:(?P<weight>\d+)\s+)?-(?:\s+(?P<text>.*))?")
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
COLUMN = re.compile(r"[a-z][a-z0-9]*")


@dataclass(frozen=True)
class Source:
    """A piece of a grammar file; ``where`` is the ``file:line`` at which it begins."""

    text: str
    where: str


@dataclass(frozen=True)
class Entry:
    """An alternative of a rule or a row of a table, as it is written."""

    source: Source
    weight: int


@dataclass(frozen=True)
class Block:
    """A rule or (if it has columns) a table, as it is written."""

    name: str
    columns: tuple[str, ...]
    entries: tuple[Entry, ...]
    where: str


def load_grammar(path: Path) -> Grammar:
    """Read the grammar in a UTF-8 file. Raises ResourceError and GrammarError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResourceError("cannot read the grammar", where=path, why=error.strerror) from error
    except UnicodeDecodeError as error:
        raise GrammarError(
            "the grammar is not UTF-8", where=path, why=f"{error.reason} at byte {error.start}"
        ) from error
    return read_grammar(text, str(path))


def read_grammar(text: str, path: str = "<grammar>") -> Grammar:
    """Read a grammar; its first rule is the story.

    path: what messages call the file. Raises GrammarError, whose ``where`` is ``path:line``.
    """
    blocks: dict[str, Block] = {}
    for block in _blocks(text, path):
        if block.name in blocks:
            fail(f"{block.name} is defined twice", block.where, f"see {blocks[block.name].where}")
        if not block.entries:
            fail(f"{block.name} has no entries", block.where)
        blocks[block.name] = block
    rules = [block for block in blocks.values() if not block.columns]
    if not rules:
        fail("the grammar has no rule", path)
    tables = {block.name: _table(block) for block in blocks.values() if block.columns}
    resolved = _Rules({rule.name: rule for rule in rules}, tables)
    story = resolved.choice(rules[0].name, rules[0].where)
    for block in blocks.values():
        if block.name not in resolved.used:
            fail(f"{block.name} is never used", block.where)
    check_bindings((story,))
    return Grammar((story, NEWLINE), path)


class _Rules:
    """Turns rules into choices, each once and only when it is first referred to."""

    def __init__(self, blocks: Mapping[str, Block], tables: Mapping[str, Table]) -> None:
        self.blocks = blocks
        self.reader = SequenceReader(tables, self.choice)
        self._choices: dict[str, Choice] = {}
        self._open: list[str] = []

    @property
    def used(self) -> set[str]:
        """The names of the rules and tables that have been referred to."""
        return self.reader.used_tables | self._choices.keys()

    def choice(self, name: str, where: str) -> Choice:
        """The rule of that name, referred to at ``where``. Raises GrammarError."""
        if name not in self.blocks:
            fail(f"there is no rule {name}", where)
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            fail(f"the rule {name} uses itself", where, circle)
        if name not in self._choices:
            self._open.append(name)
            self._choices[name] = self._read(self.blocks[name])
            self._open.pop()
        return self._choices[name]

    def _read(self, block: Block) -> Choice:
        seen: dict[str, str] = {}
        weighted: list[tuple[int, tuple[Symbol, ...]]] = []
        for entry in block.entries:
            source = entry.source
            if source.text in seen:
                fail(
                    f"two alternatives of {block.name} are the same",
                    source.where,
                    f"see {seen[source.text]}",
                )
            seen[source.text] = source.where
            weighted.append((entry.weight, self.reader.read(source)))
        return Choice.between(weighted)


def _blocks(text: str, path: str) -> list[Block]:
    """The blocks of the file, in its order."""
    blocks: list[Block] = []
    entries: list[Entry] = []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}:{number}"
        line = line.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace():
            entries = []
            blocks.append(_header(line, where))
        elif not blocks:
            fail("an entry stands before the first rule or table", where)
        elif entry := ENTRY.fullmatch(line):
            weight = int(entry["weight"] or 1)
            if weight == 0:
                fail("a weight must be at least 1", where)
            entries.append(Entry(Source(entry["text"] or "", where), weight))
        elif not entries:
            fail("an entry must start with a dash", where, fix="write '- text' or '3 - text'")
        else:
            first = entries.pop()
            source = Source(f"{first.source.text} {line.strip()}", first.source.where)
            entries.append(Entry(source, first.weight))
        last = blocks[-1]
        blocks[-1] = Block(last.name, last.columns, tuple(entries), last.where)
    return blocks


def _header(line: str, where: str) -> Block:
    """The block, still empty, that a line at the left margin begins."""
    if rule := RULE.fullmatch(line):
        return Block(rule["name"], (), (), where)
    table = TABLE.fullmatch(line)
    if table is None:
        fail(
            f"{line!r} begins neither a rule nor a table",
            where,
            fix="write 'Name:' or 'table name: column | column'; indent what belongs to it",
        )
    columns = _cells(table["columns"])
    for column in columns:
        if not COLUMN.fullmatch(column):
            fail(f"{column!r} is no name for a column", where, "small letters and digits only")
        if columns.count(column) > 1:
            fail(f"table {table['name']} has two columns {column!r}", where)
    return Block(table["name"], columns, (), where)


def _table(block: Block) -> Table:
    """The table of a block; cells left out at a row's end are those of the row before."""
    rows: list[Row] = []
    before: tuple[str, ...] = ()
    for entry in block.entries:
        for text in entry.source.text.split(";"):
            cells = _cells(text)
            cells += before[len(cells) :]
            if len(cells) != len(block.columns):
                fail(
                    f"a row of table {block.name} has {len(cells)} cells",
                    entry.source.where,
                    f"{text.strip()!r} should have {len(block.columns)}:"
                    f" {' | '.join(block.columns)}",
                )
            before = cells
            rows.append(Row(dict(zip(block.columns, cells, strict=True)), entry.weight))
    return Table(block.name, block.columns, tuple(rows))


def _cells(text: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in text.split("|"))


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
