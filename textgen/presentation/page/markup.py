"""Sentences as HTML: each part of the text with its colour, and what a panel tells of it."""

import bisect
import functools
import json
import math
from html import escape
from typing import Any

from textgen.presentation.console import shown as escaped
from textgen.presentation.numbers import figure, fixed
from textgen.presentation.scores import Shown
from textgen.presentation.tokens import visible
from textgen.results import PartScore, SentenceScore

ALTERNATIVES = 5
"""How many of a part's alternatives the page has room for."""

EDGES_BITS = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0)
"""Where one colour ends and the next begins; the same on every page, so that pages compare."""

# The likely tokens come again and again, and naming them is half of the work.
_named = functools.lru_cache(maxsize=2**13)(visible)


def scale_markup() -> str:
    """The colours from left to right, each with the surprisal from which it is used."""
    steps = []
    for step, least in enumerate((0.0, *EDGES_BITS)):
        most = EDGES_BITS[step] if step < len(EDGES_BITS) else None
        meant = f"{least:g} to {most:g} bits" if most is not None else f"{least:g} bits and more"
        said = f"{least:g}" if most is not None else f"{least:g}+"
        steps.append(f'<li class="h{step}" title="{meant}">{said}</li>')
    return "".join(steps)


def sentence_markup(score: SentenceScore, shown: Shown) -> str:
    """One sentence: its number, its text in parts, and what the panel tells of each as JSON."""
    assert score.parts is not None, "a page is made of parts"
    label = f"Sentence {score.line}"
    bits = fixed(score.bits_per_character, 2)
    sums = (
        f"{shown.log_name} {fixed(shown.log(score.log_prob), 2)},"
        f" perplexity {figure(score.perplexity)}, {bits} bits a character"
    )
    data = {"sums": sums, "parts": [_row(part) for part in score.parts]}
    parts = "".join(_part(part, first=place == 0) for place, part in enumerate(score.parts))
    return (
        f'<article><h3><span class="unseen">Sentence </span>{score.line}</h3>'
        f'<div class="of" role="listbox" aria-orientation="horizontal" aria-label="{label}"'
        f' lang="" dir="auto" translate="no" data-all=\'{_in_quotes(data)}\'>{parts}</div>'
        f'<data value="{bits}" title="bits a character">{bits}</data></article>\n'
    )


def _part(part: PartScore, *, first: bool) -> str:
    """A part of the text. White space around it is outside of it, where there is more in it."""
    before, core, after = (part.surface, "", "") if part.ends else _parted(part.surface)
    bits = fixed(max(0.0, part.surprisal), 1)
    classes, more = f"h{_step(part)}", ""
    if part.unknown:
        classes += " u"
    if part.ends:
        classes, more = f"{classes} e", ' aria-label="end of sentence"'
    elif not core:
        classes, more = f"{classes} z", f' data-n="{escape(visible(part.text, part.id))}"'
    elif core.isspace():
        classes += " l" if "\n" in core else ""
        more = f' aria-label="{escape(visible(core))}"'
    if first:
        more += ' tabindex="0"'
    title = f"{bits} bits" + (f", rank {part.rank}" if part.rank is not None else "")
    title += ", unknown" if part.unknown else ""
    return (
        f'{before}<span role="option" class="{classes}" data-s="{bits}" title="{title}"{more}>'
        f"{_visible_markup(core)}</span>{after}"
    )


def _parted(surface: str) -> tuple[str, str, str]:
    """The white space before a part, the part, and the white space after; all joined, surface.

    >>> _parted(" the "), _parted(" ")
    ((' ', 'the', ' '), ('', ' ', ''))
    """
    core = surface.strip(" \n\t")
    if not core:
        return "", surface, ""
    start = surface.index(core)
    return surface[:start], core, surface[start + len(core) :]


def _visible_markup(text: str) -> str:
    r"""Text as HTML that shows it; a character that would not be seen is written ``\x1b``."""
    if text.isprintable():
        return escape(text)
    pieces = []
    for character in text:
        as_shown = escaped(character, keep="\n\t")
        pieces.append(escape(character) if as_shown == character else f"<i>{as_shown}</i>")
    return "".join(pieces)


def _step(part: PartScore) -> int:
    """Which colour: 0 is the least surprising."""
    return bisect.bisect_right(EDGES_BITS, part.surprisal)


def _row(part: PartScore) -> list[Any]:
    """What the panel shows of a part; page.js says in which order."""
    alternatives = part.alternatives[:ALTERNATIVES]
    same = (
        place
        for place, each in enumerate(alternatives)
        if part.id is not None and each.id == part.id
    )
    named: list[Any] = []
    for each in alternatives:
        named += [_named(each.text, each.id), float(f"{each.probability:.4g}")]
    return [
        _rounded(max(0.0, part.surprisal), 4),
        part.rank,
        _rounded(part.entropy, 3),
        _rounded(part.entropy_reduction, 3),
        part.tokens,
        next(same, None),
        named,
    ]


def _rounded(value: float | None, decimals: int) -> float | None:
    return round(value, decimals) if value is not None and math.isfinite(value) else None


def _in_quotes(value: Any) -> str:
    """JSON as the value of an attribute in single quotes, in which its own need no escape.

    Not a script element: ten thousand of those take a browser a minute, these a few seconds.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#x27;")
