"""A grammar and random numbers in; stories, their derivations and log-probabilities out."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from grammar.symbols import Choice, Grammar, GrammarError, Pick, Recall, Row, Symbol, Words


@dataclass(frozen=True)
class Node:
    """A node of a derivation tree: a symbol, and the span of the story that it produced.

    row: the row whose cell was written, for a ``Pick`` or a ``Recall``.
    children: the nodes of the chosen alternative, for a ``Choice``.
    """

    symbol: Symbol
    begin: int
    end: int
    row: Row | None = None
    children: tuple["Node", ...] = ()


@dataclass(frozen=True)
class Story:
    """A story and its derivation.

    text: one or more lines, none of them empty, each with its newline.
    log_prob: natural log of the probability of the draws.
    nodes: one for each symbol of the grammar's story.
    """

    text: str
    log_prob: float
    nodes: tuple[Node, ...]


def generate_story(grammar: Grammar, generator: Random) -> Story:
    """Generate one story; the same state of ``generator`` gives the same story on any platform.

    Raises:
        GrammarError: The story has an empty line, which is reserved as the separator of stories.
    """
    generation = _Generation(generator)
    nodes = generation.derive(grammar.story)
    text = "".join(generation.written)
    if text.startswith("\n") or "\n\n" in text:
        raise GrammarError("a story has an empty line", where=grammar.path, why=repr(text))
    return Story(text, generation.log_prob, nodes)


def generate_corpus(grammar: Grammar, seed: int, characters: int) -> str:
    """Generate stories, separated by empty lines, until there are ``characters``.

    The result ends with the story that reaches this length. It depends on the arguments only.
    """
    generator = Random(seed)
    stories: list[str] = []
    length = 0
    while length < characters:
        stories.append(generate_story(grammar, generator).text)
        length += len(stories[-1]) + (len(stories) > 1)
    return "\n".join(stories)


class _Generation:
    """The state of a story while it is generated."""

    def __init__(self, generator: Random) -> None:
        self.written: list[str] = []
        self.log_prob = 0.0
        self._length = 0
        self._generator = generator
        self._bindings: dict[str, Row] = {}

    def derive(self, symbols: Sequence[Symbol]) -> tuple[Node, ...]:
        return tuple([self._node(symbol) for symbol in symbols])

    def _node(self, symbol: Symbol) -> Node:
        begin, row = self._length, None
        children: tuple[Node, ...] = ()
        if isinstance(symbol, Words):
            self._write(symbol.text)
        elif isinstance(symbol, Recall):
            row = self._bindings[symbol.variable]
            self._write(symbol.text(self._bindings))
        elif isinstance(symbol, Choice):
            alternative = symbol.alternatives[_draw(symbol.cumulative, self._generator)]
            self.log_prob += alternative.log_prob
            children = self.derive(alternative.symbols)
        else:
            row = self._pick(symbol)
        return Node(symbol, begin, self._length, row, children)

    def _pick(self, pick: Pick) -> Row:
        candidates = pick.candidates(self._bindings)
        index = _draw(candidates.cumulative, self._generator)
        self._write(candidates.texts[index])
        self.log_prob += candidates.log_probs[index]
        row = candidates.rows[index]
        if pick.variable is not None:
            self._bindings[pick.variable] = row
        return row

    def _write(self, text: str) -> None:
        self.written.append(text)
        self._length += len(text)


def _draw(cumulative: Sequence[int], generator: Random) -> int:
    """A weighted random index; only ``random()`` is the same in every version of Python."""
    return bisect_right(cumulative, int(generator.random() * cumulative[-1]))
