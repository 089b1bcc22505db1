"""What can be known of a grammar before it writes: every variable is bound before its use."""

from collections.abc import Sequence
from typing import TypeAlias

from textgen.grammar.symbols import Choice, Pick, Recall, Symbol, Table, fail

# The variables that are bound at some point whatever was chosen before it, with their tables.
Bound: TypeAlias = frozenset[tuple[str, Table]]


def check_bindings(symbols: Sequence[Symbol]) -> None:
    """Follow every path through ``symbols``; raises GrammarError at a variable that may be
    unbound where it is used, or whose table lacks the column asked for."""
    _after_sequence(symbols, frozenset(), {})


def _after_sequence(
    symbols: Sequence[Symbol], bound: Bound, known: dict[tuple[Choice, Bound], Bound]
) -> Bound:
    """What is bound after ``symbols`` if ``bound`` was before."""
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
                kept = {(name, table) for name, table in bound if name != symbol.variable}
                bound = frozenset({*kept, (symbol.variable, symbol.table)})
    return bound


def _after_choice(choice: Choice, bound: Bound, known: dict[tuple[Choice, Bound], Bound]) -> Bound:
    """What is bound after a choice: what every alternative leaves bound."""
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
            "there is a way to this place on which no row was drawn for it",
            fix=f"write <{variable}=table> earlier, or in every alternative before",
        )
    if column is not None and column not in table.columns:
        fail(
            f"{variable!r} has no column {column!r}",
            where,
            f"table {table.name} has {' | '.join(table.columns)}",
        )
