"""Speed and memory of scoring the lines of real texts.

    TEXTGEN_CORPORA=FOLDER python benchmarks/scoring.py [speed] [memory]

speed: models of two shapes with random weights in float32, characters with one layer of 512 units
and 10,000 words with two, against the forward pass and loss of the same model on batches of equal
length, without encoding a text or forming scores ("packed"), and against one sentence at a time.
memory: the command with a small model on ten thousand lines and on a million.
``results/scoring.json`` has the last figures.
"""

import argparse
import itertools
import tempfile
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from shared import (
    SHAKESPEARE,
    TEXTGEN,
    TOLSTOY,
    Call,
    Rows,
    machine,
    median,
    median_ratio,
    real_text,
    run,
    seconds,
    show,
)
from torch.nn import functional

from textgen import train
from textgen.config import LSTMConfig, ScoringConfig, TokenizerConfig
from textgen.data.lines import Text
from textgen.data.text import sentences
from textgen.models import Model, build
from textgen.scoring.jobs import groups
from textgen.scoring.scorer import Scorer
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

SAVED = Rows("scoring.json")
CORPORA = (SHAKESPEARE, TOLSTOY)
SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "1x512 characters": ({"level": "char"}, (512,)),
    "2x512 words": ({"level": "word", "vocab_size": 10_000}, (512, 512)),
}
ROUNDS = 7
LINES, ALONE, BATCH = 2048, 24, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["speed", "memory"])
    parts = parser.parse_args().parts
    if "speed" in parts:
        for (name, (tokenizing, hidden)), corpus in itertools.product(SHAPES.items(), CORPORA):
            figures = compare(real_text(corpus), TokenizerConfig(**tokenizing), hidden)
            key = {"part": "speed", "shape": name, "corpus": corpus, "machine": machine()}
            SAVED.put(key, {"figures": figures})
            show(f"{name}, {corpus}", figures)
    if "memory" in parts:
        figures = memory()
        SAVED.put({"part": "memory", "machine": machine()}, {"figures": figures})
        show("memory", figures)


def compare(path: Path, tokenizing: TokenizerConfig, hidden: tuple[int, ...]) -> dict[str, float]:
    tokenizer = learn_tokenizer(tokenizing, [(path.read_text(encoding="utf-8"), False)])
    model = build(LSTMConfig(hidden_size=hidden).resolved(tokenizer.vocabulary_size))
    model.initialize(torch.Generator().manual_seed(0))
    lines = list(islice(sentences(path), 20_000))[-LINES:]
    few = lines[:: LINES // ALONE]
    tokens, few_tokens = (
        sum(len(tokenizer.encode(line)) + 1 for line in some) for some in (lines, few)
    )
    ways: dict[str, Call] = {
        "scoring": partial(scored, model, tokenizer, lines),
        "packed": packed(model, tokens, tokens // len(lines)),
        "one at a time": partial(one_by_one, model, tokenizer, few),
    }
    counts = {"scoring": tokens, "packed": tokens, "one at a time": few_tokens}
    rates = [
        {name: counts[name] / seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)
    ]
    figures = {f"{name}, tokens per second": median(rates, name) for name in ways}
    for other in ("packed", "one at a time"):
        figures[f"over {other}"] = median_ratio(rates, "scoring", other)
    return figures


def scored(model: Model, tokenizer: Tokenizer, lines: list[str]) -> None:
    for _ in Scorer(model, tokenizer, ScoringConfig()).scores(groups(lines)):
        pass


def one_by_one(model: Model, tokenizer: Tokenizer, lines: list[str]) -> None:
    scorer = Scorer(model, tokenizer, ScoringConfig())
    for _ in scorer.scores([Text(1, line)] for line in lines):
        pass


def packed(model: Model, tokens: int, length: int) -> Call:
    """The same number of tokens in batches without padding; the last batch is smaller."""
    ids = torch.randint(model.config.vocabulary_size, (length + 1, tokens // length))

    @torch.inference_mode()
    def read() -> None:
        for batch in torch.split(ids, BATCH, dim=1):
            logits, _ = model(batch[:-1], model.start(batch.shape[1]))
            functional.cross_entropy(logits.flatten(0, 1), batch[1:].flatten())

    return read


def memory() -> dict[str, float]:
    text = real_text(SHAKESPEARE)
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, path = Path(folder, "out"), Path(folder, "lines.txt")
        train(text, out=out, steps=1, hidden_size=(16,))
        for count in (10_000, 1_000_000):
            path.write_text("".join(islice(cycle(lines), count)), encoding="utf-8")
            for jobs in ((), ("--jobs", "2")):
                name = " ".join([f"{count:,} lines", *jobs])
                process = run(TEXTGEN, "score", out, path, "--format", "json", *jobs, discard=True)
                figures[f"{name}, peak memory, MB"] = round(process.peak)
                figures[f"{name}, s"] = round(process.seconds, 1)
    return figures


if __name__ == "__main__":
    main()
