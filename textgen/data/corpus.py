"""A corpus: text from files, folders, gzip, pipes and stdin, in pieces, in two parts.

Reading normalises only this: a BOM is dropped, CRLF and CR become LF, and a text that does not
end as its unit's texts end is given what it lacks. Every pass reads the sources anew, in memory
that does not grow with them.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from textgen.config import UNIT_TERMINATORS, VALID_FRACTION, Unit
from textgen.data.sources import Source, find_sources
from textgen.data.text import Findings, Piece, Reading, cut, normalised, sentences
from textgen.errors import DataError, ResourceError, UsageError

__all__ = ["Corpus", "Findings", "Piece", "sentences"]

Paths = Sequence[str | Path]
_DOCUMENT_END = b"\xff"  # never a byte of UTF-8


class Corpus:
    """A text in a training and a validation part.

    train_characters: the boundary, in characters from the start of the normalised text.
    fingerprint: SHA-256 of the normalised text (in UTF-8, each document's end marked with
    ``--unit document``), so it is the same on every system. sources: as they were named.
    """

    def __init__(self, reading: Reading, sources: Sequence[Source], notes: Sequence[str]) -> None:
        self.unit = reading.unit
        self.sources = tuple(source.name for source in sources)
        self._reading = reading
        self._sources = tuple(sources)
        findings, digest = Findings(), hashlib.sha256()
        sizes = [self._measure(source, findings, digest.update) for source in sources]
        self._ends = (0, *accumulate(sizes))  # where each source ends, in characters
        self.characters = self._ends[-1]
        self.train_characters = self.characters
        self.fingerprint = digest.hexdigest()
        empty = sizes.count(0)
        self.notes = (*notes, *findings.notes(), *([f"empty files: {empty}"] if empty else ()))

    @classmethod
    def open(
        cls,
        paths: Paths,
        *,
        unit: Unit = "line",
        valid: str | Path | None = None,
        valid_fraction: float = VALID_FRACTION,
        encoding: str = "utf-8",
        errors: str = "strict",
    ) -> "Corpus":
        """Read a corpus once, checking and measuring all of it.

        paths: files, folders, FIFOs or ``-`` for stdin. valid: what to validate on; without
        it, the last ``valid_fraction`` of the characters, from the next sentence start on.
        Raises ResourceError (not there, not readable), DataError (empty, not text).
        """
        if not paths:
            raise UsageError("no corpus given", fix="name a file, a folder, or - for stdin")
        if not 0 < valid_fraction < 1:
            raise UsageError(f"--valid-fraction must lie in (0, 1), got {valid_fraction!r}")
        if valid is not None and str(valid) == "-" in map(str, paths):
            raise UsageError("stdin (-) cannot be both the corpus and --valid")
        sources, notes = find_sources(paths)
        held_out, more_notes = find_sources([] if valid is None else [valid])
        corpus = cls(Reading(unit, encoding, errors), [*sources, *held_out], [*notes, *more_notes])
        if valid is None:
            corpus._hold_out_tail(valid_fraction)
        else:
            corpus._hold_out_after(len(sources))
        return corpus

    @property
    def valid_characters(self) -> int:
        return self.characters - self.train_characters

    def train(self) -> Iterator[Piece]:
        """The training part in pieces, as ``pieces.cut`` says."""
        return self._pieces(0, self.train_characters)

    def valid(self) -> Iterator[Piece]:
        """The validation part in pieces."""
        return self._pieces(self.train_characters, self.characters)

    def _measure(
        self, source: Source, findings: Findings, update: Callable[[bytes], object]
    ) -> int:
        characters = 0
        for text in normalised(source, self._reading, findings):
            characters += len(text)
            update(text.encode("utf-8", "surrogatepass"))
        if self.unit == "document" and characters:
            update(_DOCUMENT_END)
        return characters

    def _hold_out_tail(self, fraction: float) -> None:
        if self.characters == 0:
            raise DataError(
                "empty", where=", ".join(self.sources), fix="give a file with text in it"
            )
        # Counted exactly: 0.1 is a tenth, not the binary fraction next to it.
        held_out = int(self.characters * Fraction(str(fraction)))
        # So short a text that a tenth of it is nothing is validated on its last <EOS>.
        held_out = max(held_out, len(UNIT_TERMINATORS[self.unit]), 1)
        self.train_characters = self._next_sentence(max(self.characters - held_out, 1))

    def _hold_out_after(self, train_sources: int) -> None:
        self.train_characters = self._ends[train_sources]
        for part, names in (
            (self.train_characters, self.sources[:train_sources]),
            (self.valid_characters, self.sources[train_sources:]),
        ):
            if part == 0:
                raise DataError("empty", where=", ".join(names), fix="give a file with text in it")

    def _next_sentence(self, earliest: int) -> int:
        """The first start of a sentence from ``earliest`` on; ``earliest`` where none follows."""
        if self.unit == "document":
            starts = (end for end in self._ends if earliest <= end < self.characters)
            return next(starts, earliest)
        terminators = re.compile(UNIT_TERMINATORS[self.unit])
        # The text is read from a source's start, where a run of newlines is whole.
        place = max(end for end in self._ends if end < earliest)
        for text, _ in self._pieces(place, self.characters):
            if place + len(text) >= earliest:
                for match in terminators.finditer(text):
                    if earliest <= place + match.end() < self.characters:
                        return place + match.end()
            place += len(text)
        return earliest

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The characters from ``start`` to ``stop``, no piece of them from two sources."""
        for source, first, end in zip(self._sources, self._ends, self._ends[1:], strict=False):
            low, high = max(start, first), min(stop, end)
            if low >= high:
                continue
            blocks = self._between(source, low - first, high - first, end - first)
            place = low
            for text in cut(blocks, self.unit):
                place += len(text)
                yield Piece(text, self.unit == "document" and place == end)

    def _between(self, source: Source, low: int, high: int, characters: int) -> Iterator[str]:
        place = 0
        for text in normalised(source, self._reading, Findings()):
            end = place + len(text)
            if end > low and place < high:
                yield text[max(low - place, 0) : high - place]
            place = end
            if place >= high and high < characters:
                return
        if place != characters:
            raise source.changed()


def bundled_corpus() -> Path:
    """Where the bundled corpus lies: in an installed package, or in the repository."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "bundled", package.parent / "corpora"):
        if (path := folder / "stories.txt").is_file():
            return path
    raise ResourceError("a bundled file is missing", where=path, fix="install textgen again")


@dataclass(frozen=True)
class CorpusSource:
    """Where the text of a run comes from; kept in its checkpoints, so that resume finds it."""

    corpora: tuple[str, ...] = ()
    valid: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    tokenizer: str | None = None

    @property
    def paths(self) -> list[Path]:
        """Where the text is; the bundled stories where none was named."""
        return [Path(path) for path in self.corpora] or [bundled_corpus()]

    def open(self, unit: Unit, valid_fraction: float) -> Corpus:
        """The text, read and measured. Raises as ``Corpus.open`` does."""
        return Corpus.open(
            [str(path) for path in self.paths],
            unit=unit,
            valid=self.valid,
            valid_fraction=valid_fraction,
            encoding=self.encoding,
            errors=self.errors,
        )
