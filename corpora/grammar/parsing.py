"""Exact log-probabilities of a text under a grammar.

A corpus is modelled as an infinite sequence of independent stories, each followed by one empty
line. The text is its beginning, up to the end of some line. With c(k) for the first k lines,

    log P(line k | lines before) = log P(c(k)) - log P(c(k - 1))

where P(c(k)) is a prefix probability (Jelinek and Lafferty, 1991): the sum over all derivations
of what has been read. A line is read by following every derivation that agrees with it; since
the grammar has no recursion, these are finitely many and what is still to come has probability
one. The sum is exact whether or not the grammar is ambiguous; that it is not
(``count_derivations``) makes it equal to the probability of the draws that wrote the text.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from grammar.symbols import NEWLINE, Bindings, Choice, Grammar, Pick, Recall, Symbol, Words
from textgen.errors import DataError

# Symbols, the index of the next to be read, and the frame to go back to when they are done.
Frame: TypeAlias = "tuple[tuple[Symbol, ...], int, Frame | None]"
# A derivation as far as it has been read: what is to come, the bindings, its log-probability.
State: TypeAlias = "tuple[Frame | None, Bindings, float]"
# The same inside a line, with the number of characters of the line that have been read.
Reading: TypeAlias = "tuple[Frame | None, Bindings, float, int]"


class OutsideLanguageError(DataError):
    """A text that the grammar does not write; ``where`` is its line and column, from 1."""


def log_probs_per_line(grammar: Grammar, text: str) -> list[float]:
    """log P(line | lines before), natural log, for each line of ``text``, empty lines too.

    text: starts with a story, may stop after any line; every line ends with a newline.
    The figures of a run of lines sum to that run's log-probability given what is before it, and
    all of them to the log-probability of the text. Raises OutsideLanguageError.
    """
    return _log_probs(grammar, text, first_line=1)


def story_log_prob(grammar: Grammar, story: str) -> float:
    """The natural log of the probability that a story is ``story``; -inf if it never is.

    story: whole, each line with its newline, without the empty line after it.
    """
    states = _read_story(grammar, story)
    return _log_sum(states) if states else -math.inf


def count_derivations(grammar: Grammar, story: str) -> int:
    """In how many ways the grammar writes the whole ``story``: 1 if it is unambiguous, 0 if
    the story is outside the language."""
    return len(_read_story(grammar, story))


def bits_per_character(grammar: Grammar, text: str, start: int = 0) -> float:
    """-log2 P(text[start:] | text[:start]) / its number of characters, newlines counted.

    start: the index of a line's first character. No model of the corpus can do better on
    average. Raises ValueError when no line starts there, OutsideLanguageError as
    ``log_probs_per_line`` does.
    """
    if not 0 <= start < len(text) or (start > 0 and text[start - 1] != "\n"):
        raise ValueError(f"no line starts at character {start}")
    story_end = text.rfind("\n\n", 0, start)
    story_start = 0 if story_end < 0 else story_end + 2  # what is before does not matter
    context = text.count("\n", story_start, start)
    first_line = text.count("\n", 0, story_start) + 1
    log_probs = _log_probs(grammar, text[story_start:], first_line)
    return -math.fsum(log_probs[context:]) / math.log(2) / (len(text) - start)


def _log_probs(grammar: Grammar, text: str, first_line: int) -> list[float]:
    """``log_probs_per_line``; ``first_line`` is what messages call the first line."""
    if text and not text.endswith("\n"):
        raise OutsideLanguageError(
            "the text does not end with a newline",
            where=f"line {first_line + text.count(chr(10))}",
            fix="end its last line with one",
        )
    log_probs: list[float] = []
    states = _start(grammar)
    before = 0.0
    for number, line in enumerate(_lines(text), start=first_line):
        states, furthest = _read_line(line, states)
        if not states:
            raise OutsideLanguageError(
                "the grammar does not write this text",
                where=f"line {number}, column {furthest + 1}",
                why=f"it writes {line[:furthest]!r} here, but not {line[: furthest + 10]!r}",
            )
        log_prob = _log_sum(states)
        log_probs.append(log_prob - before)
        before = log_prob
        if all(frame is None for frame, _, _ in states):
            states, before = _start(grammar), 0.0
    return log_probs


def _start(grammar: Grammar) -> list[State]:
    """Nothing read; after the story comes the empty line."""
    return [(((*grammar.story, NEWLINE), 0, None), {}, 0.0)]


def _read_story(grammar: Grammar, story: str) -> list[State]:
    """The finished derivations of a story and its empty line."""
    states = _start(grammar)
    for line in _lines(story + "\n"):
        states, _ = _read_line(line, states)
    return [state for state in states if state[0] is None]


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, each with its newline; no other character ends a line."""
    return (line + "\n" for line in text.split("\n")[:-1])


def _read_line(line: str, states: Sequence[State]) -> tuple[list[State], int]:
    """Every way on from ``states`` that reads the whole line, and how far any way got.

    line: with its newline. The second value counts characters.
    """
    read: list[State] = []
    furthest = 0
    pending: list[Reading] = [(*state, 0) for state in states]
    while pending:
        frame, bindings, log_prob, position = pending.pop()
        if position > furthest:
            furthest = position
        if frame is None:
            continue
        symbols, index, outer = frame
        symbol = symbols[index]
        after = (symbols, index + 1, outer) if index + 1 < len(symbols) else outer
        if isinstance(symbol, Words):
            if line.startswith(symbol.text, position):
                end = position + len(symbol.text)
                if symbol == NEWLINE:
                    read.append((after, bindings, log_prob))
                else:
                    pending.append((after, bindings, log_prob, end))
        elif isinstance(symbol, Choice):
            pending += _choose(symbol, line, (after, bindings, log_prob, position))
        elif isinstance(symbol, Recall):
            text = symbol.text(bindings)
            if line.startswith(text, position):
                pending.append((after, bindings, log_prob, position + len(text)))
        else:
            pending += _pick(symbol, line, (after, bindings, log_prob, position))
    return read, furthest


def _choose(choice: Choice, line: str, reading: Reading) -> Iterator[Reading]:
    """The readings in which each alternative comes next, less those that fail at once."""
    outer, bindings, log_prob, position = reading
    for alternative in choice.alternatives:
        symbols = alternative.symbols
        if not symbols:
            yield outer, bindings, log_prob + alternative.log_prob, position
            continue
        first = symbols[0]
        if isinstance(first, Words) and not line.startswith(first.text, position):
            continue
        yield (symbols, 0, outer), bindings, log_prob + alternative.log_prob, position


def _pick(pick: Pick, line: str, reading: Reading) -> Iterator[Reading]:
    """The readings in which the line goes on with a row of the table."""
    after, bindings, log_prob, position = reading
    candidates = pick.candidates(bindings)
    for index in candidates.by_initial.get(line[position], ()):
        text = candidates.texts[index]
        if line.startswith(text, position):
            bound = bindings
            if pick.variable is not None:
                bound = {**bindings, pick.variable: candidates.rows[index]}
            yield after, bound, log_prob + candidates.log_probs[index], position + len(text)


def _log_sum(states: Sequence[State]) -> float:
    """The log of the sum of the states' probabilities."""
    largest = max(log_prob for _, _, log_prob in states)
    if len(states) == 1:
        return largest
    return largest + math.log(math.fsum(math.exp(each[2] - largest) for each in states))
