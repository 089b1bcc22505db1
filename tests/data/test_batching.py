import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from textgen.data.batching import Streams, StreamsState, Window, bucket_by_length
from textgen.models.base import frequencies
from textgen.storage import from_json
from textgen.tokenizers.base import EOS, UNK

Ids = npt.NDArray[np.uint16]


def streams(ids: npt.NDArray[Any], **changes: Any) -> Streams:
    settings: dict[str, Any] = {
        "batch_size": 3,
        "sequence_length": 8,
        "run_windows": 4,
        "unknown_rate": 0.0,
        "seed": 1,
    }
    return Streams(ids, **settings | changes)


def numbered_text(tokens: int, every: int = 13) -> Ids:
    """Ids that are each their own place, but for an <EOS> now and then and at the end."""
    ids = np.arange(10, tokens + 10).astype(np.uint16)
    ids[every - 1 :: every] = EOS
    ids[-1] = EOS
    return ids


def same(one: Window, other: Window) -> bool:
    return all(np.array_equal(vars(one)[name], vars(other)[name]) for name in vars(one))


class Reader:
    """Reads windows and knows, from the numbered text, where every row of them lies."""

    def __init__(self, ids: Ids, **changes: Any) -> None:
        self.ids, self.source = ids, streams(ids, **changes)
        self.windows: list[Window] = []
        self.read: dict[int, Counter[int]] = {}  # epoch -> how often each place was a target
        self.runs: list[tuple[int, int]] = []  # (epoch, place) at which each run started

    def next(self) -> list[int]:
        """Reads a window; returns the place of each row's first target."""
        window = self.source.next()
        self.windows.append(window)
        ends = [row.position for row in self.source.state().rows]
        epochs = [row.epoch for row in self.source.state().rows]
        starts = [end - len(window.targets) for end in ends]
        for row, (start, epoch) in enumerate(zip(starts, epochs, strict=True)):
            places = np.arange(start, start + len(window.targets)) % len(self.ids)
            assert np.array_equal(window.targets[:, row], self.ids[places])
            self.read.setdefault(epoch, Counter()).update(places.tolist())
            if not window.carried[row]:
                self.runs.append((epoch, start))
        return starts


@pytest.mark.parametrize("batch_size", [1, 3, 5])
@pytest.mark.parametrize("every", [2, 13, 10_000])
def test_every_token_is_read_in_every_epoch_and_few_are_read_twice(
    batch_size: int, every: int
) -> None:
    ids = numbered_text(777, every)
    reader = Reader(ids, batch_size=batch_size)
    while reader.source.epoch < 5:
        reader.next()
    for epoch in range(4):  # all rows have left these epochs
        counts = reader.read[epoch]
        assert set(counts) == set(range(777))
        runs = sum(run_epoch == epoch for run_epoch, _ in reader.runs)
        assert counts.total() - 777 < runs * 8, "a run reads at most one window too far"


@pytest.mark.parametrize("unknown_rate", [0.0, 0.2])
def test_inputs_are_the_targets_before_whether_or_not_tokens_are_replaced(
    unknown_rate: float,
) -> None:
    source = streams(numbered_text(777), unknown_rate=unknown_rate)
    last = None
    for _ in range(100):
        window = source.next()
        assert window.inputs.shape == window.targets.shape == (8, 3)
        assert window.inputs.dtype == window.targets.dtype == np.int64
        assert np.array_equal(window.inputs[1:], window.targets[:-1])
        rows = window.carried
        assert (window.inputs[0, ~rows] == EOS).all(), "a run starts after the end of a sentence"
        assert np.array_equal(window.inputs[0, rows], [] if last is None else last[rows])
        last = window.targets[-1]


def test_a_row_starts_at_a_sentence_or_goes_on_where_it_stopped() -> None:
    ids = numbered_text(777)
    reader = Reader(ids)
    before, continued = [0, 0, 0], 0
    for _ in range(200):
        starts, window = reader.next(), reader.windows[-1]
        for row, start in enumerate(starts):
            if window.carried[row]:
                assert start == before[row] + 8
                continued += 1
            else:
                assert start == 0 or ids[start - 1] == EOS
        before = starts
    assert continued > 400
    assert len({start for _, start in reader.runs}) > 20


def test_a_run_is_as_long_as_asked_where_the_corpus_allows() -> None:
    reader = Reader(numbered_text(4000), run_windows=6)
    carried = []
    for _ in range(300):
        reader.next()
        carried.append(reader.windows[-1].carried)
    share_of_starts = 1 - np.array(carried).mean()
    assert 1 / 8 < share_of_starts < 1 / 5


def test_a_text_without_sentence_ends_is_split_with_its_own_context() -> None:
    ids = np.arange(10, 510).astype(np.uint16)
    reader = Reader(ids)
    for _ in range(60):
        starts, window = reader.next(), reader.windows[-1]
        for row in np.flatnonzero(~window.carried):
            assert window.inputs[0, row] == (EOS if starts[row] == 0 else ids[starts[row] - 1])


def run_order(seed: int, epochs: int = 3) -> list[list[int]]:
    reader = Reader(numbered_text(777), seed=seed, batch_size=1)
    while reader.source.epoch <= epochs:
        reader.next()
    return [[start for epoch, start in reader.runs if epoch == e] for e in range(epochs)]


def test_the_order_differs_by_epoch_and_by_seed_and_repeats_with_the_seed() -> None:
    first, second, third = run_order(seed=1)
    assert first != second != third != first
    assert first != sorted(first)
    assert sorted(first) != sorted(second), "the cuts move from epoch to epoch"
    assert run_order(seed=1) == [first, second, third]
    assert run_order(seed=2)[0] != first


def test_the_epoch_counts_up_to_the_whole_of_each_reading() -> None:
    source, seen = streams(numbered_text(777)), [0.0]
    for _ in range(200):
        source.next()
        seen.append(source.epoch)
    assert seen == sorted(seen)
    tokens_an_epoch = 777 / (8 * 3)
    assert seen[-1] == pytest.approx(200 / tokens_an_epoch, rel=0.25)


def test_restored_streams_go_on_identically_at_every_window() -> None:
    ids = numbered_text(300)
    source = streams(ids, unknown_rate=0.2)
    states, windows = [], []
    for _ in range(60):
        states.append(source.state())  # reading on does not change it
        windows.append(source.next())
    for point, state in enumerate(states):
        again = streams(ids, unknown_rate=0.2)
        again.restore(from_json(StreamsState, json.loads(json.dumps(state.to_json()))))
        assert again.state() == state
        assert all(same(again.next(), window) for window in windows[point : point + 12])


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 1), (1, 4)])
def test_a_short_corpus_is_read_whole_though_the_number_of_streams_changes(
    before: int, after: int
) -> None:
    ids = numbered_text(400)
    for windows in range(1, 400 // (8 * before)):
        first = Reader(ids, batch_size=before, run_windows=100)
        second = Reader(ids, batch_size=after, run_windows=100)
        for _ in range(windows):
            first.next()
        second.source.restore(first.source.state())
        for _ in range(60):
            second.next()
        assert set(first.read[0]) | set(second.read[0]) == set(range(400))


@pytest.mark.parametrize(
    "ids", [[EOS], [5], [5, EOS], [EOS] * 40, [5] * 40, [5, 6, 7], [5, 5, 5, EOS] * 10]
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_smallest_corpora_are_read_for_ever(ids: list[int], batch_size: int) -> None:
    array = np.array(ids, np.uint16)
    source = streams(array, batch_size=batch_size)
    for _ in range(50):
        window = source.next()
        assert window.inputs.shape == (8, batch_size)
        assert set(window.targets.flat) <= set(ids)
        assert set(window.inputs.flat) <= set(ids) | {EOS}
    assert source.epoch > 1


def test_a_corpus_shorter_than_a_window_goes_round() -> None:
    ids = np.array([5, 6, 7, EOS], np.uint16)
    window = streams(ids, batch_size=1, sequence_length=10).next()
    turned = {tuple(np.roll(np.resize(ids, 40), -start)[:10]) for start in range(4)}
    assert tuple(window.targets[:, 0].tolist()) in turned


# <UNK> in place of some tokens


@pytest.mark.parametrize("rate", [0, 0.02])
def test_tokens_are_replaced_at_the_rate_asked(rate: float) -> None:
    source = streams(numbered_text(50_000), batch_size=50, sequence_length=100, unknown_rate=rate)
    share = np.mean([(source.next().targets == UNK).mean() for _ in range(200)])
    assert share == pytest.approx(rate, rel=0.05)


def unknown_places(seed: int, epochs: int = 2) -> list[set[int]]:
    ids = numbered_text(777)
    source = streams(ids, batch_size=1, unknown_rate=0.1, seed=seed)
    places: list[set[int]] = [set() for _ in range(epochs)]
    while source.epoch <= epochs:
        window = source.next()
        row = source.state().rows[0]
        end, epoch = row.position, row.epoch
        if epoch < epochs:
            targets = np.arange(end - 8, end) % 777
            places[epoch] |= set(targets[window.targets[:, 0] == UNK].tolist())
    return places


def test_what_is_replaced_follows_from_seed_and_epoch() -> None:
    first, second = unknown_places(seed=1)
    assert 40 < len(first) < 120
    assert first != second
    assert unknown_places(seed=1) == [first, second]
    assert unknown_places(seed=2)[0] != first


# Sentences in batches


def sentences(count: int, longest: int = 30, seed: int = 0) -> list[Ids]:
    random = np.random.default_rng(seed)
    return [
        np.append(random.integers(2, 50, random.integers(0, longest)), EOS).astype(np.uint16)
        for _ in range(count)
    ]


def test_every_sentence_is_in_one_batch_with_its_place_and_length_and_eos_below() -> None:
    given = sentences(300)
    seen = []
    for batch in bucket_by_length(given, batch_tokens=200, batch_sentences=16):
        assert len(batch.targets) == batch.lengths.max()
        for column, (index, length) in enumerate(zip(batch.indices, batch.lengths, strict=True)):
            assert np.array_equal(batch.targets[:length, column], given[index])
            assert np.array_equal(batch.inputs[1:length, column], given[index][:-1])
            assert batch.inputs[0, column] == EOS
            assert (batch.targets[length:, column] == EOS).all()
            seen.append(int(index))
    assert sorted(seen) == list(range(300))
    assert not list(bucket_by_length([], batch_tokens=10))


def test_batches_keep_their_limits_and_fill_them() -> None:
    batches = list(bucket_by_length(sentences(300), batch_tokens=200, batch_sentences=16))
    assert all(batch.targets.size <= 200 for batch in batches)
    assert all(batch.targets.shape[1] <= 16 for batch in batches)
    assert any(batch.targets.shape[1] == 16 for batch in batches)
    lengths = sum(len(ids) for ids in sentences(300))
    assert sum(batch.targets.size for batch in batches) < 1.2 * lengths, "little padding"


def test_a_sentence_over_the_limit_has_a_batch_of_its_own() -> None:
    given = [*sentences(5), np.append(np.full(500, 7), EOS).astype(np.uint16)]
    batches = list(bucket_by_length(given, batch_tokens=100))
    assert batches[-1].targets.shape == (501, 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells resident memory")
def test_a_mapped_corpus_is_read_in_bounded_memory(tmp_path: Path) -> None:
    def mapped_kilobytes() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    path = tmp_path / "ids"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    ids = np.memmap(path, np.uint16, "r")
    reading = streams(ids, batch_size=16, sequence_length=1024, run_windows=1)
    before, most = mapped_kilobytes(), 0
    frequencies(ids, 3)
    for _ in range(2**9):  # a fourth of it, in runs from all over it
        most = max(most, mapped_kilobytes())
        reading.next()
    assert most - before < 16 * 1024  # all of it if no page is released
