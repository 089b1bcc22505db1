"""A corpus: text from files, folders, gzip, pipes and stdin, in pieces, in two parts.

Every pass reads the sources again, in memory that does not grow with them.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import get_args

from textgen.config import UNIT_TERMINATORS, VALID_FRACTION, TrainingConfig, Unit, ValidSplit
from textgen.config.options import Bounds, check_choice, check_real
from textgen.data.sources import Source, find_sources
from textgen.data.text import Findings, Piece, Reading, normalized, split_into_pieces
from textgen.errors import DataError, ResourceError, UsageError
from textgen.results import HeldOut

Paths = Sequence[str | Path]
OnRead = Callable[[int], None]
_DOCUMENT_END = b"\xff"  # never a byte of UTF-8


class Corpus:
    """A text in a training and a validation part.

    Attributes:
        fingerprint: SHA-256 of the normalized text in UTF-8 (with ``--unit document``, the end of
            each document is marked).
        sources: their names, as given.
        held_out: where the validation part is, file by file.
        notes: messages for the user.
        on_read: called while the text is read again, with the characters read so far.
    """

    held_out: tuple[HeldOut, ...] = ()

    def __init__(
        self,
        reading: Reading,
        sources: Sequence[Source],
        notes: Sequence[str],
        on_read: OnRead = lambda done: None,
    ) -> None:
        """on_read: called while the text is read, with the bytes of UTF-8 read so far."""
        self.on_read: OnRead = lambda done: None
        self.unit = reading.unit
        self.sources = tuple(source.name for source in sources)
        self._reading = reading
        self._sources = tuple(sources)
        findings, digest = Findings(), hashlib.sha256()
        sizes: list[int] = []
        done = 0
        for source in sources:
            characters = 0
            for text in normalized(source, reading, findings):
                characters += len(text)
                data = text.encode("utf-8", "surrogatepass")
                digest.update(data)
                done += len(data)
                on_read(done)
            if self.unit == "document" and characters:
                digest.update(_DOCUMENT_END)
            sizes.append(characters)
        self._ends = (0, *accumulate(sizes))  # of the sources, in characters
        self.characters = self._ends[-1]
        self._splits = self._ends[1:]  # of each source, where the held-out part begins
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
        valid_split: ValidSplit = "spread",
        encoding: str = "utf-8",
        errors: str = "strict",
        skip_binary: bool = False,
        on_read: OnRead = lambda done: None,
    ) -> "Corpus":
        """Read a corpus once, to check and measure all of it.

        Args:
            paths: files, folders, FIFOs or ``-`` for stdin.
            valid: the validation part; by default ``valid_fraction`` of the characters.
            valid_split: ``tail`` holds out the end of the whole text, from the next start of a
                sentence. ``spread`` holds out the end of every file, from the next start of a
                sentence, and small files as a whole; of one file it is the same.
            skip_binary: leave out of folders whatever is not text, however much it is.
            on_read: called while the text is read, with the bytes of UTF-8 read so far.

        Raises:
            ResourceError: There is no such file, or it cannot be read.
            DataError: A part is empty or not text.
        """
        if not paths:
            raise UsageError("no corpus given", fix="name a file, a folder, or - for stdin")
        check_real("valid_fraction", valid_fraction, Bounds(0, 1, open_low=True))
        if valid is not None and str(valid) == "-" in map(str, paths):
            raise UsageError("stdin (-) cannot be both the corpus and --valid")
        check_choice("valid_split", valid_split, get_args(ValidSplit))
        reading = Reading(unit, encoding, errors)
        find = partial(find_sources, encoding=reading.encoding, skip_binary=skip_binary)
        sources, notes = find(paths)
        held_out, more_notes = find([] if valid is None else [valid])
        corpus = cls(reading, [*sources, *held_out], [*notes, *more_notes], on_read)
        train = corpus._ends[len(sources)]
        for part, characters in ((sources, train), (held_out, corpus.characters - train)):
            if part and characters == 0:
                names = ", ".join(source.name for source in part)
                raise DataError("empty", where=names, fix="give a file with text in it")
        if held_out:
            corpus._hold_out_from(train, 1)
        elif valid_split == "tail" or not corpus._spread(valid_fraction):
            corpus._hold_out_from(*corpus._start_of_tail(valid_fraction))
        return corpus

    @property
    def train_characters(self) -> int:
        """How many characters of the normalized text the training part has."""
        return sum(each - first for each, first in zip(self._splits, self._ends, strict=False))

    @property
    def valid_characters(self) -> int:
        return self.characters - self.train_characters

    def train(self) -> Iterator[Piece]:
        """The training part, as ``split_into_pieces`` splits it."""
        return self._pieces(self._ends, self._splits)

    def valid(self) -> Iterator[Piece]:
        """The validation part, likewise."""
        return self._pieces(self._splits, self._ends[1:])

    def _hold_out(self, splits: Sequence[int], lines: Sequence[int]) -> None:
        """Hold out each source from its split on, which is in this line of it."""
        self._splits = tuple(splits)
        self.held_out = tuple(
            HeldOut(name, line, end - split)
            for name, line, split, end in zip(
                self.sources, lines, splits, self._ends[1:], strict=True
            )
            if split < end
        )

    def _hold_out_from(self, start: int, line: int) -> None:
        """Hold out all from this character on, which is in this line of its source."""
        pairs = list(pairwise(self._ends))
        lines = [line if first <= start else 1 for first, _ in pairs]
        self._hold_out([min(max(start, first), end) for first, end in pairs], lines)

    def _spread(self, fraction: float) -> bool:
        """Hold out the end of every source; whether any is long enough.

        What a source cannot hold out in whole sentences, the following ones hold out.
        """
        due = Fraction(0)
        splits, lines = [], []
        for index, (first, end) in enumerate(pairwise(self._ends)):
            due += (end - first) * Fraction(str(fraction))
            split, line = self._next_sentence(index, max(first, end - int(due)))
            due -= end - split
            splits.append(split)
            lines.append(line)
        self._hold_out(splits, lines)
        return bool(self.held_out)

    def _start_of_tail(self, fraction: float) -> tuple[int, int]:
        """Where the last ``fraction`` of the characters begin, from the next sentence on.

        If there is none, they begin inside a sentence. Returns also the line in its source.
        """
        # Exactly: 0.1 is a tenth, not the binary fraction next to it.
        held_out = int(self.characters * Fraction(str(fraction)))
        # A text too short for that is validated on its last <EOS>.
        held_out = max(held_out, len(UNIT_TERMINATORS[self.unit]), 1)
        earliest = max(self.characters - held_out, 1)
        index = bisect_left(self._ends, earliest) - 1
        start, line = self._next_sentence(index, earliest)
        if start < self.characters:
            return start, line
        before = self._pieces_of(index, self._ends[index], earliest)
        return earliest, 1 + sum(text.count("\n") for text, _ in before)

    def _next_sentence(self, index: int, earliest: int) -> tuple[int, int]:
        """The first start of a sentence in a source from ``earliest`` on, and its line.

        If there is none, the end of the source, where the next one begins.
        """
        first, end = self._ends[index : index + 2]
        if earliest == first:
            return first, 1
        if self.unit == "document":
            return end, 1
        terminators = re.compile(UNIT_TERMINATORS[self.unit])
        place, line = first, 1
        # The text is read from the source's start, so that no run of newlines is split.
        for text, _ in self._pieces_of(index, first, end):
            if place + len(text) >= earliest:
                for match in terminators.finditer(text):
                    if earliest <= place + match.end() < end:
                        return place + match.end(), line + text.count("\n", 0, match.end())
            place += len(text)
            line += text.count("\n")
        return end, 1

    def _pieces(self, starts: Sequence[int], stops: Sequence[int]) -> Iterator[Piece]:
        """The characters of each source from its start to its stop; each piece is from one."""
        for index, (start, stop) in enumerate(zip(starts, stops, strict=False)):
            yield from self._pieces_of(index, start, stop)

    def _pieces_of(self, index: int, start: int, stop: int) -> Iterator[Piece]:
        first, end = self._ends[index : index + 2]
        if start >= stop:
            return
        blocks = self._between(self._sources[index], start - first, stop - first, end - first)
        place = start
        for text in split_into_pieces(blocks, self.unit):
            place += len(text)
            self.on_read(place)
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
    skip_binary: bool = False

    @property
    def paths(self) -> list[Path]:
        """The paths of the text; by default the bundled stories."""
        return [Path(path) for path in self.corpora] or [bundled_corpus()]

    @property
    def name(self) -> str:
        """What the text is, in a few words."""
        if not self.corpora:
            return "the bundled stories"
        first = "stdin" if self.corpora[0] == "-" else Path(self.corpora[0]).name
        others = len(self.corpora) - 1
        return first if not others else f"{first} and {others} other{'s' * (others > 1)}"

    @property
    def size(self) -> int | None:
        """The bytes of the text, where all of it is in files that are not packed."""
        paths = [*self.paths, *([] if self.valid is None else [Path(self.valid)])]
        if not all(path.is_file() and path.suffix != ".gz" for path in paths):
            return None
        return sum(path.stat().st_size for path in paths)

    def open(
        self,
        unit: Unit,
        training: TrainingConfig,
        on_read: OnRead = lambda done: None,
        if_moved: str | None = None,
    ) -> Corpus:
        """Read the corpus, as ``Corpus.open`` does.

        Args:
            if_moved: What to do if there is no such file any more.
        """
        try:
            return Corpus.open(
                [str(path) for path in self.paths],
                unit=unit,
                valid=self.valid,
                valid_fraction=training.valid_fraction,
                valid_split=training.valid_split,
                encoding=self.encoding,
                errors=self.errors,
                skip_binary=self.skip_binary,
                on_read=on_read,
            )
        except ResourceError as error:
            named = [*self.paths, *([] if self.valid is None else [Path(self.valid)])]
            if if_moved is None or all(path.exists() for path in named):
                raise
            why = "the model was trained on it"
            raise ResourceError(error.what, where=error.where, why=why, fix=if_moved) from error
