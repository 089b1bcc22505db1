"""Novelty: how much of a sample is copied verbatim from the training text.

The training text is indexed at first use, in ``novelty/`` beside the checkpoint, by a suffix array
(Manber and Myers 1993) that libdivsufsort (Mori) builds. It is read through memory maps, so a
search touches a few pages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textgen import storage
from textgen.config import NoveltyConfig
from textgen.data.corpus import CorpusSource
from textgen.data.encoded import is_encoded, load_encoded
from textgen.errors import DataError, ResourceError
from textgen.results import Novelty, Sample

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

Lengths = npt.NDArray[np.int64]

_TEXT, _ORDER = "text.bin", "suffixes.bin"
_WORD = 8  # bytes compared at a time
_LONGEST = 2**31 - 1 - _WORD  # what 32-bit places reach


class TooLong(ValueError):
    """A text of more bytes than an index can hold."""


def build(folder: Path, pieces: Iterable[str]) -> int:
    """Write the index of a text that comes in pieces; returns its length in bytes.

    Needs memory for five bytes a byte of text. Raises TooLong.
    """
    from pydivsufsort import divsufsort

    length = 0
    with (folder / _TEXT).open("wb") as stream:
        for piece in pieces:
            length += stream.write(piece.encode("utf-8", "surrogatepass"))
            if length > _LONGEST:
                raise TooLong
        stream.write(bytes(_WORD))  # so that words can be read up to the end
    text = np.fromfile(folder / _TEXT, np.uint8, count=length)
    order: Any = divsufsort(text) if length else np.empty(0)
    order.astype("<i4", copy=False).tofile(folder / _ORDER)
    return length


class Suffixes:
    """A text's index, opened."""

    def __init__(self, folder: Path, length: int) -> None:
        """length: of the text, in bytes. Raises ValueError where the files are not of it."""
        sizes = [(folder / name).stat().st_size for name in (_TEXT, _ORDER)]
        if sizes != [length + _WORD, 4 * length]:
            raise ValueError(f"its files have {sizes} bytes, not those of a text of {length}")
        self._length = length
        text = np.memmap(folder / _TEXT, np.uint8, "r")
        self._words = _words(text)  # (length + 1,) the eight bytes from each place on
        self._order = np.memmap(folder / _ORDER, "<i4", "r") if length else np.empty(0, "<i4")

    def longest(self, text: bytes, starts: npt.NDArray[np.int64]) -> Lengths:
        """How many bytes of ``text``, from each of these places on, are somewhere in the index.

        All places are searched at once: a binary search between two suffixes whose common
        beginnings with what is looked for are known, so that no byte of them is compared again.
        """
        words = _words(np.frombuffer(text + bytes(_WORD), np.uint8))
        left = len(text) - starts  # what is to be matched, at most
        low, high = np.zeros_like(starts), np.full_like(starts, self._length)
        low_common, high_common = np.zeros_like(starts), np.zeros_like(starts)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            suffixes = np.clip(self._order[middle].astype(np.int64), 0, self._length - 1)
            known = np.minimum(low_common[open_], high_common[open_])
            common, before = self._compare(words, starts[open_], suffixes, known, left[open_])
            under, over = open_[before], open_[~before]
            low[under], low_common[under] = middle[before] + 1, common[before]
            high[over], high_common[over] = middle[~before], common[~before]
        return np.maximum(low_common, high_common)

    def _compare(
        self,
        words: npt.NDArray[Any],
        starts: npt.NDArray[np.int64],
        suffixes: npt.NDArray[np.int64],
        common: npt.NDArray[np.int64],
        left: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """How many bytes each pair has in common, and whether the suffix comes first.

        common: how many are known to be. left: how many there are to be compared, at most.
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
        # Of two that are equal as far as both go, the shorter comes first.
        ended = common == most
        before[ended] = (self._length - suffixes < left)[ended]
        return common, before


def _words(text: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The eight bytes from each place of a text on, as numbers that compare as the bytes do."""
    return np.ndarray(len(text) - _WORD + 1, ">u8", text.data, strides=(1,))


FOLDER, _HEADER, _FORMAT = "novelty", "novelty.json", 1
TRIES = 20
"""How often a sample that is not new enough is drawn."""

_BLOCK_TOKENS = 2**18


class Index:
    """The training text of a model, to be searched."""

    def __init__(self, suffixes: Suffixes) -> None:
        self._suffixes = suffixes

    def novelty(self, text: str, least: int = NoveltyConfig.copied_length) -> Novelty:
        """What of a text is copied: its longest stretch, and all of ``least`` characters or more.

        >>> index.novelty("to be or not to be, said the cat", least=10)  # doctest: +SKIP
        Novelty(longest_copied=19, copied_share=0.59375, stretches=((0, 19),))
        """
        encoded = text.encode("utf-8", "surrogatepass")
        bytes_ = np.frombuffer(encoded, np.uint8)
        starts = np.flatnonzero((bytes_ & 0xC0) != 0x80)  # (characters,) where each begins
        if not len(starts):
            return Novelty(0, 0.0, ())
        found = self._suffixes.longest(encoded, starts.astype(np.int64))
        # A stretch counts its whole characters alone.
        ends = np.append(starts[1:], len(encoded))
        after = np.searchsorted(ends, starts + found, side="right")  # the character after each
        places = np.arange(len(starts))
        lengths = np.maximum(after - places, 0)
        copied = lengths >= least
        stretches = _merged(places[copied].tolist(), after[copied].tolist())
        share = sum(end - start for start, end in stretches) / len(starts)
        return Novelty(int(lengths.max()), share, stretches)


def _merged(starts: list[int], ends: list[int]) -> tuple[tuple[int, int], ...]:
    """Stretches, sorted by their starts, as stretches that do not overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in zip(starts, ends, strict=True):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)


def open_index(model: LanguageModel, corpora: Iterable[str] = ()) -> Index:
    """The index of the text that a model learned from; made now where it is not there.

    corpora: where that text is, if it is no longer where it was. Raises DataError where it is
    another text, or where the index is of another; ResourceError where the text is not found.
    """
    folder = model.path.parent / FOLDER
    kept = storage.whole(folder)
    if kept is None:
        with storage.new_folder(folder) as new:
            _build(model, list(corpora), new)
        kept = folder
    fix = f"remove {kept}, and it is made anew"
    try:
        header = dict(storage.read_json(kept / _HEADER))
        storage.check_format(header["format"], _FORMAT, kept / _HEADER)
        if not _identity(model).items() <= header.items():
            raise DataError("the index is of another corpus", where=kept, fix=fix)
        return Index(Suffixes(kept, int(header["bytes"])))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("damaged", where=kept, why=str(error), fix=fix) from error
    except OSError as error:
        raise ResourceError("cannot read", where=kept, why=error.strerror, fix=fix) from error


def is_indexed(model: LanguageModel) -> bool:
    return storage.whole(model.path.parent / FOLDER) is not None


def _identity(model: LanguageModel) -> dict[str, Any]:
    """What says which text a model learned from."""
    corpus = model.header.corpus
    return {"fingerprint": corpus["fingerprint"], "boundary": corpus["boundary"]}


def _build(model: LanguageModel, corpora: list[str], folder: Path) -> None:
    try:
        length = build(folder, _training_text(model, corpora))
    except TooLong:
        raise DataError(
            "the training text is too long for an index", why="it has more than 2 GB"
        ) from None
    storage.write_json(folder / _HEADER, {"format": _FORMAT, **_identity(model), "bytes": length})


def _training_text(model: LanguageModel, corpora: list[str]) -> Iterator[str]:
    """The training part, in pieces, as it was read for the training."""
    kept = model.header.corpus
    source = CorpusSource(**model.header.source)
    if corpora:
        source = dataclasses.replace(source, corpora=tuple(corpora))
    named = ", ".join(map(str, source.paths))
    if "-" in source.corpora:
        raise ResourceError(
            "the training text is not kept",
            where="novelty",
            why="it was read from stdin",
            fix="name a file of it with --corpus",
        )
    if len(source.paths) == 1 and is_encoded(source.paths[0]):
        encoded, tokenizer = load_encoded(source.paths[0])
        _check_same(encoded.header.fingerprint, kept["fingerprint"], named)
        decoder = tokenizer.decoder()
        for begin in range(0, len(encoded.train), _BLOCK_TOKENS):
            yield "".join(map(decoder.feed, encoded.train[begin : begin + _BLOCK_TOKENS].tolist()))
        yield decoder.finish()
        return
    corpus = source.open(kept["unit"], model.header.training.valid_fraction)
    _check_same(corpus.fingerprint, kept["fingerprint"], named)
    for piece, _ in corpus.train():
        yield piece


def _check_same(found: str, expected: str, where: str) -> None:
    if found != expected:
        raise DataError(
            "the text has changed since the model was trained",
            where=where,
            fix="name the text that it was trained on with --corpus",
        )


def novel_samples(
    model: LanguageModel,
    prompts: str | Iterable[str] = "",
    *,
    index: Index,
    least: int = NoveltyConfig.copied_length,
    min_novelty: float = 0.0,
    **options: Any,
) -> Iterator[Sample]:
    """Samples with their novelty, each drawn again until it is as new as it must be.

    min_novelty: the share of its characters that must not stand in copied stretches. Raises
    DataError where a sample is not so new in ``TRIES`` drawings.
    """
    NoveltyConfig(min_novelty=min_novelty, copied_length=least)  # checks them
    found: dict[int, tuple[int, Novelty]] = {}  # how often a sample was drawn, and the newest

    def accept(sample: Sample) -> bool:
        novelty = index.novelty(sample.text, least)
        drawn = found[sample.index][0] + 1 if sample.index in found else 1
        found[sample.index] = drawn, novelty
        if novelty.novelty >= min_novelty:
            return True
        if drawn == TRIES:
            raise DataError(
                f"no sample as novel as {min_novelty:g} in {TRIES} tries",
                where=f"sample {sample.index}",
                fix="lower --min-novelty, or raise --temperature",
            )
        return False

    judge = accept if min_novelty > 0 else None  # else whatever comes will do
    for sample in model.samples(prompts, accept=judge, **options):
        if judge is None:
            found[sample.index] = 1, index.novelty(sample.text, least)
        drawn, novelty = found.pop(sample.index)
        yield dataclasses.replace(sample, novelty=novelty, drawn=drawn)
