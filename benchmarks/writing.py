"""The ``sample`` command as a whole: start-up, memory, novelty, and the error of --fast.

    python benchmarks/writing.py [--corpus FILE] [--only NAME ...]

The corpus is tinyshakespeare.txt from the folder that TEXTGEN_CORPORA names.
``results/writing.json`` has the last figures of each benchmark on each machine.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from shared import SHAKESPEARE, TEXTGEN, TOLSTOY, Rows, machine, real_text, run, seconds, show

from textgen import LanguageModel
from textgen.inference.steppers import make_stepper
from textgen.sampling.novelty import TextIndex, build
from textgen.tokenizers.base import EOS

SAVED = Rows("writing.json")
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
"""Runs the command and prints the seconds from the end of ``import torch`` to the first output."""
BYTES = 10**8
QUERY = 2000
READ = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    arguments = parser.parse_args()
    corpus = arguments.corpus or real_text(SHAKESPEARE)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        if set(arguments.only) - {"novelty"}:
            run(TEXTGEN, "train", corpus, "--out", model, "--steps", "300")
        for name in arguments.only:
            figures = BENCHMARKS[name](corpus, model)
            key = {"benchmark": name, "corpus": corpus.name, "machine": machine()}
            SAVED.put(key, {"figures": figures})
            show(name, figures)


def start(corpus: Path, model: Path) -> dict[str, float]:
    """Processes that generate one token, relative to one that only imports torch."""
    sample = ["sample", model, "--length", "1"]
    watched = [sys.executable, "-c", WATCHED, *sample]
    rounds, first = [], []
    for _ in range(ROUNDS + 1):
        bare = run(sys.executable, "-c", "import torch").seconds
        rounds.append((bare, run(TEXTGEN, *sample).seconds))
        done = subprocess.run(watched, check=True, capture_output=True, encoding="utf-8")
        first.append(float(done.stderr.splitlines()[-1]))
    del rounds[0], first[0]
    return {
        "import torch, s": statistics.median(bare for bare, _ in rounds),
        "sample of one token, s": statistics.median(whole for _, whole in rounds),
        "sample minus import torch, s": statistics.median(whole - bare for bare, whole in rounds),
        "from the end of import torch to the first token, s": statistics.median(first),
    }


def memory(corpus: Path, model: Path) -> dict[str, float]:
    figures = {}
    for length in (10_000, 1_000_000):
        process = run(TEXTGEN, "sample", model, "--length", length, discard=True)
        figures[f"{length:,} tokens, peak memory, MB"] = process.peak
        figures[f"{length:,} tokens, s"] = process.seconds
    return figures


def novelty(corpus: Path, model: Path) -> dict[str, float]:
    """An index of 100 MB, and queries of 2,000 characters of which half are copied."""
    texts = [corpus, real_text(TOLSTOY)]
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
        lengths: list[int] = []
        building = seconds(lambda: lengths.append(build(Path(name), drawn())))
        (length,) = lengths
        index = TextIndex(Path(name), length)
        queries = [sample() for _ in range(50)]
        times = [seconds(lambda text=text: index.novelty(text)) for text in queries]
    return {
        f"building, of {length / 1e6:,.0f} MB, s": building,
        f"a query of {QUERY:,} characters, ms, median": 1e3 * statistics.median(times),
        f"a query of {QUERY:,} characters, ms, longest": 1e3 * max(times),
    }


@torch.inference_mode()
def fast(corpus: Path, model: Path) -> dict[str, float]:
    """The error of the distributions of a step and of --fast, on the end of the text."""
    loaded = LanguageModel.load(model, device="cpu")
    network, tokenizer = loaded.model, loaded.tokenizer
    text = corpus.read_text(encoding="utf-8")[-4 * READ :]
    ids = torch.tensor([EOS, *tokenizer.continuation(text).ids.tolist()[:READ]])
    logits, _ = network(ids.unsqueeze(1), network.start(1))
    exact = logits[:-1, 0].double().log_softmax(-1)
    figures = {}
    for name, is_fast in (("default", False), ("--fast", True)):
        stepper = make_stepper(network, fast=is_fast)
        steps = torch.cat([stepper.step(id.view(1)).clone() for id in ids[:-1]])
        found = steps.double().log_softmax(-1)
        errors = (found - exact).gather(1, ids[1:].unsqueeze(1)).abs()
        divergence = (exact.exp() * (exact - found)).sum(-1).mean()
        figures[f"{name}, KL divergence, nats per token"] = float(divergence)
        figures[f"{name}, largest error of a token of the text, nats"] = float(errors.max())
    return figures


BENCHMARKS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "start": start,
    "memory": memory,
    "novelty": novelty,
    "fast": fast,
}

if __name__ == "__main__":
    main()
