"""Novelty: how much of a sample is copied verbatim from the training text.

The training text is indexed at first use, in ``novelty/`` beside the checkpoint, by a suffix array
(Manber and Myers 1993) that libdivsufsort (Mori) builds. It is read through memory maps, so a
search touches a few pages.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from textgen import storage
from textgen.checkpoint import Header, run_folder
from textgen.config import Bounds, Count, NoveltyConfig
from textgen.data.training_text import training_text
from textgen.errors import CheckpointError, DataError, ResourceError
from textgen.results import Novelty, Sample
from textgen.sampling.text import Accept

FOLDER, _HEADER, _FORMAT = "novelty", "novelty.json", 1
_TEXT, _SUFFIXES = "text.bin", "suffixes.bin"
TRIES = 20
"""The most times a sample is drawn until it is novel enough."""

_WORD = 8  # bytes compared at a time
_LONGEST = 2**31 - 1 - _WORD  # positions have 32 bits

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _IndexHeader:
    """fingerprint, boundary: of the corpus. bytes: the length of the training text."""

    fingerprint: str
    boundary: Count
    bytes: Annotated[int, Bounds(0, _LONGEST)]


def build(folder: Path, pieces: Iterable[str]) -> int:
    """Write the index of a text in pieces; returns its length in bytes.

    It needs five bytes of memory per byte of text. Raises DataError for one of more than 2 GB.
    """
    from pydivsufsort import divsufsort

    length = 0
    with (folder / _TEXT).open("wb") as stream:
        for piece in pieces:
            length += stream.write(piece.encode("utf-8", "surrogatepass"))
            if length > _LONGEST:
                raise DataError(
                    "the training text is too long for an index", why="it has more than 2 GB"
                )
        stream.write(bytes(_WORD))  # so that words can be read up to the end
    text = np.fromfile(folder / _TEXT, np.uint8, count=length)
    order: Any = divsufsort(text) if length else np.empty(0)
    order.astype("<i4", copy=False).tofile(folder / _SUFFIXES)
    return length


class TextIndex:
    """The index of a text, opened.

    Raises ValueError if the files do not belong to a text of ``length`` bytes.
    """

    def __init__(self, folder: Path, length: int) -> None:
        sizes = [(folder / name).stat().st_size for name in (_TEXT, _SUFFIXES)]
        if sizes != [length + _WORD, 4 * length]:
            raise ValueError(f"its files have {sizes} bytes, not those of a text of {length}")
        self._length = length
        self._damaged = CheckpointError(
            "damaged",
            where=folder / _SUFFIXES,
            why="it is not a sorted list of the text's suffixes",
            fix=_rebuild(folder),
        )
        self._words = _words(np.memmap(folder / _TEXT, np.uint8, "r"))  # (length + 1,)
        self._order = np.memmap(folder / _SUFFIXES, "<i4", "r") if length else np.empty(0, "<i4")

    def novelty(self, text: str, least: int = NoveltyConfig.copied_length) -> Novelty:
        """The copied stretches of at least ``least`` characters in a text.

        >>> index.novelty("to be or not to be, said the cat", least=10)  # doctest: +SKIP
        Novelty(longest_copied=19, copied_share=0.59375, stretches=((0, 19),))
        """
        encoded = text.encode("utf-8", "surrogatepass")
        if not encoded:
            return Novelty(0, 0.0, ())
        starts = np.flatnonzero((np.frombuffer(encoded, np.uint8) & 0xC0) != 0x80)  # of characters
        found = self.longest(encoded, starts)
        ends = np.append(starts[1:], len(encoded))
        after = np.searchsorted(ends, starts + found, side="right")  # of whole characters
        lengths = np.maximum(after - np.arange(len(starts)), 0)
        stretches: list[tuple[int, int]] = []  # without overlaps
        for start in np.flatnonzero(lengths >= least).tolist():
            end = int(after[start])
            if stretches and start <= stretches[-1][1]:
                start, before = stretches.pop()
                end = max(end, before)
            stretches.append((start, end))
        share = sum(end - start for start, end in stretches) / len(starts)
        return Novelty(int(lengths.max()), share, tuple(stretches))

    def longest(self, text: bytes, starts: Integers) -> Integers:
        """The number of bytes from each start in ``text`` that occur somewhere in the index.

        All starts are searched at once. Each is a binary search between two suffixes whose common
        prefixes with the text are known, so that no byte of these is compared again.
        """
        words = _words(np.frombuffer(text + bytes(_WORD), np.uint8))
        left = len(text) - starts  # bytes to match, at most
        low, high = np.zeros_like(starts), np.full_like(starts, self._length)
        low_common, high_common = np.zeros_like(starts), np.zeros_like(starts)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            suffixes = self._order[middle].astype(np.int64)
            known = np.minimum(low_common[open_], high_common[open_])
            if np.any((suffixes < 0) | (suffixes + np.maximum(known, 1) > self._length)):
                raise self._damaged
            common, before = self._compare(words, starts[open_], suffixes, known, left[open_])
            under, over = open_[before], open_[~before]
            low[under], low_common[under] = middle[before] + 1, common[before]
            high[over], high_common[over] = middle[~before], common[~before]
        return np.maximum(low_common, high_common)

    def _compare(
        self,
        words: npt.NDArray[Any],
        starts: Integers,
        suffixes: Integers,
        common: Integers,
        left: Integers,
    ) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """The length of the common prefix of each pair, and whether the suffix comes first.

        Args:
            common: The length that is known to be common.
            left: The most bytes to compare.
        """
        common = common.copy()
        before = np.zeros(len(starts), np.bool_)
        most = np.minimum(left, self._length - suffixes)
        open_ = np.arange(len(starts))
        while len(open_):
            places = common[open_]
            ours = words[starts[open_] + places].astype(np.uint64)
            theirs = self._words[suffixes[open_] + places].astype(np.uint64)
            differ = ours ^ theirs
            same = np.zeros(len(open_), np.int64)
            for bits in range(8, 65, 8):  # leading bytes that are equal
                same += differ < np.uint64(1) << np.uint64(64 - bits) if bits < 64 else differ == 0
            common[open_] = np.minimum(places + same, most[open_])
            before[open_] = theirs < ours
            open_ = open_[(same == _WORD) & (common[open_] < most[open_])]
        # If one is a prefix of the other, the shorter comes first.
        ended = common == most
        before[ended] = (self._length - suffixes < left)[ended]
        return common, before


def _words(text: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The eight bytes from each position on, as integers that are ordered as the bytes are."""
    return np.ndarray(len(text) - _WORD + 1, ">u8", text.data, strides=(1,))


def is_indexed(checkpoint: Path) -> bool:
    return storage.find_complete(run_folder(checkpoint) / FOLDER) is not None


def open_index(checkpoint: Path, header: Header, corpora: Iterable[str] = ()) -> TextIndex:
    """The index of the text that a model learned from; built if it does not exist.

    Args:
        corpora: Where that text is, if it was moved.
    """
    folder = run_folder(checkpoint) / FOLDER
    corpus = header.corpus
    identity = {"fingerprint": corpus.fingerprint, "boundary": corpus.train.characters}
    if (kept := storage.find_complete(folder)) is None:
        with storage.new_folder(folder) as new:
            source = header.source
            if moved := tuple(corpora):
                source = dataclasses.replace(source, corpora=moved)
            length = build(new, training_text(source, header.training, header.corpus))
            storage.write_json(new / _HEADER, {"format": _FORMAT, **identity, "bytes": length})
        kept = folder
    fix = _rebuild(kept)
    try:
        index = storage.read(_IndexHeader, kept / _HEADER, _FORMAT, fix)
        if (index.fingerprint, index.boundary) != (identity["fingerprint"], identity["boundary"]):
            raise DataError("the index is of another corpus", where=kept, fix=fix)
        with storage.reading(kept, fix):
            return TextIndex(kept, index.bytes)
    except OSError as error:
        raise ResourceError("cannot read", where=kept, why=error.strerror, fix=fix) from error


def _rebuild(folder: Path) -> str:
    return f"remove {folder}, and it is built again"


def novel_samples(
    generate: Callable[[Accept | None], Iterable[Sample]],
    index: TextIndex,
    config: NoveltyConfig,
) -> Iterator[Sample]:
    """Samples with their novelty, each drawn again until it is novel enough.

    Raises:
        DataError: A sample was not novel enough in ``TRIES`` tries.
    """
    min_novelty = config.min_novelty or 0.0
    tries: Counter[int] = Counter()  # by index
    found: dict[int, Novelty] = {}  # that of the last try

    def accept(sample: Sample) -> bool:
        novelty = index.novelty(sample.text, config.copied_length)
        tries[sample.index] += 1
        found[sample.index] = novelty
        if novelty.novelty >= min_novelty:
            return True
        if tries[sample.index] == TRIES:
            raise DataError(
                f"no sample as novel as {min_novelty:g} in {TRIES} tries",
                where=f"sample {sample.index}",
                fix="lower --min-novelty, or raise --temperature",
            )
        return False

    # Beam search cannot draw again: without a least novelty every sample is accepted.
    for sample in generate(accept if min_novelty > 0 else None):
        if min_novelty == 0:
            accept(sample)
        novelty, drawn = found.pop(sample.index), tries.pop(sample.index)
        yield dataclasses.replace(sample, novelty=novelty, drawn=drawn)
