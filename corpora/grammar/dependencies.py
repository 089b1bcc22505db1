"""Places in a story that something far before them determines, and the probe made of them.

agreement   the verb of a sentence, by its first noun; singular or plural, by a number
pronouns    he or she, by the person
facts       what was said before: a name, a place, the language of a country
quotes      the closing quotation mark, by the opening one
brackets    the closing bracket, by the opening one
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from grammar.generating import Node, Story, generate_story
from grammar.symbols import Grammar, Pick, Recall, Row, Words

PROBE_DISTANCES = (0, 10, 20, 40, 80, 160)
"""Lower bounds of the intervals of distances, in characters, that a probe is balanced over."""

_CLOSING = {
    "“": ("”", "quotes"),
    "‘": ("’", "quotes"),
    "(": (")", "brackets"),
    "[": ("]", "brackets"),
}
_WRONG_CLOSING = {"”": "’", "’": "”", ")": "]", "]": ")"}
_VERB_COLUMNS = (("does", "do"), ("is", "are"))
_PRONOUN_COLUMNS = ("he", "him", "his")
_MOST_FORMS = 2
"""A cell with at most so many values in its column is a grammatical form; with more, a fact."""

_REST = re.compile(r"\S+| \S+|")


@dataclass(frozen=True)
class Dependency:
    """A place in a story at which only one of two texts can follow.

    kind: one of those above.
    context: the text before it, from the start of the line of what determines it.
    right, wrong: the two texts, each completed to the end of its word or with the next word,
        as far as no other dependency begins there.
    distance: characters between what determines it and the place.
    forms: the right and the wrong form where there are only two, such as singular and plural.
    """

    kind: str
    context: str
    right: str
    wrong: str
    distance: int
    forms: tuple[str, str] = ("", "")


def probe(grammar: Grammar, seed: int, stories: int, most: int) -> list[Dependency]:
    """Dependencies of new stories, at most ``most`` of each kind and interval of distances.

    Of two forms, each is right equally often, so that to prefer one of them is no advantage.
    """
    generator, facts = Random(seed), Random(seed)
    found: dict[tuple[str, int], list[Dependency]] = defaultdict(list)
    for _ in range(stories):
        for each in dependencies(generate_story(grammar, generator), facts):
            found[each.kind, bisect_right(PROBE_DISTANCES, each.distance)].append(each)
    return [each for group in found.values() for each in _balanced(group)[:most]]


def _balanced(group: Sequence[Dependency]) -> list[Dependency]:
    """As many of one form as of the other, in turns."""
    by_forms: dict[tuple[str, str], list[Dependency]] = defaultdict(list)
    for each in group:
        by_forms[each.forms].append(each)
    numbered = [
        (number, each)
        for (form, other), some in by_forms.items()
        for number, each in enumerate(some[: len(by_forms.get((other, form), ()))])
    ]
    return [each for _, each in sorted(numbered, key=lambda pair: pair[0])]


def dependencies(story: Story, generator: Random) -> Iterator[Dependency]:
    """All dependencies of a story, in its order.

    generator: draws a wrong fact among all that there could have been.
    """
    text, finder = story.text, _Finder(story.text, generator)
    found = [place for node in story.nodes for place in finder.within(node)]
    found = sorted([*found, *_closing_marks(text)], key=lambda place: place.begin)
    ends = [*(place.begin for place in found[1:]), len(text)]
    for place, next_place in zip(found, ends, strict=True):
        match = _REST.match(text, place.end, max(place.end, next_place))
        assert match is not None
        rest, line = match.group().rstrip(), text.rfind("\n", 0, place.cue[0]) + 1
        right, wrong = text[place.begin : place.end] + rest, place.wrong + rest
        # A prefix of a text is at least as probable as the text, whatever the context.
        if not (right.startswith(wrong) or wrong.startswith(right)):
            context, distance = text[line : place.begin], place.begin - place.cue[1]
            yield Dependency(place.kind, context, right, wrong, distance, place.forms)


@dataclass(frozen=True)
class _Place:
    """A span of a story, the span of the cue that determines it, and a text impossible there."""

    kind: str
    cue: tuple[int, int]
    begin: int
    end: int
    wrong: str
    forms: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Mention:
    """Where a cell of a variable's row was written, and the rows with the same cell."""

    begin: int
    end: int
    alike: tuple[Row, ...]


class _Finder:
    """Walks a derivation from left to right and keeps the mentions of each variable so far."""

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
        yield from self._verb(node.children)
        for child in node.children:
            yield from self.within(child)

    def _mention(self, variable: str, column: str, node: Node) -> None:
        assert node.row is not None
        cell, rows = node.row.cells[column], self._picks[variable].table.rows
        alike = tuple(row for row in rows if row.cells[column] == cell)
        self._mentions[variable].append(_Mention(node.begin, node.end, alike))

    def _recalled(self, symbol: Recall, column: str, node: Node) -> Iterator[_Place]:
        """A recalled cell, if a mention before it leaves only one value for it."""
        assert node.row is not None
        rows, cell = self._picks[symbol.variable].table.rows, node.row.cells[column]
        cues = [
            mention
            for mention in self._mentions[symbol.variable]
            if all(row.cells[column] == cell for row in mention.alike)
        ]
        others = sorted({row.cells[column] for row in rows} - {cell})
        if cues and others:
            kind = "facts"
            other, forms = others[int(self._generator.random() * len(others))], ("", "")
            if len(others) <= _MOST_FORMS:
                kind = "pronouns" if column in _PRONOUN_COLUMNS else "agreement"
                forms = cell, other
            wrong, cue = symbol.case.spell(other), cues[-1]
            yield _Place(kind, (cue.begin, cue.end), node.begin, node.end, wrong, forms)

    def _verb(self, nodes: tuple[Node, ...]) -> Iterator[_Place]:
        """The verb at the end of a sentence ``The <noun> ... <verb> ...``."""
        if len(nodes) < 4 or not isinstance(nodes[0].symbol, Words):
            return
        subject, verb = nodes[1], _first_pick(nodes[-2])
        if nodes[0].symbol.text != "The " or verb is None or verb.begin != nodes[-2].begin:
            return
        assert isinstance(verb.symbol, Pick) and verb.row is not None
        columns = verb.symbol.table.columns
        if columns not in _VERB_COLUMNS:
            return
        other = columns[verb.symbol.column == columns[0]]
        wrong = verb.symbol.case.spell(verb.row.cells[other])
        if wrong != self._text[verb.begin : verb.end]:
            cue = (subject.begin, subject.end)
            forms = verb.symbol.column, other
            yield _Place("agreement", cue, verb.begin, verb.end, wrong, forms)


def _first_pick(node: Node) -> Node | None:
    """The first row drawn within a node."""
    if isinstance(node.symbol, Pick):
        return node
    found = map(_first_pick, node.children)
    return next((each for each in found if each is not None), None)


def _closing_marks(text: str) -> Iterator[_Place]:
    opened: list[int] = []
    for place, character in enumerate(text):
        if character in _CLOSING:
            opened.append(place)
        elif opened and character == _CLOSING[text[opened[-1]]][0]:
            cue = opened.pop()
            kind = _CLOSING[text[cue]][1]
            wrong = _WRONG_CLOSING[character]
            yield _Place(kind, (cue, cue + 1), place, place + 1, wrong, (character, wrong))
