"""A corpus: text from files, folders, gzip, pipes and stdin, in pieces, in two parts.

Every pass reads the sources again, in memory that does not grow with them.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from textgen.config import UNIT_TERMINATORS, VALID_FRACTION, Unit
from textgen.config.options import Bounds, check_real
from textgen.data.sources import Source, find_sources
from textgen.data.text import Findings, Piece, Reading, normalized, split_into_pieces
from textgen.errors import DataError, ResourceError, UsageError

Paths = Sequence[str | Path]
_DOCUMENT_END = b"\xff"  # never a byte of UTF-8


class Corpus:
    """A text in a training and a validation part.

    Attributes:
        train_characters: how many characters of the normalized text the training part has.
        fingerprint: SHA-256 of the normalized text in UTF-8 (with ``--unit document``, the end of
            each document is marked).
        sources: their names, as given.
        notes: messages for the user.
    """

    def __init__(self, reading: Reading, sources: Sequence[Source], notes: Sequence[str]) -> None:
        self.unit = reading.unit
        self.sources = tuple(source.name for source in sources)
        self._reading = reading
        self._sources = tuple(sources)
        findings, digest = Findings(), hashlib.sha256()
        sizes: list[int] = []
        for source in sources:
            characters = 0
            for text in normalized(source, reading, findings):
                characters += len(text)
                digest.update(text.encode("utf-8", "surrogatepass"))
            if self.unit == "document" and characters:
                digest.update(_DOCUMENT_END)
            sizes.append(characters)
        self._ends = (0, *accumulate(sizes))  # of the sources, in characters
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
        """Read a corpus once, to check and measure all of it.

        Args:
            paths: files, folders, FIFOs or ``-`` for stdin.
            valid: the validation part; by default the last ``valid_fraction`` of the characters,
                from the next start of a sentence.

        Raises:
            ResourceError: There is no such file, or it cannot be read.
            DataError: A part is empty or not text.
        """
        if not paths:
            raise UsageError("no corpus given", fix="name a file, a folder, or - for stdin")
        check_real("valid_fraction", valid_fraction, Bounds(0, 1, open_low=True))
        if valid is not None and str(valid) == "-" in map(str, paths):
            raise UsageError("stdin (-) cannot be both the corpus and --valid")
        sources, notes = find_sources(paths)
        held_out, more_notes = find_sources([] if valid is None else [valid])
        corpus = cls(Reading(unit, encoding, errors), [*sources, *held_out], [*notes, *more_notes])
        train = corpus._ends[len(sources)]
        for part, characters in ((sources, train), (held_out, corpus.characters - train)):
            if part and characters == 0:
                names = ", ".join(source.name for source in part)
                raise DataError("empty", where=names, fix="give a file with text in it")
        corpus.train_characters = train if held_out else corpus._start_of_tail(valid_fraction)
        return corpus

    @property
    def valid_characters(self) -> int:
        return self.characters - self.train_characters

    def train(self) -> Iterator[Piece]:
        """The training part, as ``split_into_pieces`` splits it."""
        return self._pieces(0, self.train_characters)

    def valid(self) -> Iterator[Piece]:
        """The validation part, likewise."""
        return self._pieces(self.train_characters, self.characters)

    def _start_of_tail(self, fraction: float) -> int:
        """Where the last ``fraction`` of the characters begin, from the next sentence on."""
        # Exactly: 0.1 is a tenth, not the binary fraction next to it.
        held_out = int(self.characters * Fraction(str(fraction)))
        # A text too short for that is validated on its last <EOS>.
        held_out = max(held_out, len(UNIT_TERMINATORS[self.unit]), 1)
        return self._next_sentence(max(self.characters - held_out, 1))

    def _next_sentence(self, earliest: int) -> int:
        """The first start of a sentence from ``earliest`` on; ``earliest`` if there is none."""
        if self.unit == "document":
            starts = (end for end in self._ends if earliest <= end < self.characters)
            return next(starts, earliest)
        terminators = re.compile(UNIT_TERMINATORS[self.unit])
        # The text is read from a source's start, so that no run of newlines is split.
        place = max(end for end in self._ends if end < earliest)
        for text, _ in self._pieces(place, self.characters):
            if place + len(text) >= earliest:
                for match in terminators.finditer(text):
                    if earliest <= place + match.end() < self.characters:
                        return place + match.end()
            place += len(text)
        return earliest

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The characters from ``start`` to ``stop``; each piece is from one source."""
        for source, first, end in zip(self._sources, self._ends, self._ends[1:], strict=False):
            low, high = max(start, first), min(stop, end)
            if low >= high:
                continue
            blocks = self._between(source, low - first, high - first, end - first)
            place = low
            for text in split_into_pieces(blocks, self.unit):
                place += len(text)
                yield Piece(text, self.unit == "document" and place == end)

    def _between(self, source: Source, low: int, high: int, characters: int) -> Iterator[str]:
        place = 0
        for text in normalized(source, self._reading, Findings()):
            end = place + len(text)
            if end > low and place < high:
                yield text[max(low - place, 0) : high - place]
            place = end
            if place >= high and high < characters:
                return
        if place != characters:
            raise source.changed()


def bundled_corpus() -> Path:
    """The path of the bundled corpus, in an installed package or in the repository."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "bundled", package.parent / "corpora"):
        if (path := folder / "stories.txt").is_file():
            return path
    raise ResourceError("a bundled file is missing", where=path, fix="install textgen again")


@dataclass(frozen=True)
class CorpusSource:
    """Where the text of a run comes from; stored in its checkpoints, so that resume finds it."""

    corpora: tuple[str, ...] = ()
    valid: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    tokenizer: str | None = None

    @property
    def paths(self) -> list[Path]:
        """The paths of the text; by default the bundled stories."""
        return [Path(path) for path in self.corpora] or [bundled_corpus()]

    def open(self, unit: Unit, valid_fraction: float) -> Corpus:
        """Read the corpus, as ``Corpus.open`` does."""
        return Corpus.open(
            [str(path) for path in self.paths],
            unit=unit,
            valid=self.valid,
            valid_fraction=valid_fraction,
            encoding=self.encoding,
            errors=self.errors,
        )
