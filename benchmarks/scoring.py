"""Scoring the lines of real texts: against packed batches, and one sentence at a time.

    TEXTGEN_CORPORA=FOLDER python benchmarks/scoring.py [speed] [memory]

Models of two shapes with drawn weights, all in float32: of characters with one layer of 512, of
10,000 words with two. "Packed" is the forward pass of the same model with its loss on batches of
equal length, without a text to encode or a score to give. ``memory`` is that of the command with a
small model, on ten thousand lines and on a million.
``results/scoring.json`` has the last figures.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from shared import TEXTGEN, Rows, machine, real_text
from torch.nn import functional

from textgen import train
from textgen.config import ModelConfig, ScoringConfig, TokenizerConfig
from textgen.corpus import sentences
from textgen.corpus.arriving import Text
from textgen.models import Model, build
from textgen.scoring.groups import groups
from textgen.scoring.scorer import Scorer
from textgen.tokenizers import Tokenizer, learn_tokenizer

KEPT = Rows("scoring.json")
CORPORA = ("tinyshakespeare.txt", "war_and_peace_90.txt")
SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "1x512 characters": ({"level": "char"}, (512,)),
    "2x512 words": ({"level": "word", "vocab_size": 10_000}, (512, 512)),
}
ROUNDS = 7
LINES, ALONE, BATCH = 2048, 24, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    for part in parser.parse_args().parts:
        PARTS[part]()


def speed() -> None:
    for (name, (tokenizing, hidden)), corpus in itertools.product(SHAPES.items(), CORPORA):
        figures = compare(real_text(corpus), TokenizerConfig(**tokenizing), hidden)
        KEPT.put(
            {"part": "speed", "shape": name, "corpus": corpus, "machine": machine()},
            {"figures": figures},
        )
        print(f"{name:<18} {corpus:<22}", end="")
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)


def compare(path: Path, tokenizing: TokenizerConfig, hidden: tuple[int, ...]) -> dict[str, float]:
    tokenizer = learn_tokenizer(tokenizing, [(path.read_text(encoding="utf-8"), False)])
    config = ModelConfig(hidden_size=hidden).resolved(tokenizer.vocabulary_size)
    model = build(config)
    model.initialize(torch.Generator().manual_seed(0))
    lines = list(islice(sentences(path), 20_000))[-LINES:]
    tokens = sum(len(tokenizer.encode(line)) + 1 for line in lines)
    few = lines[:: LINES // ALONE]
    few_tokens = sum(len(tokenizer.encode(line)) + 1 for line in few)
    ways: dict[str, Callable[[], object]] = {
        "scoring": partial(scored, model, tokenizer, lines),
        "packed": packed(model, tokens, tokens // len(lines)),
        "one at a time": partial(one_by_one, model, tokenizer, few),
    }
    counts = {"scoring": tokens, "packed": tokens, "one at a time": few_tokens}
    rates = [
        {name: counts[name] / seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)
    ]
    figures = {
        f"{name}, tokens a second": statistics.median(each[name] for each in rates) for name in ways
    }
    for other in ("packed", "one at a time"):
        ratio = statistics.median(each["scoring"] / each[other] for each in rates)
        figures[f"over {other}"] = ratio
    return figures


def seconds(way: Callable[[], object]) -> float:
    begun = time.perf_counter()
    way()
    return time.perf_counter() - begun


def scored(model: Model, tokenizer: Tokenizer, lines: list[str]) -> None:
    for _ in Scorer(model, tokenizer, ScoringConfig()).scores(groups(lines)):
        pass


def one_by_one(model: Model, tokenizer: Tokenizer, lines: list[str]) -> None:
    scorer = Scorer(model, tokenizer, ScoringConfig())
    for _ in scorer.scores([Text(1, line)] for line in lines):
        pass


def packed(model: Model, tokens: int, length: int) -> Callable[[], None]:
    """As many tokens in batches without padding, the last being smaller."""
    ids = torch.randint(model.config.vocabulary_size, (length + 1, tokens // length))

    @torch.inference_mode()
    def read() -> None:
        for batch in torch.split(ids, BATCH, dim=1):
            logits, _ = model(batch[:-1], model.start(batch.shape[1]))
            functional.cross_entropy(logits.flatten(0, 1), batch[1:].flatten())

    return read


def memory() -> None:
    text = real_text(CORPORA[0])
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, path = Path(folder, "out"), Path(folder, "lines.txt")
        train(text, out=out, steps=1, hidden_size=(16,))
        for count in (10_000, 1_000_000):
            path.write_text("".join(islice(cycle(lines), count)), encoding="utf-8")
            for way in ((), ("--jobs", "2")):
                name = " ".join([f"{count:,} lines", *way])
                command = [TEXTGEN, "score", out, path, "--format", "json", *way]
                begun = time.perf_counter()
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                assert status == 0, status
                figures[f"{name}, peak memory, MB"] = round(usage.ru_maxrss / 1024)
                figures[f"{name}, s"] = round(time.perf_counter() - begun, 1)
    KEPT.put({"part": "memory", "machine": machine()}, {"figures": figures})
    for name, value in figures.items():
        print(f"{name:<44} {value:>10,.4g}")


PARTS: dict[str, Callable[[], None]] = {"speed": speed, "memory": memory}

if __name__ == "__main__":
    main()
