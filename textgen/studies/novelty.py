"""Is it new? How much of a sample stands word for word in the text its model learned from.

The text is indexed the first time that it is asked, beside the checkpoint, in ``novelty/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textgen import storage
from textgen.config import NoveltyConfig
from textgen.encoding import is_encoded, load_encoded
from textgen.errors import DataError, ResourceError
from textgen.language_model import LanguageModel
from textgen.results import Novelty, Sample
from textgen.studies.suffixes import Suffixes, TooLong, build
from textgen.training_run.settings import Source

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
    source = Source(**model.header.source)
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
