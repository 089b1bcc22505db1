"""Scores as one HTML page that loads nothing: the text as a heat map of its surprisal.

``page.html`` is the page without its text; ``reader.html``, what shows a text with its scores,
``page.css`` and ``page.js`` are put into it. Its
Content-Security-Policy names them by their hashes, so that nothing else can run in it, whatever
the text contains.
"""

import base64
import bisect
import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Self

from textgen.config import MOST_SEARCHED_WORDS, ScoringConfig
from textgen.presentation.console import HIDDEN
from textgen.presentation.console import shown as escaped
from textgen.presentation.formats import ADAPTED, ScoreWriter, Shown, sentence_count
from textgen.presentation.numbers import count, figure, fixed, share
from textgen.presentation.tables import visible
from textgen.results import PartScore, ScoreSum, SentenceScore, by_text
from textgen.storage import NewFile

ALTERNATIVES = 5  # of a part, on the page
EDGES_BITS = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 15.0)
"""Where one colour ends and the next begins; the same on every page, so that pages compare."""

# Likely tokens recur often, and naming them is half of the work.
_named = functools.lru_cache(maxsize=2**13)(visible)


def _sentence(score: SentenceScore, shown: Shown) -> str:
    """One sentence: its number, its text in parts, and the content of the panel as JSON."""
    assert score.parts is not None, "a page is made of parts"
    bits = fixed(score.bits_per_character, 2)
    sums = (
        f"{shown.log_name} {fixed(shown.log(score.log_prob), 2)},"
        f" perplexity {figure(score.perplexity)}, {bits} bits per character"
    )
    # JSON in an attribute in single quotes, in which double quotes need no escape. Not in a script
    # element: ten thousand of those take a browser a minute, these a few seconds.
    data = {"sums": sums, "parts": [_row(part) for part in score.parts]}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    quoted = text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#x27;")
    parts = "".join(_part(part, first=place == 0) for place, part in enumerate(score.parts))
    return (
        f'<article><h3><span class="unseen">Sentence </span>{score.line}</h3><div class="of"'
        f' role="listbox" aria-orientation="horizontal" aria-label="Sentence {score.line}"'
        f' lang="" dir="auto" translate="no" data-all=\'{quoted}\'>{parts}</div>'
        f'<data value="{bits}" title="bits per character">{bits}</data></article>\n'
    )


def _divided(part: PartScore) -> tuple[str, str, str]:
    """The white space before a part's text, the text, and the white space after it."""
    core = part.span.strip(" \n\t") or part.span
    before, _, after = part.span.partition(core or " ")
    return (part.span, "", "") if part.ends else (before, core, after)


def _title(part: PartScore) -> str:
    title = f"{fixed(max(0.0, part.surprisal), 1)} bits"
    if part.rank is not None:
        title += f", rank {'of its first token ' * (part.token is None)}{part.rank}"
    return title + ", unknown" * part.unknown


def _step(part: PartScore) -> int:
    """The place of a part's colour in the scale."""
    return bisect.bisect_right(EDGES_BITS, part.surprisal)


def _part(part: PartScore, *, first: bool) -> str:
    """A part of the text. White space around it is outside of it, unless it is all there is."""
    before, core, after = _divided(part)
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
    bits = fixed(max(0.0, part.surprisal), 1)
    return (
        f'{before}<span role="option" class="{classes}" data-s="{bits}" title="{_title(part)}"'
        f"{more}>{_visible_markup(core)}</span>{after}"
    )


def heat_map(scores: Sequence[SentenceScore]) -> str:
    """Scores as HTML within another page, such as a notebook: no script, no style but its own.

    Those without parts are their texts and figures.
    """
    return f'<div style="line-height:1.8">{"".join(map(_framed, scores))}</div>'


def _framed(score: SentenceScore) -> str:
    shown = Shown(pseudo=score.pseudo)
    figures = f"{shown.log_name} {fixed(score.log_prob, 2)}, {shown.label('perplexity')}"
    figures += f" {figure(score.perplexity)}"
    if not score.pseudo:
        figures += f", {fixed(score.bits_per_character, 2)} bits per character"
    text = _visible_markup(score.text)
    if score.parts is not None:
        text = "".join(map(_coloured, score.parts))
    return (
        f'<p lang="" dir="auto" translate="no" style="margin:0;white-space:pre-wrap">{text}</p>'
        f'<p style="margin:0 0 .5em;opacity:.75;font-size:.85em">{figures}</p>'
    )


def _coloured(part: PartScore) -> str:
    before, core, after = _divided(part)
    background, ink = _light_colours()[_step(part)]
    style = f"background:{background};color:{ink}"
    if part.unknown:
        style += ";text-decoration:underline dotted"
    core = _visible_markup(core) or ("⏎" if part.ends else escape(visible(part.text, part.id)))
    return f'{before}<span title="{_title(part)}" style="{style}">{core}</span>{after}'


@functools.cache
def _light_colours() -> Sequence[tuple[str, str]]:
    """The background and the ink of each step of the scale, as the page has them by day."""
    style = resource("page.css")
    found = dict(reversed(re.findall(r"--([ht]\d): (#\w{6})", style)))  # the first of each stays
    return [(found[f"h{step}"], found[f"t{step}"]) for step in range(len(EDGES_BITS) + 1)]


def _visible_markup(text: str) -> str:
    r"""Text as HTML that shows it; a character that would not be seen is written ``\x1b``."""
    marked, end = "", 0
    for found in HIDDEN.finditer(text):
        if found[0] not in "\n\t":
            marked += f"{escape(text[end : found.start()])}<i>{escaped(found[0])}</i>"
            end = found.end()
    return marked + escape(text[end:])


def _row(part: PartScore) -> list[Any]:
    """The content of the panel for a part, in the order that page.js expects."""
    alternatives = by_text(part.alternatives)[:ALTERNATIVES]
    texts = [(each.text, each.ends) for each in alternatives]
    own = part.text, part.ends
    named: list[Any] = []
    for each in alternatives:
        named += [_named(each.text, each.id), float(f"{each.probability:.4g}")]
    return [
        _rounded(max(0.0, part.surprisal), 4),
        part.rank,
        _rounded(part.entropy, 3),
        _rounded(part.entropy_reduction, 3),
        part.tokens,
        texts.index(own) if own in texts else None,
        named,
    ]


def _rounded(value: float | None, decimals: int) -> float | None:
    return round(value, decimals) if value is not None and math.isfinite(value) else None


_ROOM_BYTES = 4096  # for the totals, which stand above the text but are known after it


class PageScores(ScoreWriter):
    """Writes scores into one HTML file, sentence by sentence; a context manager.

    ``end`` completes the page and replaces ``path`` with it; if the block fails, the old file
    stays. Sentences come with their parts. ``name`` is that of the text.

    Raises:
        ResourceError: On entering, where ``path`` cannot be written, or as it is written.
    """

    def __init__(
        self, path: Path, shown: Shown, *, name: str, checkpoint: str, config: ScoringConfig
    ) -> None:
        super().__init__(shown)
        self._file = NewFile(path)
        self._head, self._middle, self._tail = _frame(name, checkpoint, shown, config)
        self._totals_at: int | None = None

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def begin(self) -> None:
        self._write(self._head)
        self._totals_at = self._file.tell()
        self._write(" " * _ROOM_BYTES + self._middle)

    def sentence(self, score: SentenceScore) -> None:
        self._write(_sentence(score, self.shown))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self._totals_at is None:  # there was no sentence
            self.begin()
        assert self._totals_at is not None
        totals = _totals(total, sentences, self.shown).encode()
        assert len(totals) <= _ROOM_BYTES
        self._write(self._tail)
        self._file.overwrite(self._totals_at, totals)
        self._file.finish()

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


def _frame(name: str, checkpoint: str, shown: Shown, config: ScoringConfig) -> Sequence[str]:
    """The page up to its totals, up to its sentences, and after them."""
    context = "each sentence after all before it"
    if config.prefix is not None:
        context = f"each text as what comes after “{escaped(config.prefix)}”"
    elif config.context == "sentence":
        context = "each sentence by itself"
    counted = "A sentence’s end, ⏎, is a part of it."
    about = (
        f"Scored by {escaped(checkpoint)}, {context}. Surprisal and entropy are in bits;"
        f" log-probabilities ({shown.log_name}) are to base {shown.base_name}."
        f" {counted if shown.eos else 'The end of a text is not counted.'}"
        + (f" Adapted: {ADAPTED}." if shown.adapted else "")
    )
    in_words = shown.level == "word"
    if in_words and not shown.adapted:
        about += f" The likeliest words are given for the first {MOST_SEARCHED_WORDS}."
    style, script = resource("page.css"), resource("page.js")
    page = Template(resource("page.html")).substitute(
        title=escape(f"Surprisal of {escaped(name)}"),
        about=escape(about),
        reader=reader_markup(
            shown.level,
            of_first=" of its first token" * in_words,
            likeliest=f"Likeliest {'first tokens' if in_words and shown.adapted else 'here'}",
        ),
        style=style,
        style_hash=hash_of(style),
        script=script,
        script_hash=hash_of(script),
    )
    head, _, rest = page.partition("<!-- totals -->")
    middle, _, tail = rest.partition("<!-- sentences -->\n")
    return head, middle, tail


def reader_markup(
    part: str,
    *,
    of_first: str = "",
    likeliest: str = "Likeliest here",
    in_main: bool = False,
) -> str:
    """The scale, the place of the text, and the panel that shows the figures of a part.

    Args:
        of_first: What rank and entropy are of, where a part has several tokens.
        in_main: Whether it stands in the main part of a page; otherwise its text is that part.
    """
    scale = []
    for step, (least, most) in enumerate(itertools.pairwise((0.0, *EDGES_BITS, math.inf))):
        last = most == math.inf
        meaning = f"{least:g} bits and more" if last else f"{least:g} to {most:g} bits"
        label = f"{least:g}{'+' if last else ''}"
        scale.append(f'<li class="h{step}" title="{meaning}">{label}</li>')
    return Template(resource("reader.html")).substitute(
        part=part,
        of_first=of_first,
        likeliest=likeliest,
        scale="".join(scale),
        text="div" if in_main else "main",
        panel='aside role="region"' if in_main else "aside",
    )


def resource(name: str) -> str:
    """A file of the page's, as a browser reads it."""
    # Whatever line ends the file was checked out with, a browser hashes "\n".
    return resources.files(__package__).joinpath(name).read_text("utf-8").replace("\r\n", "\n")


def hash_of(text: str) -> str:
    """What a Content-Security-Policy calls a style or a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _totals(total: ScoreSum, sentences: int, shown: Shown) -> str:
    known = f"{figure(total.perplexity_without_unknown)} without unknown" if total.unknown else ""
    unknown = f"{count(total.unknown)} unknown"
    if total.unknown and total.tokens:
        unknown += f" ({share(total.unknown / total.tokens)})"
    log_prob = fixed(shown.log(total.log_prob), 2)
    per_character, per_byte = fixed(total.bits_per_character, 3), fixed(total.bits_per_byte, 3)
    tiles = (
        ("Perplexity per token", figure(total.perplexity), known),
        ("Perplexity per word", figure(total.perplexity_per_word), f"{count(total.words)} words"),
        ("Bits per character", per_character, f"{count(total.characters)} characters"),
        ("Bits per byte", per_byte, f"{count(total.bytes)} bytes"),
        (f"Log-probability, {shown.log_name}", log_prob, sentence_count(sentences)),
        ("Tokens", count(total.tokens), unknown),
    )
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f' <small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in tiles
    )
    note = (
        "The spelling of what is unknown (dotted underline) is in every figure."
        if total.spelled
        else "What is unknown (dotted underline) counts as &lt;UNK&gt;, which stands for anything"
        " unseen: these figures do not compare between models."
    )
    notes = f'<p class="note">{note}</p>' if total.unknown else ""
    return f'<dl class="totals">{rows}</dl>{notes}'
