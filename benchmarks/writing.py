"""The ``sample`` command as a whole: its start, its memory, its novelty and what --fast costs.

    python benchmarks/writing.py [--corpus FILE] [--only NAME ...]

The corpus is tinyshakespeare.txt from the folder that TEXTGEN_CORPORA names. ``results/
writing.json`` has the last figures of each benchmark on each machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import TEXTGEN, Rows, machine, real_text

from textgen import LanguageModel
from textgen.studies import suffixes
from textgen.studies.novelty import Index
from textgen.tokenizers.base import EOS

KEPT = Rows("writing.json")
ROUNDS = 9
WATCHED = """
import builtins, sys, time
plain, imported = builtins.__import__, []
def watching(name, *arguments):
    outermost = name == "torch" and name not in sys.modules
    module = plain(name, *arguments)
    if outermost:
        imported.append(time.perf_counter())
    return module
builtins.__import__ = watching
write = sys.stdout.write
def first(text):
    print(time.perf_counter() - imported[0], file=sys.stderr)
    sys.stdout.write = write
    return write(text)
sys.stdout.write = first
from textgen.cli.app import main
main()
"""
"""Runs the command, and tells the seconds from torch being imported to its first output."""
BYTES = 10**8
QUERY = 2000
READ = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    arguments = parser.parse_args()
    corpus = arguments.corpus or real_text("tinyshakespeare.txt")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        if set(arguments.only) - {"novelty"}:
            command = [TEXTGEN, "train", corpus, "--out", model, "--steps", "300"]
            subprocess.run(command, check=True, capture_output=True)
        for name in arguments.only:
            figures = BENCHMARKS[name](corpus, model)
            key = {"benchmark": name, "corpus": corpus.name, "machine": machine()}
            KEPT.put(key, {"figures": figures})
            for what, value in figures.items():
                print(f"{name:<8} {what:<52} {value:>12,.4g}", flush=True)


def start(corpus: Path, model: Path) -> dict[str, float]:
    """Processes that write one token: from torch being imported, and against only importing it."""
    commands: dict[str, list[Any]] = {
        "import torch": [sys.executable, "-c", "import torch"],
        "sample --length 1": [TEXTGEN, "sample", model, "--length", "1"],
    }
    watched = [sys.executable, "-c", WATCHED, "sample", model, "--length", "1"]
    first: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS + 1):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begun)
        done = subprocess.run(watched, check=True, capture_output=True, encoding="utf-8")
        first.append(float(done.stderr.splitlines()[-1]))
    bare, whole = (times[1:] for times in seconds.values())
    differences = [b - a for a, b in zip(bare, whole, strict=True)]
    return {
        "import torch, s": statistics.median(bare),
        "sample of one token, s": statistics.median(whole),
        "the one over the other, s": statistics.median(differences),
        "from torch being imported to the first token, s": statistics.median(first[1:]),
    }


def memory(corpus: Path, model: Path) -> dict[str, float]:
    figures = {}
    for length in (10_000, 1_000_000):
        command = [TEXTGEN, "sample", model, "--length", str(length)]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, status
        figures[f"{length:,} tokens, peak memory, MB"] = usage.ru_maxrss / 1024
        figures[f"{length:,} tokens, s"] = time.perf_counter() - begun
    return figures


def novelty(corpus: Path, model: Path) -> dict[str, float]:
    """An index of 100 MB, and looking up 2,000 characters of which half are copied."""
    texts = [corpus, real_text("war_and_peace_90.txt")]
    lines = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines(True)]
    random = np.random.default_rng(0)

    def drawn() -> Iterator[str]:
        size = 0
        while size < BYTES:
            piece = "".join(lines[place] for place in random.integers(len(lines), size=10_000))
            size += len(piece.encode())
            yield piece

    def sample() -> str:
        copied = "".join(lines[place] for place in random.integers(len(lines), size=100))
        letters = "".join(random.choice(list(copied), QUERY // 2))
        return copied[: QUERY // 2] + letters

    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        length = suffixes.build(Path(name), drawn())
        building = time.perf_counter() - begun
        index = Index(suffixes.Suffixes(Path(name), length))
        times = []
        for _ in range(50):
            text = sample()
            begun = time.perf_counter()
            index.novelty(text)
            times.append(time.perf_counter() - begun)
    return {
        f"building, of {length / 1e6:,.0f} MB, s": building,
        f"a query of {QUERY:,} characters, ms, median": 1e3 * statistics.median(times),
        f"a query of {QUERY:,} characters, ms, longest": 1e3 * max(times),
    }


@torch.inference_mode()
def fast(corpus: Path, model: Path) -> dict[str, float]:
    """How far the distributions of --fast are from the exact ones, on the text's end."""
    loaded = LanguageModel.load(model, device="cpu")
    network, tokenizer = loaded.model, loaded.tokenizer
    text = corpus.read_text(encoding="utf-8")[-4 * READ :]
    ids = torch.tensor([EOS, *tokenizer.continuation(text).ids.tolist()[:READ]])
    logits, _ = network(ids.unsqueeze(1), network.start(1))
    exact = logits[:-1, 0].double().log_softmax(-1)
    figures = {}
    for name, is_fast in (("default", False), ("--fast", True)):
        stepper = network.stepper(fast=is_fast)
        steps = torch.cat([stepper.step(id.view(1)).clone() for id in ids[:-1]])
        found = steps.double().log_softmax(-1)
        gaps = (found - exact).gather(1, ids[1:].unsqueeze(1)).abs()
        figures[f"{name}, KL divergence, nats a token"] = float(
            (exact.exp() * (exact - found)).sum(-1).mean()
        )
        figures[f"{name}, most wrong of the text's tokens, nats"] = float(gaps.max())
    return figures


BENCHMARKS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "start": start,
    "memory": memory,
    "novelty": novelty,
    "fast": fast,
}

if __name__ == "__main__":
    main()
