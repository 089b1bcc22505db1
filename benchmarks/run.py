"""Training speed, memory, start-up time and the exactness of bf16.

    python benchmarks/run.py [--corpus FILE] [--only NAME ...]

The corpus is tinyshakespeare.txt from the folder that TEXTGEN_CORPORA names, else the bundled
one. The machines are shared and noisy: alternatives that are compared run in turns, and medians are
reported. ``results/run.json`` has the last figures of each benchmark on each machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import ROOT, SHAKESPEARE, TEXTGEN, Process, Rows, machine, repeated, run, seconds, show
from torch.nn import functional

from textgen import LanguageModel
from textgen.config import LSTMConfig, TrainingConfig
from textgen.data.batching import Streams
from textgen.models import build
from textgen.models.device import autocast, choose_precision
from textgen.training.autotune import flop_per_token
from textgen.training.state import GradientState

SAVED = Rows("run.json")
CPU = torch.device("cpu")
BUDGET, SENTENCES = "90s", 10_000
BATCH, WINDOW, UNITS, EMBEDDING = 16, 64, 512, 128
_PRODUCT_SIZE = 2048
_PRODUCT_FLOP = 2 * _PRODUCT_SIZE**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=_default_corpus())
    usual = [name for name in BENCHMARKS if name != "memory"]  # memory needs 30 GB of disk
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=usual)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        for name in sorted(arguments.only, key=list(BENCHMARKS).index):
            if name in ("start_up", "use", "precision") and not model.exists():
                _train(arguments.corpus, model, "--steps", "200")
            figures = BENCHMARKS[name](arguments.corpus, model)
            key = {"benchmark": name, "corpus": arguments.corpus.name, "machine": machine()}
            SAVED.put(key, {"figures": figures})
            show(name, figures)


def _default_corpus() -> Path:
    known = Path(os.environ.get("TEXTGEN_CORPORA", "."), SHAKESPEARE)
    return known if known.is_file() else ROOT / "corpora" / "stories.txt"


def training(corpus: Path, model: Path) -> dict[str, float]:
    """One run of the command with defaults and a budget, as a person would type it."""
    result, process = _train(corpus, model, "--budget", BUDGET)
    return {
        "validation loss, nats per token": result["validation"]["loss"],
        "bits per character": result["validation"]["bits_per_character"],
        "seconds by textgen's clock": result["seconds"],
        "seconds of the whole command": process.seconds,
        "tokens per second": result["tokens_per_second"],
        "parameters": result["parameters"],
        "peak memory, MB": process.peak,
    }


def _train(corpus: Path, model: Path, *length: str) -> tuple[dict[str, Any], Process]:
    process = run(TEXTGEN, "train", corpus, "--out", model, *length, "--format", "json")
    return process.objects()[0], process


def speed(corpus: Path, model: Path) -> dict[str, float]:
    """An update of textgen and of a bare nn.LSTM loop of the same shape and precision, in turns.

    Both are also related to the fastest product of large matrices in that precision, measured in
    the same minute.
    """
    ours, bare, product = _textgen_update(corpus), _bare_update(corpus), _matrix_product()
    for update in (ours, bare, product):
        seconds(update, 5)
    rounds = [(seconds(ours, 20), seconds(bare, 20), seconds(product, 5)) for _ in range(15)]
    config = LSTMConfig().resolved(int(_ids(corpus).max()) + 1)
    flop = BATCH * WINDOW * flop_per_token(config)
    tokens = BATCH * WINDOW
    return {
        "matrix-product peak, GFLOP/s": _PRODUCT_FLOP / min(c for *_, c in rounds) / 1e9,
        "share of the peak, ours": statistics.median(
            flop / a / (_PRODUCT_FLOP / c) for a, _, c in rounds
        ),
        "share of the peak, bare": statistics.median(
            flop / b / (_PRODUCT_FLOP / c) for _, b, c in rounds
        ),
        "ours, tokens per second": tokens / statistics.median(a for a, *_ in rounds),
        "bare nn.LSTM loop, tokens per second": tokens / statistics.median(b for _, b, _ in rounds),
        "ours over bare, median of 15 pairs": statistics.median(b / a for a, b, _ in rounds),
    }


def _matrix_product() -> Callable[[], object]:
    precision = choose_precision("auto", CPU, LSTMConfig())
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(_PRODUCT_SIZE, _PRODUCT_SIZE).to(dtype)
    return lambda: torch.mm(matrix, matrix)


def _ids(corpus: Path) -> Any:
    text = corpus.read_text(encoding="utf-8")
    symbols = {symbol: id for id, symbol in enumerate(sorted(set(text) - {"\n"}), start=2)}
    symbols["\n"] = 1
    return np.array([symbols[symbol] for symbol in text], np.uint16)


def _textgen_update(corpus: Path) -> Callable[[], object]:
    ids, config = _ids(corpus), TrainingConfig(steps=1)
    model = build(LSTMConfig().resolved(int(ids.max()) + 1))
    model.initialize(torch.Generator())
    streams = Streams(
        ids,
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        run_windows=config.run_windows,
        unknown_rate=config.unknown_rate,
        seed=config.seed,
    )
    state = GradientState(model, streams, config, choose_precision("auto", CPU, model.config))
    return lambda: state.update(1e-3)


def _bare_update(corpus: Path) -> Callable[[], object]:
    """The loop that people write by hand: nn.LSTM, autocast, AdamW, random offsets."""
    ids = torch.from_numpy(_ids(corpus).astype(np.int64))
    vocabulary = int(ids.max()) + 1
    embedding = torch.nn.Embedding(vocabulary, EMBEDDING)
    lstm, output = torch.nn.LSTM(EMBEDDING, UNITS), torch.nn.Linear(UNITS, vocabulary)
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    precision = choose_precision("auto", CPU, LSTMConfig())
    places = torch.randint(len(ids) - WINDOW - 1, (BATCH,))
    state = (torch.zeros(1, BATCH, UNITS), torch.zeros(1, BATCH, UNITS))

    def update() -> None:
        nonlocal places, state
        window = ids[places + torch.arange(WINDOW + 1).unsqueeze(1)]
        places = (places + WINDOW) % (len(ids) - WINDOW - 1)
        with autocast(CPU, precision):
            embedded = functional.dropout(embedding(window[:-1]), 0.1)
            hidden, state = lstm(embedded, (state[0].detach(), state[1].detach()))
            logits = output(functional.dropout(hidden, 0.1))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), window[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return update


def start_up(corpus: Path, model: Path) -> dict[str, float]:
    """Whole processes in turns; medians of 7 after one that is not counted."""
    score = "textgen score, one sentence"
    commands: dict[str, list[object]] = {
        "textgen --help": [TEXTGEN, "--help"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        score: [TEXTGEN, "score", model, "--text", "To be or not to be"],
    }
    rounds = [
        {name: run(*command).seconds for name, command in commands.items()} for _ in range(8)
    ][1:]
    medians = {f"{name}, s": statistics.median(each[name] for each in rounds) for name in commands}
    over = statistics.median(each[score] - each["python -c 'import torch'"] for each in rounds)
    return medians | {"score over import torch, s": over}


def use(corpus: Path, model: Path) -> dict[str, float]:
    """Sampling and scoring from Python."""
    trained = LanguageModel.load(model)
    sentences = [line for line in corpus.read_text(encoding="utf-8").split("\n") if line]
    sentences = (sentences * (SENTENCES // len(sentences) + 1))[:SENTENCES]
    tokens = sum(len(trained.tokenizer.encode(each)) + 1 for each in sentences)
    scoring = seconds(lambda: trained.score(sentences))
    one = seconds(lambda: trained.sample(length=2000))
    many = seconds(lambda: trained.sample(length=500, count=64))
    return {
        f"scoring {SENTENCES:,} sentences, s": scoring,
        "scoring, tokens per second": tokens / scoring,
        "sampling one text, tokens per second": 2000 / one,
        "sampling 64 texts, tokens per second": 64 * 500 / many,
    }


def precision(corpus: Path, model: Path) -> dict[str, float]:
    """The error of ``--precision bf16`` on the last thousand sentences of the corpus."""
    lines = [line for line in corpus.read_text(encoding="utf-8").split("\n") if line][-1000:]
    exact, rough = (
        LanguageModel.load(model, precision=name).score(lines, level="token")
        for name in ("float64", "bf16")
    )
    tokens = [
        abs(a.log_prob - b.log_prob)
        for one, other in zip(exact, rough, strict=True)
        for a, b in zip(one.parts or (), other.parts or (), strict=True)
    ]
    sentences = [abs(a.log_prob - b.log_prob) / a.tokens for a, b in zip(exact, rough, strict=True)]
    return {
        "bf16, largest error of a token, nats": max(tokens),
        "bf16, median sentence, nats per token": statistics.median(sentences),
    }


def memory(corpus: Path, model: Path) -> dict[str, float]:
    """Peak memory of training on 10 MB and on 10 GB: the ids are memory-mapped."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("10 MB", 10**7), ("10 GB", 10**10)):
            path, ids = repeated(corpus, Path(folder, "text.txt"), size), Path(folder, name)
            # The same amount is held out of each, because validation takes long.
            held_out = ["--valid-fraction", str(10**5 / size)]
            subprocess.run([TEXTGEN, "tokenize", path, "--out", ids, *held_out], check=True)
            path.unlink()
            result, process = _train(ids, Path(folder, "model of " + name), "--steps", "500")
            figures[f"{name}, peak memory, MB"] = process.peak
            figures[f"{name}, tokens per second"] = result["tokens_per_second"]
    return figures


BENCHMARKS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "training": training,
    "speed": speed,
    "start_up": start_up,
    "use": use,
    "precision": precision,
    "memory": memory,
}

if __name__ == "__main__":
    main()
