"""Speed, memory, start-up and exactness: prints a table and keeps it as JSON.

    python benchmarks/run.py [--corpus FILE] [--only NAME ...]

The corpus is tinyshakespeare.txt from the folder that TEXTGEN_CORPORA names, else the bundled
one. Machines are shared and noisy: what is compared runs interleaved in one process tree, and
medians are reported. ``results/run.json`` has the last figures of each benchmark on each machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import TEXTGEN, Rows, machine, repeated
from torch.nn import functional

from textgen.batching import Streams
from textgen.config import ModelConfig, TrainingConfig
from textgen.models import build
from textgen.models.placement import autocast, choose_precision
from textgen.training.learner import Learner
from textgen.training_run.choosing import flop_per_token

KEPT = Rows("run.json")
ROOT = Path(__file__).resolve().parent.parent
BUDGET = "90s"
SENTENCES = 10_000
_PRODUCT_SIZE = 2048
_PRODUCT_FLOP = 2 * _PRODUCT_SIZE**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=_default_corpus())
    usual = [name for name in BENCHMARKS if name != "memory"]  # which takes 30 GB of disk
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=usual)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        for name in BENCHMARKS:
            if name not in arguments.only:
                continue
            if name in ("start_up", "use", "precision") and not model.exists():
                _train(arguments.corpus, model, "--steps", "200")
            figures = BENCHMARKS[name](arguments.corpus, model)
            key = {"benchmark": name, "corpus": arguments.corpus.name, "machine": machine()}
            KEPT.put(key, {"figures": figures})
            for what, value in figures.items():
                shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
                print(f"{name:<12} {what:<44} {shown:>16}", flush=True)


def _default_corpus() -> Path:
    folder = os.environ.get("TEXTGEN_CORPORA")
    known = Path(folder, "tinyshakespeare.txt") if folder else None
    return known if known and known.is_file() else ROOT / "corpora" / "stories.txt"


def training(corpus: Path, model: Path) -> dict[str, float]:
    """One run of the command with defaults and a budget, as a person would type it."""
    begun = time.perf_counter()
    result, usage = _train(corpus, model, "--budget", BUDGET)
    return {
        "validation loss, nats a token": result["validation"]["loss"],
        "bits a character": result["validation"]["bits_per_character"],
        "seconds by textgen's clock": result["seconds"],
        "seconds of the whole command": time.perf_counter() - begun,
        "tokens a second": result["tokens_per_second"],
        "parameters": result["parameters"],
        "peak memory, MB": usage.ru_maxrss / 1024,
    }


def _train(corpus: Path, model: Path, *length: str) -> tuple[dict[str, Any], Any]:
    command = [TEXTGEN, "train", corpus, "--out", model, *length, "--format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return json.loads(output), usage


def speed(corpus: Path, model: Path) -> dict[str, float]:
    """Our update against a bare nn.LSTM loop of the same shape and precision, interleaved.

    And both against the fastest product of large matrices in that precision, in the same minute.
    """
    ours, bare, product = _our_update(corpus), _bare_update(corpus), _matrix_product()
    for update in (ours, bare, product):
        _seconds(update, 5)
    rounds = [(_seconds(ours, 20), _seconds(bare, 20), _seconds(product, 5)) for _ in range(15)]
    pairs = [(a, b) for a, b, _ in rounds]
    flop = 20 * 16 * 64 * flop_per_token(ModelConfig().resolved(int(_ids(corpus).max()) + 1))
    peak = 5 * _PRODUCT_FLOP
    return {
        "matrix-product peak, GFLOP/s": peak / min(c for *_, c in rounds) / 1e9,
        "share of the peak, ours": statistics.median(flop / a / (peak / c) for a, _, c in rounds),
        "share of the peak, bare": statistics.median(flop / b / (peak / c) for _, b, c in rounds),
        "ours, tokens a second": 20 * 16 * 64 / statistics.median(a for a, _ in pairs),
        "bare nn.LSTM loop, tokens a second": 20 * 16 * 64 / statistics.median(b for _, b in pairs),
        "ours over bare, median of 15 pairs": statistics.median(b / a for a, b in pairs),
    }


def _matrix_product() -> Callable[[], None]:
    precision = choose_precision("auto", torch.device("cpu"), ModelConfig())
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(_PRODUCT_SIZE, _PRODUCT_SIZE).to(dtype)
    return lambda: torch.mm(matrix, matrix)  # type: ignore[return-value]


def _seconds(update: Callable[[], None], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        update()
    return time.perf_counter() - begun


def _ids(corpus: Path) -> Any:
    text = corpus.read_text(encoding="utf-8")
    symbols = {symbol: id for id, symbol in enumerate(sorted(set(text) - {"\n"}), start=2)}
    symbols["\n"] = 1
    return np.array([symbols[symbol] for symbol in text], np.uint16)


def _our_update(corpus: Path) -> Callable[[], None]:
    ids, config = _ids(corpus), TrainingConfig(steps=1)
    model = build(ModelConfig().resolved(int(ids.max()) + 1))
    model.initialize(torch.Generator())
    streams = Streams(
        ids,
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        run_windows=config.run_windows,
        unknown_rate=config.unknown_rate,
        seed=config.seed,
    )
    precision = choose_precision("auto", torch.device("cpu"), model.config)
    learner = Learner(model, streams, config, precision)
    return lambda: learner.update(1e-3)


def _bare_update(corpus: Path) -> Callable[[], None]:
    """The loop that a person would write: nn.LSTM, autocast, AdamW, random offsets."""
    ids = torch.from_numpy(_ids(corpus).astype(np.int64))
    vocabulary = int(ids.max()) + 1
    embedding = torch.nn.Embedding(vocabulary, 128)
    lstm, output = torch.nn.LSTM(128, 512), torch.nn.Linear(512, vocabulary)
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    precision = choose_precision("auto", torch.device("cpu"), ModelConfig())
    places = torch.randint(len(ids) - 65, (16,))
    state = (torch.zeros(1, 16, 512), torch.zeros(1, 16, 512))

    def update() -> None:
        nonlocal places, state
        window = ids[places + torch.arange(65).unsqueeze(1)]
        places = (places + 64) % (len(ids) - 65)
        with autocast(torch.device("cpu"), precision):
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
    """Whole processes, interleaved; the medians of 7."""
    commands: dict[str, list[Any]] = {
        "textgen --help": [TEXTGEN, "--help"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "textgen score, one sentence": [TEXTGEN, "score", model, "--text", "To be or not to be"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(8):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begun)
    medians = {f"{name}, s": statistics.median(times[1:]) for name, times in seconds.items()}
    score, torch_alone = seconds["textgen score, one sentence"], seconds["python -c 'import torch'"]
    differences = [a - b for a, b in zip(score[1:], torch_alone[1:], strict=True)]
    return medians | {"score over import torch, s": statistics.median(differences)}


def use(corpus: Path, model: Path) -> dict[str, float]:
    """Sampling and scoring through the Python face."""
    from textgen import LanguageModel

    trained = LanguageModel.load(model)
    sentences = [line for line in corpus.read_text(encoding="utf-8").split("\n") if line]
    sentences = (sentences * (SENTENCES // len(sentences) + 1))[:SENTENCES]
    begun = time.perf_counter()
    scores = trained.score(sentences)
    scoring = time.perf_counter() - begun
    begun = time.perf_counter()
    trained.sample(length=2000)
    one = time.perf_counter() - begun
    begun = time.perf_counter()
    trained.sample(length=500, count=64)
    many = time.perf_counter() - begun
    return {
        f"scoring {SENTENCES:,} sentences, s": scoring,
        "scoring, tokens a second": sum(score.tokens for score in scores) / scoring,
        "sampling one text, tokens a second": 2000 / one,
        "sampling 64 texts, tokens a second": 64 * 500 / many,
    }


def precision(corpus: Path, model: Path) -> dict[str, float]:
    """What ``--precision bf16`` costs in exactness, over the corpus's last thousand sentences."""
    from textgen import LanguageModel

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
        "bf16, most wrong token, nats": max(tokens),
        "bf16, median sentence, nats a token": statistics.median(sentences),
    }


def memory(corpus: Path, model: Path) -> dict[str, float]:
    """Peak memory of training on 10 MB and on 10 GB: the ids are mapped, not read."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("10 MB", 10**7), ("10 GB", 10**10)):
            path, ids = repeated(corpus, Path(folder, "text.txt"), size), Path(folder, name)
            # As much is held out of each, for what takes long is to validate.
            held_out = ["--valid-fraction", str(10**5 / size)]
            subprocess.run([TEXTGEN, "tokenize", path, "--out", ids, *held_out], check=True)
            path.unlink()
            result, usage = _train(ids, Path(folder, "model of " + name), "--steps", "500")
            figures[f"{name}, peak memory, MB"] = usage.ru_maxrss / 1e3
            figures[f"{name}, tokens a second"] = result["tokens_per_second"]
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
