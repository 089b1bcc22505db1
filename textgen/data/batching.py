"""Ids to windows for training, and sentences to length-bucketed batches for scoring."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from textgen.config import Count
from textgen.process_memory import release_pages
from textgen.tokenizers.base import EOS, UNK, Tokenizer

IdArray = npt.NDArray[np.unsignedinteger[Any]]
_TOKENS_IN_MEMORY = 2**14  # between two releases of the pages of a mapped corpus


@dataclass(frozen=True)
class Window:
    """The next tokens of each stream.

    Attributes:
        ids: (1 + time, batch), the token before the window and those in it.
        carried: (batch,), false where a stream starts a new run and so takes the start state.
        words: How many words begin in the windows of all streams; 0 where they are not counted.
    """

    ids: npt.NDArray[np.int64]
    carried: npt.NDArray[np.bool_]
    words: int = 0

    @property
    def inputs(self) -> npt.NDArray[np.int64]:
        """(time, batch)"""
        return self.ids[:-1]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """(time, batch); a target is the input of the next time."""
        return self.ids[1:]


@dataclass
class StreamPosition:
    """One stream: it reads ``windows`` more from ``position``, in the order of ``epoch``.

    Attributes:
        fresh: Whether its next window begins from the start state.
    """

    position: Count = 0
    windows: Count = 0
    epoch: Count = 0
    fresh: bool = True


@dataclass(frozen=True)
class StreamsState:
    """Where all streams of a run read.

    Attributes:
        assigned: Runs of ``epoch`` that were assigned.
        rows: One position for each stream.
        pending: The rest of the runs of streams that a resumed run no longer has.
        run_windows: Windows of a run, which depend on the number of streams where the corpus is
            small; 0 if an older textgen did not write them.
    """

    epoch: Count
    assigned: Count
    rows: tuple[StreamPosition, ...]
    pending: tuple[StreamPosition, ...] = ()
    run_windows: Count = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``storage.from_json`` reads back to an equal state."""
        rows, pending = (
            [list(astuple(each)) for each in group] for group in (self.rows, self.pending)
        )
        return asdict(self) | {"rows": rows, "pending": pending}


class WordCounter:
    """Counts the words in ids of a tokenizer, as ``wc -w`` does in what they decode to.

    Words are separated by ASCII white space and by ``<EOS>``. How many begin with a token depends
    on the token before it, of which there are three cases: it ends in white space, it ends in
    something else, or it is written without the space that would follow it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        size, fresh = tokenizer.vocabulary_size, tokenizer.decoder()
        texts = {fresh.joined: fresh.next_bytes()}
        joins = np.zeros(size, np.bool_)
        for id in range(size):
            decoder = fresh.copy()
            decoder.feed(id)
            joins[id] = decoder.joined
            if decoder.joined not in texts:
                texts[decoder.joined] = decoder.next_bytes()
        spaced = texts.get(False, texts.get(True, ()))
        joined = texts.get(True, spaced)
        spaces = np.array([text[-1:].isspace() for text in spaced], np.bool_)
        spaces[EOS] = True
        self._case = np.where(spaces, 0, np.where(joins, 2, 1))
        self._begun = np.array(
            [
                [len(text.split()) for text in joined],
                [len((b"x" + text).split()) - 1 for text in spaced],
                [len((b"x" + text).split()) - 1 for text in joined],
            ]
        )
        self._begun[:, EOS] = 0

    def count(self, ids: npt.NDArray[np.integer[Any]]) -> int:
        """The words that begin in ids (batch, 1 + time), after the first of each row."""
        return int(self._begun[self._case[ids[:, :-1]], ids[:, 1:]].sum())


class Streams:
    """Endless windows of a shuffled corpus, in ``batch_size`` parallel streams.

    In each epoch the corpus is split into runs of about ``run_windows`` windows. A run starts at
    the first start of a sentence after its nominal place, which differs between epochs. The runs
    are assigned in shuffled order to the next stream that is free. A run starts with a new window,
    from the start state, with ``<EOS>`` as first input; its last window continues into the text
    that follows, so no window is padded.

    Args:
        ids: the corpus.
        unknown_rate: the share of tokens that are replaced by ``<UNK>``, chosen by
            (seed, epoch, position).
        local: the streams of this process, which ``next`` reads; all streams are assigned runs.

    Attributes:
        word_counter: if set, counts the words of each window.
    """

    word_counter: WordCounter | None = None

    def __init__(
        self,
        ids: IdArray,
        *,
        batch_size: int,
        sequence_length: int,
        run_windows: int,
        unknown_rate: float,
        seed: int,
        local: slice = slice(None),
    ) -> None:
        self.ids = ids
        self._length = sequence_length
        most = len(ids) // (batch_size * sequence_length)
        self._run = sequence_length * max(1, min(run_windows, most))
        self._threshold = np.uint64(unknown_rate * 2**64)
        self._seed, self._local = seed, local
        self._rows = [StreamPosition() for _ in range(batch_size)]
        self._pending: list[StreamPosition] = []
        self._read = 0
        self._epoch, self._assigned = 0, 0
        self._shuffle()

    @property
    def epoch(self) -> float:
        """Epochs so far, as a fraction: by the runs that are assigned."""
        return self._epoch + self._assigned / len(self._order)

    def next(self) -> Window:
        """The next window of the local streams."""
        for row in self._rows:
            if row.windows == 0:
                self._assign_run(row)
        rows = self._rows[self._local]
        carried = np.array([not row.fresh for row in rows], np.bool_)
        starts = np.array([row.position for row in rows])
        places = starts[:, None] + np.arange(-1, self._length)  # (batch, 1 + time)
        places %= len(self.ids)
        ids = self.ids[places].astype(np.int64)
        epochs = np.array([row.epoch for row in rows], np.uint64)
        ids[self._unknown(places, epochs)] = UNK
        for index, row in enumerate(rows):
            if row.fresh and (row.position == 0 or self.ids[row.position - 1] == EOS):
                ids[index, 0] = EOS
        words = 0 if self.word_counter is None else self._words(self.word_counter)
        for row in self._rows:
            row.position += self._length
            row.windows -= 1
            row.fresh = False
        ids = np.ascontiguousarray(ids.T)  # (1 + time, batch)
        self._read += ids.size
        if self._read >= _TOKENS_IN_MEMORY:
            self._read = 0
            release_pages(self.ids)
        return Window(ids, carried, words)

    def _words(self, counter: WordCounter) -> int:
        """The words of the next windows of all streams, those of other processes too."""
        starts = np.array([row.position for row in self._rows])
        ids = self.ids[(starts[:, None] + np.arange(-1, self._length)) % len(self.ids)]
        ids[[row.fresh and row.position == 0 for row in self._rows], 0] = EOS
        return counter.count(ids)

    def state(self) -> StreamsState:
        """What ``restore`` needs to continue with the next window."""
        rows, pending = (tuple(map(replace, each)) for each in (self._rows, self._pending))
        windows = self._run // self._length
        return StreamsState(self._epoch, self._assigned, rows, pending, windows)

    def restore(self, state: StreamsState) -> None:
        """Continue where other streams of the same corpus stopped.

        If those were fewer, the streams without a position get the next runs. If they were more,
        the rest of their runs is assigned before any other run. So the rest of the epoch is read
        once, whatever the number of streams.

        Raises:
            ValueError: It is no state of streams of this corpus.
        """
        for row in state.pending:
            _check_between("position", row.position, len(self.ids) - 1)
        for row in (*state.rows, *state.pending):
            _check_between("position", row.position, len(self.ids) + self._length)
            _check_between("windows", row.windows, len(self.ids) // self._length + 2)
        _check_between("run_windows", state.run_windows, max(1, len(self.ids) // self._length))
        self._run = self._length * state.run_windows or self._run
        self._epoch = state.epoch
        self._shuffle()
        _check_between("assigned", state.assigned, len(self._order))
        self._assigned = state.assigned
        kept, surplus = state.rows[: len(self._rows)], state.rows[len(self._rows) :]
        missing = len(self._rows) - len(kept)
        self._rows = [*map(replace, kept), *(StreamPosition() for _ in range(missing))]
        unfinished = (*state.pending, *(row for row in surplus if row.windows))
        self._pending = [replace(row, fresh=True) for row in unfinished]

    def _shuffle(self) -> None:
        random = np.random.default_rng([self._seed, self._epoch])
        self._offset = int(random.integers(self._run))
        runs = 1 + -(-(len(self.ids) - self._offset) // self._run)
        self._order = np.arange(runs, dtype=np.uint32)  # of 10 GB, five million
        random.shuffle(self._order)
        self._assigned = 0

    def _assign_run(self, row: StreamPosition) -> None:
        """Assign the next run that is not empty."""
        if self._pending:
            rest = self._pending.pop(0)
            row.position, row.windows, row.epoch = rest.position, rest.windows, rest.epoch
            row.fresh = True
            return
        while True:
            if self._assigned == len(self._order):
                self._epoch += 1
                self._shuffle()
            run = int(self._order[self._assigned])
            self._assigned += 1
            start, end = self._start(run), self._start(run + 1)
            if start < end:
                row.position, row.windows = start, -(-(end - start) // self._length)
                row.epoch, row.fresh = self._epoch, True
                return

    def _start(self, run: int) -> int:
        """The first start of a sentence from the run's nominal place on, within one run."""
        if run == 0:
            return 0
        nominal = self._offset + (run - 1) * self._run
        if nominal >= len(self.ids) or nominal == 0:
            return min(nominal, len(self.ids))
        ends = np.flatnonzero(self.ids[nominal - 1 : nominal - 1 + self._run] == EOS)
        return min(nominal + int(ends[0]), len(self.ids)) if len(ends) else nominal

    def _unknown(
        self, places: npt.NDArray[np.int64], epochs: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        if not self._threshold:
            return np.zeros(places.shape, np.bool_)
        key = epochs[:, None] * np.uint64(0x9E3779B97F4A7C15) + np.uint64(self._seed)
        return _mixed(_mixed(key) + places.astype(np.uint64)) < self._threshold


def _check_between(name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, not from 0 to {most}")


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): uniform 64-bit hashes."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def separate(ids: IdArray, chunks: Sequence[slice]) -> tuple[IdArray, list[IdArray]]:
    """The ids without some chunks, which are in order; and the chunks."""
    if not chunks:
        return ids, []
    ends = [0, *(chunk.stop for chunk in chunks)]
    starts = [*(chunk.start for chunk in chunks), len(ids)]
    rest = [ids[end:start] for end, start in zip(ends, starts, strict=True)]
    return np.concatenate(rest), [ids[chunk] for chunk in chunks]


@dataclass(frozen=True)
class SentenceBatch:
    """Sentences of similar length, padded to the longest.

    Attributes:
        inputs, targets: (time, batch); the inputs start with ``<EOS>``.
        lengths: (batch,) in tokens.
        indices: (batch,) of the sentences in the order in which they were given.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


def bucket_by_length(
    sentences: Iterable[IdArray], *, batch_tokens: int, batch_sentences: int = 256
) -> Iterator[SentenceBatch]:
    """Batches of at most ``batch_tokens`` tokens with padding, shortest sentences first."""
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
        indices, batch = zip(*numbered[begin:end], strict=True)
        lengths = np.array([len(ids) for ids in batch], np.int64)
        grid = np.full((int(lengths.max()) + 1, len(batch)), EOS, np.int64)  # (1 + time, batch)
        for column, ids in enumerate(batch):
            grid[1 : len(ids) + 1, column] = ids
        yield SentenceBatch(grid[:-1], grid[1:], lengths, np.array(indices, np.int64))
        begin = end
