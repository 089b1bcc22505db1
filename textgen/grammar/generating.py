"""A grammar and random numbers in, stories and their log-probabilities out."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from textgen.grammar.symbols import Choice, Grammar, GrammarError, Pick, Recall, Row, Symbol, Words


@dataclass(frozen=True)
class Story:
    """A story and the natural log of the probability of the draws that wrote it.

    text: one or more lines, none of them empty, each with its newline.
    """

    text: str
    log_prob: float


def generate_story(grammar: Grammar, generator: Random) -> Story:
    """Write one story; the same state of ``generator`` gives the same story on any platform.

    Raises GrammarError when the story has an empty line, which is kept for between stories.
    """
    written: list[str] = []
    log_prob = 0.0
    bindings: dict[str, Row] = {}
    pending: list[Symbol] = list(reversed(grammar.story))
    while pending:
        symbol = pending.pop()
        if isinstance(symbol, Words):
            written.append(symbol.text)
        elif isinstance(symbol, Recall):
            written.append(symbol.text(bindings))
        elif isinstance(symbol, Choice):
            alternative = symbol.alternatives[draw(symbol.cumulative, generator)]
            log_prob += alternative.log_prob
            pending.extend(reversed(alternative.symbols))
        else:
            log_prob += _pick(symbol, bindings, written, generator)
    text = "".join(written)
    if text.startswith("\n") or "\n\n" in text:
        raise GrammarError("a story has an empty line", where=grammar.path, why=repr(text))
    return Story(text, log_prob)


def generate_corpus(grammar: Grammar, seed: int, characters: int) -> str:
    """Write stories, an empty line between two of them, until there are ``characters``.

    The result ends with the story that passes that length; it depends on the grammar and
    the arguments alone.
    """
    generator = Random(seed)
    stories: list[str] = []
    length = 0
    while length < characters:
        stories.append(generate_story(grammar, generator).text)
        length += len(stories[-1]) + (len(stories) > 1)
    return "\n".join(stories)


def _pick(pick: Pick, bindings: dict[str, Row], written: list[str], generator: Random) -> float:
    """Draw a row, write it and bind it; the log-probability of the draw."""
    candidates = pick.candidates(bindings)
    index = draw(candidates.cumulative, generator)
    written.append(candidates.texts[index])
    if pick.variable is not None:
        bindings[pick.variable] = candidates.rows[index]
    return candidates.log_probs[index]


def draw(cumulative: Sequence[int], generator: Random) -> int:
    """An index drawn by weight; only ``random()`` is the same in every version of Python."""
    return bisect_right(cumulative, int(generator.random() * cumulative[-1]))
