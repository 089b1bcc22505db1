"""Scores as a page for the browser: the text as a heat map of its surprisal.

The page is one file that loads nothing. ``page.html`` is what it looks like without its text,
``page.css`` and ``page.js`` stand in it whole; its Content-Security-Policy names them by their
hashes, so that nothing else in it can run, whatever the text holds.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Self

from textgen.config import ScoringConfig
from textgen.presentation.console import shown as escaped
from textgen.presentation.numbers import count, figure, fixed, share
from textgen.presentation.page.markup import scale_markup, sentence_markup
from textgen.presentation.scores import ADAPTED, ScoreWriter, Shown
from textgen.presentation.scores.base import base_name
from textgen.results import ScoreSum, SentenceScore
from textgen.storage import NewFile

# The totals stand above the text but are known after it: they are written into this room.
_ROOM_BYTES = 4096


class PageScores(ScoreWriter):
    """Writes scores into one HTML file, sentence by sentence; a context manager.

    The page takes the place of ``path`` when it is whole, with ``end``; before that, and where
    the block fails, what was there stays. Sentences come with their parts. The same scores give
    the same bytes.

    name: what the text is called. checkpoint: what scored it. config: how.

    Raises ResourceError on entering where ``path`` cannot be written, or as it is written.
    """

    def __init__(
        self, path: Path, shown: Shown, *, name: str, checkpoint: str, config: ScoringConfig
    ) -> None:
        super().__init__(shown)
        self._file = NewFile(path)
        about = _about(checkpoint, shown, config)
        self._head, self._middle, self._tail = _frame(name, about, part=shown.level)
        self._totals_at: int | None = None

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def begin(self) -> None:
        self._write(self._head)
        self._totals_at = self._file.tell()
        self._write(" " * _ROOM_BYTES + self._middle)

    def sentence(self, score: SentenceScore) -> None:
        self._write(sentence_markup(score, self.shown))

    def end(self, total: ScoreSum, sentences: int) -> None:
        if self._totals_at is None:  # no sentence came
            self.begin()
        assert self._totals_at is not None
        totals = _totals(total, sentences, self.shown).encode()
        assert len(totals) <= _ROOM_BYTES
        self._write(self._tail)
        self._file.overwrite(self._totals_at, totals)
        self._file.finish()

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


def _frame(name: str, about: str, *, part: str) -> Sequence[str]:
    """The page up to its totals, up to its sentences, and after them."""
    style, script = _resource("page.css"), _resource("page.js")
    page = Template(_resource("page.html")).substitute(
        title=escape(f"Surprisal of {escaped(name)}"),
        about=escape(about),
        part=part,
        scale=scale_markup(),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    head, _, rest = page.partition("<!-- totals -->")
    middle, _, tail = rest.partition("<!-- sentences -->\n")
    return head, middle, tail


def _resource(name: str) -> str:
    # Whatever line ends the file was checked out with, a browser hashes "\n".
    return resources.files(__package__).joinpath(name).read_text("utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _about(checkpoint: str, shown: Shown, config: ScoringConfig) -> str:
    """What the figures are of, and in which units."""
    if config.prefix is not None:
        context = f"each text as what comes after “{escaped(config.prefix)}”"
    elif config.context == "document":
        context = "each sentence after all before it"
    else:
        context = "each sentence by itself"
    return (
        f"Scored by {escaped(checkpoint)}, {context}. Surprisal and entropy are in bits;"
        f" log-probabilities ({shown.log_name}) are to base {base_name(shown.base)}."
        + (
            " A sentence’s end, ⏎, is a part of it."
            if shown.eos
            else " The end of a text is not counted."
        )
        + (f" Adapted: {ADAPTED}." if shown.adapted else "")
    )


def _totals(total: ScoreSum, sentences: int, shown: Shown) -> str:
    unknown = f"{count(total.unknown)} unknown"
    if total.unknown and total.tokens:
        unknown += f" ({share(total.unknown / total.tokens)})"
    known = f"{figure(total.perplexity_without_unknown)} without unknown"
    tiles = (
        ("Perplexity per token", figure(total.perplexity), known if total.unknown else ""),
        ("Perplexity per word", figure(total.perplexity_per_word), f"{count(total.words)} words"),
        (
            "Bits per character",
            fixed(total.bits_per_character, 3),
            f"{count(total.characters)} characters",
        ),
        ("Bits per byte", fixed(total.bits_per_byte, 3), f"{count(total.bytes)} bytes"),
        (
            f"Log-probability, {shown.log_name}",
            fixed(shown.log(total.log_prob), 2),
            f"{count(sentences)} sentence{'s' if sentences != 1 else ''}",
        ),
        ("Tokens", count(total.tokens), unknown),
    )
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f' <small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="totals">{rows}</dl>{_unknown_note(total)}'


def _unknown_note(total: ScoreSum) -> str:
    if total.unknown == 0:
        return ""
    if total.spelled:
        said = "The spelling of what is unknown (dotted underline) is in every figure."
    else:
        said = (
            "What is unknown (dotted underline) counts as &lt;UNK&gt;, which stands for anything"
            " unseen: these figures do not compare between models."
        )
    return f'<p class="note">{said}</p>'
