"""Several processes that learn together: what they leave, what they say, how they go on."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from textgen import checkpoint, train
from textgen.data.batching import Streams, StreamsState
from textgen.results import TrainingStart
from textgen.storage import from_json
from textgen.tokenizers.base import EOS
from textgen.training.ranks import is_first_process, process_rank

from . import conftest
from .conftest import events_of, of_kind, untimed_log, written

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked here")

TEXT = "".join(conftest.TEXT.splitlines(keepends=True)[:48])
OPTIONS = ["--hidden-size", "8", "--sequence-length", "8", "--batch-size", "2", "--log-every", "3"]
SMALL: dict[str, Any] = {"hidden_size": 8, "sequence_length": 8, "log_every": 3, "device": "cpu"}
Fault = tuple[int, signal.Signals] | None
Start = Callable[..., list[tuple[int, str, str]]]


def _process(arguments: list[str], environment: dict[str, str], said: Path, fault: Fault) -> None:
    """One process of the run: ``textgen`` with its words in two files.

    fault: the update at which the last process is sent a signal.
    """
    from textgen.cli.app import main
    from textgen.training.state import GradientState

    os.environ.update(environment)
    if fault is not None and environment["RANK"] == str(int(environment["WORLD_SIZE"]) - 1):
        update, (step, signum) = GradientState.update, fault

        def struck_update(state: GradientState, rate: float) -> None:
            if state.progress.step == step:
                os.kill(os.getpid(), signum)
            update(state, rate)

        GradientState.update = struck_update
    with (
        said.with_suffix(".out").open("w") as out,
        said.with_suffix(".err").open("w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(arguments)
    sys.exit(code)


@pytest.fixture(scope="module")
def forked() -> Any:
    """Processes that have torch loaded already, so that starting them is cheap."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["textgen.training.distributed", "textgen.cli.app", "torch._dynamo"]
    )
    return context


@pytest.fixture
def start(forked: Any, tmp_path: Path) -> Start:
    """Runs ``textgen train`` in several processes; (exit code, stdout, stderr) of each."""

    def run(
        *arguments: str, size: int = 2, fault: Fault = None, **more: str
    ) -> list[tuple[int, str, str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes = []
        for rank in map(str, range(size)):
            environment = place | {"RANK": rank, "LOCAL_RANK": rank} | more
            given = (["train", *arguments], environment, tmp_path / f"said{rank}", fault)
            processes.append(forked.Process(target=_process, args=given))
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            if process.is_alive():
                process.kill()
        return [
            (process.exitcode, *((tmp_path / f"said{rank}{end}").read_text() for end in ENDS))
            for rank, process in enumerate(processes)
        ]

    return run


ENDS = (".out", ".err")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return written(tmp_path / "corpus.txt", TEXT)


def weights(out: Path) -> dict[str, Any]:
    last = out / checkpoint.LAST
    return load_file(last / "model.safetensors") | load_file(last / "state.safetensors")


def test_two_processes_learn_what_one_with_twice_the_batch_does_and_the_first_alone_speaks(
    start: Start, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    length = ["--steps", "36", "--dropout", "0", "--device", "cpu", "--format", "json"]
    (code, said, err), (second_code, *second) = start(
        str(corpus), "--out", str(out), *length, *OPTIONS
    )
    assert (code, second_code) == (0, 0), err
    assert second == ["", ""]
    one = train(corpus, out=tmp_path / "one", steps=36, dropout=0.0, batch_size=4, **SMALL)
    result = json.loads(said)
    assert result["tokens_seen"] == one.tokens_seen
    assert one.validation is not None
    assert result["validation"]["loss"] == pytest.approx(one.validation.loss, abs=1e-5)
    expected, found = weights(tmp_path / "one"), weights(out)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert (tensor - found[name]).abs().max() < 1e-5, name


def test_stopped_resumed_and_restarted_is_bit_identical_to_uninterrupted(
    start: Start, corpus: Path, tmp_path: Path
) -> None:
    size = 3  # of two, every order of summation would give the same sums
    whole, out = tmp_path / "whole", tmp_path / "out"
    same = [str(corpus), "--steps", "9", "--device", "cpu", *OPTIONS]
    here, launched = ["--out", str(out)], {"TORCHELASTIC_RUN_ID": "run"}
    run = partial(start, size=size)
    assert {code for code, *_ in run(*same, "--out", str(whole))} == {0}
    stopped = run(*same, *here, fault=(3, signal.SIGTERM))
    assert {code for code, *_ in stopped} == {143}, stopped
    lost = run("--resume", *here, fault=(6, signal.SIGKILL), **launched)
    assert [code for code, *_ in lost] == [1] * (size - 1) + [-signal.SIGKILL]
    assert "lost the connection to the other processes" in lost[0][2].splitlines()[-1]
    again = run("--resume", *here, **launched, TORCHELASTIC_RESTART_COUNT="1")
    assert {code for code, *_ in again} == {0}, again
    expected, found = weights(whole), weights(out)
    assert all(tensor.equal(found[name]) for name, tensor in expected.items())


def test_a_run_goes_on_with_other_numbers_of_processes(
    start: Start, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    new = (str(corpus), "--epochs", "3", "--valid-every", "5", "--device", "cpu", *OPTIONS)
    headers = []
    for size, stop in ((2, 12), (1, 24), (2, 36), (3, None)):
        fault = (stop, signal.SIGTERM) if stop else None
        arguments = ("--resume",) if headers else new
        ended = start(*arguments, "--out", str(out), size=size, fault=fault)
        assert {code for code, *_ in ended} == {143 if stop else 0}, ended
        header = checkpoint.load(out / "last").header
        assert header.machine.processes == size
        per_step = size * 2 * 8
        if headers:
            before = headers[-1]
            assert f"processes: {size} instead of {before.machine.processes} before" in ended[0][2]
            assert before.step < header.step
            tokens_seen = (header.step - before.step) * per_step
            assert header.tokens_seen - before.tokens_seen == tokens_seen
        headers.append(header)
    # As many tokens as were asked for, in updates of other sizes, at a falling learning rate.
    tokens = header.corpus.train.tokens
    assert 3 * tokens <= header.tokens_seen < 3 * tokens + 2 * per_step
    rates = [line["learning_rate"] for line in untimed_log(out) if line["event"] == "step"]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    best = checkpoint.load(out / "best").header.validation
    assert best is not None and best.loss < 2.5


@pytest.mark.parametrize(("started_by", "goes_on"), [("this", True), ("another", False)])
def test_a_restarted_command_goes_on_only_with_the_run_that_it_began(
    started_by: str, goes_on: bool, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", started_by)
    out = tmp_path / "out"
    train(corpus, out=out, steps=2, batch_size=2, **SMALL)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    events = events_of(corpus, out=out, overwrite=True, steps=2, batch_size=2, **SMALL)
    (start,) = of_kind(TrainingStart, events)
    assert start.resumed_step == (2 if goes_on else 0)


def test_an_error_of_the_first_process_ends_the_others_in_silence(
    start: Start, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.txt"
    first, second = start(str(missing), "--out", str(tmp_path / "out"), "--device", "cpu")
    assert (first[0], second[0]) == (1, 1)
    assert first[2].count("textgen: error:") == 1
    assert second[1:] == ("", "")


def test_all_processes_keep_to_the_clock_of_the_first_and_count_the_same_text(
    start: Start, corpus: Path, tmp_path: Path
) -> None:
    mixture = ["--model", "lstm+ngram", "--order", "2", "--device", "cpu", "--format", "json"]
    options = [*OPTIONS, *mixture, "--out", str(tmp_path / "out")]
    (code, out, err), (second_code, *_) = start(str(corpus), "--budget", "1s", *options)
    assert (code, second_code) == (0, 0), err
    result = json.loads(out)
    assert result["validation"]["loss"] < 2.5
    assert result["tokens_seen"] == result["steps"] * 2 * 2 * 8


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 6), (6, 1)])
def test_the_rest_of_an_epoch_is_read_once_by_another_number_of_streams(
    before: int, after: int
) -> None:
    ids = np.full(2000, 2, np.uint16)
    ids[15::16] = EOS  # so that runs begin at multiples of a window, and none overlaps another
    given = {"sequence_length": 16, "run_windows": 5, "unknown_rate": 0.0, "seed": 3}
    reads = np.zeros(len(ids), int)

    def read(streams: Streams) -> None:
        streams.next()
        for row in streams.state().rows:
            if row.epoch == 0:
                reads[row.position - 16 : row.position] += 1

    first = Streams(ids, batch_size=before, **given)
    for _ in range(7):
        read(first)
    written = json.loads(json.dumps(first.state().to_json()))
    second = Streams(ids, batch_size=after, **given)
    second.restore(from_json(StreamsState, written))
    while second.state().epoch == 0 or any(row.epoch == 0 for row in second.state().rows):
        read(second)
    assert (reads == 1).all()


@pytest.mark.parametrize("size", ["", "1"])
def test_no_process_looks_for_others_without_torchrun(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": size, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert process_rank() is None
    assert is_first_process()


def test_checkpoints_on_the_way_are_those_of_one_process_with_the_whole_batch(
    start: Start, corpus: Path, tmp_path: Path
) -> None:
    out, at = tmp_path / "two", "32,100,20w"
    arguments = [str(corpus), "--out", str(out), "--steps", "5", *OPTIONS, "--device", "cpu"]
    ended = start(*arguments, "--checkpoint-at", at, "--dropout", "0")
    assert [code for code, _, _ in ended] == [0, 0]
    whole = SMALL | {"batch_size": 4, "dropout": 0.0, "baseline": False}
    train(corpus, out=tmp_path / "one", steps=5, checkpoint_at=at, **whole)
    for name in at.split(","):
        headers = [checkpoint.load(tmp_path / run / "at" / name).header for run in ("one", "two")]
        one, two = ((each.step, each.tokens_seen, each.words_seen) for each in headers)
        assert one == two
        assert None not in one
