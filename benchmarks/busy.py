"""Training speed beside a busy process, by number of threads and way of waiting; to busy.json.

    python benchmarks/busy.py [--rounds 5] [--seconds 2]

The threads of an operation wait for each other by spinning for a while, then by sleeping. Each way
is a process of its own, because libgomp reads its variables when it is loaded. The processes take
turns, with nothing beside them and with one process that never waits.

Spinning as libgomp does by default (300,000 times) is left out: on two cores with more than one
busy process an update then took 20 s and more instead of one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from shared import Rows, machine, show

from textgen.config import ModelConfig, TrainingConfig
from textgen.data.batching import Streams
from textgen.models import build
from textgen.training.state import GradientState

ALL = len(os.sched_getaffinity(0))
SPIN = "GOMP_SPINCOUNT"
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "one thread": (1, {}),
    "all, spinning 1000 times": (ALL, {SPIN: "1000"}),  # what the command sets
    "all, not spinning": (ALL, {SPIN: "0"}),
    "all, passive": (ALL, {"OMP_WAIT_POLICY": "passive"}),
    "all, spinning, bound to cores": (ALL, {SPIN: "1000", "OMP_PROC_BIND": "true"}),
}
VOCABULARY = 65


def work(threads: int) -> None:
    """Train on random ids for the seconds in each line of stdin, and print the speed."""
    torch.set_num_threads(threads)
    model, training = ModelConfig.from_options({}).resolved(VOCABULARY), TrainingConfig()
    network = build(model)
    network.initialize(torch.Generator().manual_seed(0))
    window = training.batch_size * training.sequence_length
    streams = Streams(
        np.random.default_rng(0).integers(0, VOCABULARY, 4 * window, np.uint32),
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        run_windows=1,
        unknown_rate=0.0,
        seed=0,
    )
    state = GradientState(network, streams, training, "float32")
    state.update(1e-3)  # the first also allocates
    for line in sys.stdin:
        begun, updates = time.perf_counter(), 0
        while time.perf_counter() - begun < float(line):
            state.update(1e-3)
            updates += 1
        print(updates * window / (time.perf_counter() - begun), flush=True)


@contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def start(threads: int, variables: dict[str, str]) -> "subprocess.Popen[str]":
    ours = {SPIN, "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.Popen(
        [sys.executable, __file__, "--threads", str(threads)],
        env=environment | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def turn(process: "subprocess.Popen[str]", seconds: float) -> float:
    """Training tokens per second in one turn."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(rounds: int, seconds: float) -> None:
    processes = {name: start(*way) for name, way in WAYS.items()}
    quiet: dict[str, list[float]] = {name: [] for name in WAYS}
    busy: dict[str, list[float]] = {name: [] for name in WAYS}
    loads = []
    for _ in range(rounds):
        for name, process in processes.items():
            loads.append(os.getloadavg()[0])
            quiet[name].append(turn(process, seconds))
            with busy_process():
                busy[name].append(turn(process, seconds))
            show(name, {"quiet": quiet[name][-1], "busy": busy[name][-1], "load": loads[-1]})
    for process in processes.values():
        process.communicate()
    best = max(map(statistics.median, quiet.values()))
    rows = Rows("busy.json")
    for name, (threads, variables) in WAYS.items():
        figures = {
            "quiet_tokens_per_second": statistics.median(quiet[name]),
            "busy_tokens_per_second": statistics.median(busy[name]),
            "busy_of_best_quiet": statistics.median(busy[name]) / best,
            "slowest_busy_of_best_quiet": min(busy[name]) / best,
        }
        show(name, figures)
        values = {"threads": threads, "variables": variables, **figures}
        values |= {"load_average": statistics.median(loads), "machine": machine()}
        rows.put({"way": name}, values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads is None:
        compare(given.rounds, given.seconds)
    else:
        work(given.threads)


if __name__ == "__main__":
    main()
