"""Ids to windows for training, and sentences to length-bucketed batches for scoring."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from textgen.process_memory import let_go
from textgen.tokenizers.base import EOS, UNK

IdArray = npt.NDArray[np.unsignedinteger[Any]]
_MOST_EPOCHS = 2**63 - 1

_TOKENS_HELD = 2**14  # after so many, the pages of a mapped corpus are let go


@dataclass(frozen=True)
class Window:
    """A window of every stream.

    inputs, targets: (time, batch) int64, the target of a time being the input of the next.
    carried: (batch,) bool, false where a row starts a new run and so the start state.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    carried: npt.NDArray[np.bool_]


@dataclass
class _Row:
    """Where one stream reads: ``windows`` more from ``position``, in the order of ``epoch``."""

    position: int = 0
    windows: int = 0
    epoch: int = 0
    fresh: bool = True


class Streams:
    """An endless shuffled reading of a corpus in ``batch_size`` streams side by side.

    An epoch cuts the corpus into runs of about ``run_windows`` windows, each starting at the
    first sentence start after its nominal place (which moves from epoch to epoch), and deals
    them in shuffled order to whichever row is free. A run starts, at a window's edge, from the
    start state having read ``<EOS>``; its last window reads on into the text that follows, so
    that no window is padded. Where nothing in the corpus is unknown, a small rate of tokens
    reads as ``<UNK>``, chosen by (seed, epoch, position).

    ids: the corpus. own: the streams that ``next`` gives; the others are dealt their runs, but
    not read.
    """

    def __init__(
        self,
        ids: IdArray,
        *,
        batch_size: int,
        sequence_length: int,
        run_windows: int,
        unknown_rate: float,
        seed: int,
        own: slice = slice(None),
    ) -> None:
        self.ids = ids
        self._length = sequence_length
        most = len(ids) // (batch_size * sequence_length)
        self._run = sequence_length * max(1, min(run_windows, most))
        self._threshold = np.uint64(unknown_rate * 2**64)
        self._seed, self._own = seed, own
        self._rows = [_Row() for _ in range(batch_size)]
        self._read = 0
        self._epoch, self._dealt = 0, 0
        self._shuffle()

    @property
    def epoch(self) -> float:
        """Epochs dealt so far, as a fraction."""
        return self._epoch + self._dealt / len(self._order)

    def next(self) -> Window:
        """The next window of every stream that is read here."""
        for row in self._rows:
            if row.windows == 0:
                self._deal(row)
        own = self._rows[self._own]
        carried = np.array([not row.fresh for row in own], np.bool_)
        starts = np.array([row.position for row in own])
        places = starts[:, None] + np.arange(-1, self._length)  # (batch, 1 + time)
        places %= len(self.ids)
        ids = self.ids[places].astype(np.int64)
        epochs = np.array([row.epoch for row in own], np.uint64)
        ids[self._unknown(places, epochs)] = UNK
        for index, row in enumerate(own):
            if row.fresh and (row.position == 0 or self._starts_sentence(row.position)):
                ids[index, 0] = EOS
        for row in self._rows:
            row.position += self._length
            row.windows -= 1
            row.fresh = False
        ids = np.ascontiguousarray(ids.T)  # (1 + time, batch)
        self._read += ids.size
        if self._read >= _TOKENS_HELD:
            self._read = 0
            let_go(self.ids)
        return Window(ids[:-1], ids[1:], carried)

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on with the very next window."""
        rows = [[row.position, row.windows, row.epoch, row.fresh] for row in self._rows]
        return {"epoch": self._epoch, "dealt": self._dealt, "rows": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Raises ValueError, KeyError or TypeError for what is no state of these streams."""
        rows = [_Row(*row) for row in state["rows"]]
        if len(rows) != len(self._rows):
            raise ValueError(f"{len(rows)} streams, not {len(self._rows)}")
        if any(len(row) != len(fields(_Row)) for row in state["rows"]):
            raise ValueError("a stream lacks some of its state")
        for row in rows:
            _check_between("position", row.position, len(self.ids) + self._length)
            _check_between("windows", row.windows, len(self.ids) // self._length + 2)
            _check_between("epoch", row.epoch, _MOST_EPOCHS)
        _check_between("epoch", state["epoch"], _MOST_EPOCHS)
        self._epoch = state["epoch"]
        self._shuffle()
        _check_between("dealt", state["dealt"], len(self._order))
        self._dealt, self._rows = state["dealt"], rows

    def _shuffle(self) -> None:
        random = np.random.default_rng([self._seed, self._epoch])
        self._offset = int(random.integers(self._run))
        runs = 1 + -(-(len(self.ids) - self._offset) // self._run)
        self._order = np.arange(runs, dtype=np.uint32)  # of 10 GB, five million
        random.shuffle(self._order)
        self._dealt = 0

    def _deal(self, row: _Row) -> None:
        """Give a row the next run that is not empty."""
        while True:
            if self._dealt == len(self._order):
                self._epoch += 1
                self._shuffle()
            run = int(self._order[self._dealt])
            self._dealt += 1
            start, end = self._border(run), self._border(run + 1)
            if start < end:
                row.position, row.windows = start, -(-(end - start) // self._length)
                row.epoch, row.fresh = self._epoch, True
                return

    def _border(self, run: int) -> int:
        """The first sentence start at or after the run's nominal place, if it is near."""
        if run == 0:
            return 0
        nominal = self._offset + (run - 1) * self._run
        if nominal >= len(self.ids) or nominal == 0:
            return min(nominal, len(self.ids))
        ends = np.flatnonzero(self.ids[nominal - 1 : nominal - 1 + self._run] == EOS)
        return min(nominal + int(ends[0]), len(self.ids)) if len(ends) else nominal

    def _starts_sentence(self, position: int) -> bool:
        return bool(self.ids[position - 1] == EOS)

    def _unknown(
        self, places: npt.NDArray[np.int64], epochs: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        if not self._threshold:
            return np.zeros(places.shape, np.bool_)
        key = epochs[:, None] * np.uint64(0x9E3779B97F4A7C15) + np.uint64(self._seed)
        return _mixed(_mixed(key) + places.astype(np.uint64)) < self._threshold


def _check_between(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, not from 0 to {most}")


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): uniform 64-bit hashes."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def without(ids: IdArray, pieces: Sequence[slice]) -> tuple[IdArray, list[IdArray]]:
    """A text without some pieces of it, which are in order; and the pieces."""
    if not pieces:
        return ids, []
    ends = [0, *(piece.stop for piece in pieces)]
    begins = [*(piece.start for piece in pieces), len(ids)]
    rest = [ids[end:begin] for end, begin in zip(ends, begins, strict=True)]
    return np.concatenate(rest), [ids[piece] for piece in pieces]


@dataclass(frozen=True)
class SentenceBatch:
    """Sentences of like length, padded to the longest.

    inputs, targets: (time, batch) int64; the inputs start with ``<EOS>``.
    lengths: (batch,) tokens of each. indices: (batch,) their places in the input.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


def bucket_by_length(
    sentences: Iterable[IdArray], *, batch_tokens: int, batch_sentences: int = 256
) -> Iterator[SentenceBatch]:
    """Batches of at most ``batch_tokens`` tokens, padding counted, shortest sentences first."""
    numbered = sorted(enumerate(sentences), key=lambda pair: len(pair[1]))
    begin = 0
    while begin < len(numbered):
        end = begin + 1
        while (
            end < len(numbered)
            and end - begin < batch_sentences
            and (end - begin + 1) * len(numbered[end][1]) <= batch_tokens
        ):
            end += 1
        yield _padded(numbered[begin:end])
        begin = end


def _padded(numbered: list[tuple[int, IdArray]]) -> SentenceBatch:
    lengths = np.array([len(ids) for _, ids in numbered], np.int64)
    grid = np.full((int(lengths.max()) + 1, len(numbered)), EOS, np.int64)  # (1 + time, batch)
    for column, (_, ids) in enumerate(numbered):
        grid[1 : len(ids) + 1, column] = ids
    indices = np.array([index for index, _ in numbered], np.int64)
    return SentenceBatch(grid[:-1], grid[1:], lengths, indices)
