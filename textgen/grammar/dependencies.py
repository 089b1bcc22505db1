"""What in a story is settled by something far before it, and what it would have to be else.

agreement   the verb of a sentence, by its first noun; what was one or several, by how many
pronouns    he or she, by who it is
facts       what was said before: a name, a place, the tongue of a country
quotes      which quotation mark closes, by the one that opened
brackets    the same
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from textgen.grammar.deriving import Derivation, Node
from textgen.grammar.symbols import Pick, Recall, Row, Words

RecallKind = Literal["agreement", "brackets", "facts", "pronouns", "quotes"]

_CLOSERS: dict[str, tuple[str, RecallKind]] = {
    "“": ("”", "quotes"),
    "‘": ("’", "quotes"),
    "(": (")", "brackets"),
    "[": ("]", "brackets"),
}
_INSTEAD = {"”": "’", "’": "”", ")": "]", "]": ")"}
_VERBS = (("does", "do"), ("is", "are"))
_PRONOUNS = ("he", "him", "his")
_FEW = 3
"""Forms that agree with something are no more than these; what has more is a fact."""

_REST = re.compile(r"\S+| \S+|")


@dataclass(frozen=True)
class Dependency:
    """A place in a story at which only one of two texts can come.

    context: what is before it, from the start of the line in which it was settled. right, wrong:
    the two texts with the rest of their word, or with the next one, as far as nothing else
    depends on something in there. distance: characters between what settles it and it. forms:
    where it is one of two, as singular and plural, which it is and which it is not.
    """

    kind: RecallKind
    context: str
    right: str
    wrong: str
    distance: int
    forms: tuple[str, str] = ("", "")


def dependencies(story: Derivation, generator: Random) -> Iterator[Dependency]:
    """All of a story's. generator: draws a wrong fact among all that there could have been."""
    text, finder = story.text, _Finder(story.text, generator)
    found = [place for node in story.nodes for place in finder.within(node)]
    found = sorted([*found, *_closed(text)], key=lambda place: place.begin)
    ends = [*(place.begin for place in found[1:]), len(text)]
    for place, next_place in zip(found, ends, strict=True):
        match = _REST.match(text, place.end, max(place.end, next_place))
        assert match is not None
        rest, line = match.group().rstrip(), text.rfind("\n", 0, place.cue[0]) + 1
        right, wrong = text[place.begin : place.end] + rest, place.wrong + rest
        # The beginning of a text is likelier than the text, whatever came before.
        if not (right.startswith(wrong) or wrong.startswith(right)):
            context, distance = text[line : place.begin], place.begin - place.cue[1]
            yield Dependency(place.kind, context, right, wrong, distance, place.forms)


@dataclass(frozen=True)
class _Place:
    """Where a story depends on its cue, and a text that cannot stand there.

    cue: where it begins and ends. forms: as of a Dependency.
    """

    kind: RecallKind
    cue: tuple[int, int]
    begin: int
    end: int
    wrong: str
    forms: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Mention:
    """Where a variable's row was written, and its rows that would have been written alike."""

    begin: int
    end: int
    alike: tuple[Row, ...]


class _Finder:
    """Walks a derivation from left to right.

    _mentions: of each variable, as far as it has been walked.
    """

    def __init__(self, text: str, generator: Random) -> None:
        self._text, self._generator = text, generator
        self._picks: dict[str, Pick] = {}
        self._mentions: dict[str, list[_Mention]] = {}

    def within(self, node: Node) -> Iterator[_Place]:
        symbol = node.symbol
        if isinstance(symbol, Pick) and symbol.variable is not None:
            self._picks[symbol.variable] = symbol
            self._mentions[symbol.variable] = []
            self._mention(symbol.variable, symbol.column, node)
        elif isinstance(symbol, Recall):
            column = symbol.column or self._picks[symbol.variable].table.columns[0]
            yield from self._recalled(symbol, column, node)
            self._mention(symbol.variable, column, node)
        yield from self._agreeing(node.parts)
        for part in node.parts:
            yield from self.within(part)

    def _mention(self, variable: str, column: str, node: Node) -> None:
        assert node.row is not None
        cell, rows = node.row.cells[column], self._picks[variable].table.rows
        alike = tuple(row for row in rows if row.cells[column] == cell)
        self._mentions[variable].append(_Mention(node.begin, node.end, alike))

    def _recalled(self, symbol: Recall, column: str, node: Node) -> Iterator[_Place]:
        """What is recalled, if a mention before it leaves no doubt of what it is."""
        assert node.row is not None
        rows, cell = self._picks[symbol.variable].table.rows, node.row.cells[column]
        telling = [
            mention
            for mention in self._mentions[symbol.variable]
            if all(row.cells[column] == cell for row in mention.alike)
        ]
        others = sorted({row.cells[column] for row in rows} - {cell})
        if telling and others:
            kind: RecallKind = "facts"
            other, forms = others[int(self._generator.random() * len(others))], ("", "")
            if len(others) < _FEW:
                kind = "pronouns" if column in _PRONOUNS else "agreement"
                forms = cell, other
            wrong, cue = symbol.case.spell(other), telling[-1]
            yield _Place(kind, (cue.begin, cue.end), node.begin, node.end, wrong, forms)

    def _agreeing(self, parts: tuple[Node, ...]) -> Iterator[_Place]:
        """The verb at the end of a sentence ``The <noun> ... <verb> ...``."""
        if len(parts) < 4 or not isinstance(parts[0].symbol, Words):
            return
        subject, verb = parts[1], _first_drawn(parts[-2])
        if parts[0].symbol.text != "The " or verb is None or verb.begin != parts[-2].begin:
            return
        assert isinstance(verb.symbol, Pick) and verb.row is not None
        columns = verb.symbol.table.columns
        if columns not in _VERBS:
            return
        other = columns[verb.symbol.column == columns[0]]
        wrong = verb.symbol.case.spell(verb.row.cells[other])
        if wrong != self._text[verb.begin : verb.end]:
            cue = (subject.begin, subject.end)
            forms = verb.symbol.column, other
            yield _Place("agreement", cue, verb.begin, verb.end, wrong, forms)


def _first_drawn(node: Node) -> Node | None:
    """The first row that was drawn within a node."""
    if isinstance(node.symbol, Pick):
        return node
    found = map(_first_drawn, node.parts)
    return next((each for each in found if each is not None), None)


def _closed(text: str) -> Iterator[_Place]:
    """The closing marks of a story."""
    opened: list[int] = []
    for place, character in enumerate(text):
        if character in _CLOSERS:
            opened.append(place)
        elif opened and character == _CLOSERS[text[opened[-1]]][0]:
            cue = opened.pop()
            kind = _CLOSERS[text[cue]][1]
            wrong = _INSTEAD[character]
            yield _Place(kind, (cue, cue + 1), place, place + 1, wrong, (character, wrong))
