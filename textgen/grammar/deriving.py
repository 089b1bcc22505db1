"""A grammar and random numbers in, a story and how it was derived out."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from textgen.grammar.generating import draw
from textgen.grammar.symbols import Choice, Grammar, Pick, Recall, Row, Symbol, Words


@dataclass(frozen=True)
class Node:
    """What became of a symbol: the characters ``begin`` to ``end`` of the story.

    row: of a draw or a recollection, whose cell is written. parts: what became of each symbol
    of the alternative that was chosen.
    """

    symbol: Symbol
    begin: int
    end: int
    row: Row | None = None
    parts: tuple["Node", ...] = ()


@dataclass(frozen=True)
class Derivation:
    """A story and its derivation tree, one node for each symbol that the story begins with."""

    text: str
    nodes: tuple[Node, ...]


def derive_story(grammar: Grammar, generator: Random) -> Derivation:
    """As ``generate_story``, of which it writes the same story, with its derivation."""
    deriving = _Deriving(generator)
    nodes = deriving.sequence(grammar.story)
    return Derivation("".join(deriving.written), nodes)


class _Deriving:
    """The story as far as it is written."""

    def __init__(self, generator: Random) -> None:
        self.written: list[str] = []
        self._generator, self._length = generator, 0
        self._bindings: dict[str, Row] = {}

    def sequence(self, symbols: Iterable[Symbol]) -> tuple[Node, ...]:
        return tuple(map(self._node, symbols))

    def _node(self, symbol: Symbol) -> Node:
        begin, row = self._length, None
        parts: tuple[Node, ...] = ()
        if isinstance(symbol, Words):
            self._write(symbol.text)
        elif isinstance(symbol, Recall):
            row = self._bindings[symbol.variable]
            self._write(symbol.text(self._bindings))
        elif isinstance(symbol, Choice):
            alternative = symbol.alternatives[draw(symbol.cumulative, self._generator)]
            parts = self.sequence(alternative.symbols)
        else:
            row = self._draw(symbol)
        return Node(symbol, begin, self._length, row, parts)

    def _draw(self, pick: Pick) -> Row:
        candidates = pick.candidates(self._bindings)
        index = draw(candidates.cumulative, self._generator)
        self._write(candidates.texts[index])
        if pick.variable is not None:
            self._bindings[pick.variable] = candidates.rows[index]
        return candidates.rows[index]

    def _write(self, text: str) -> None:
        self.written.append(text)
        self._length += len(text)
