"""What one GPU does: correctness, and the figures that a GPU is asked for, in under ten minutes.

    python benchmarks/gpu.py [--dry] [--seconds 570] [--out FOLDER] [--only SECTION ...]

Each section below runs, the most telling first, and among them the tests that are marked ``cuda``.
Each figure is written to ``results/gpu-<name of the device>.json`` at once, so that a visit that is
cut short keeps what it found. --dry runs all of it on the CPU in small, to try the script.

The corpus is tinyshakespeare.txt from the folder that TEXTGEN_CORPORA names, else the bundled one.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import RESULTS, ROOT, SHAKESPEARE, commit, machine, show
from torch.nn import functional

from textgen import LanguageModel, train
from textgen.config import LSTMConfig, TrainingConfig
from textgen.data.batching import Streams
from textgen.inference.likelihood import Document
from textgen.models import build
from textgen.models.device import autocast, choose_device, choose_precision
from textgen.tokenizers.base import EOS
from textgen.training.graphed import gradient_state
from textgen.training.state import GradientState

Update = Callable[[], object]

TARGET_LOSS, TARGET_BUDGETS, BEST_BUDGET = 1.47, (15, 30, 60), 300
WINDOW, UNITS, EMBEDDING = 64, 512, 128
_AT_LEAST = 10.0  # seconds that a section needs


class Visit:
    """One run of this script.

    Attributes:
        device: The GPU, or the CPU in a dry run.
        model: A folder for a trained model of 1x512, that sections share.
        found: The figures, by section.
    """

    def __init__(self, *, dry: bool, seconds: float, out: Path, folder: Path) -> None:
        self.dry, self.model = dry, folder / "model"
        self.device = choose_device("cpu" if dry else "cuda")
        self._end = time.perf_counter() + seconds
        name = "dry run" if dry else torch.cuda.get_device_name(self.device)
        self._path = out / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
        self.found: dict[str, Any] = {"device": name, "commit": commit(), "machine": machine()}

    @property
    def seconds_left(self) -> float:
        return self._end - time.perf_counter()

    def note(self, section: str, what: str, value: object) -> None:
        """Print a figure, and write all figures so far."""
        show(section, {what: value})
        self.found.setdefault(section, {})[what] = value
        self._path.write_text(json.dumps(self.found, indent=1, default=str) + "\n")

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, update: Update, least: float = 0.3) -> float:
        """Seconds per call, of many that are waited for together."""
        for _ in range(2 if self.dry else 8):
            update()
        self.wait()
        calls, begun = 0, time.perf_counter()
        while calls < 3 or time.perf_counter() - begun < (0 if self.dry else least):
            update()
            calls += 1
            if calls % 16 == 0:
                self.wait()
        self.wait()
        return (time.perf_counter() - begun) / calls

    def trained(self) -> Path:
        """A model of 1x512, trained for some seconds."""
        if not self.model.exists():
            length: dict[str, Any] = {"steps": 5, "batch_size": 4} if self.dry else {"steps": 2000}
            train(
                corpus(),
                out=self.model,
                device=self.device.type,
                hidden_size=16 if self.dry else UNITS,
                baseline=False,
                **length,
            )
        return self.model


def corpus() -> Path:
    known = Path(os.environ.get("TEXTGEN_CORPORA", "."), SHAKESPEARE)
    return known if known.is_file() else ROOT / "corpora" / "stories.txt"


def facts(visit: Visit) -> None:
    """The device, and how long it takes from nothing to the first update."""
    begun = time.perf_counter()
    _state(visit, 16).update(1e-3)
    visit.wait()
    visit.note("facts", "first update, all start-up included, s", time.perf_counter() - begun)
    if visit.device.type == "cuda":
        visit.note("facts", "cuDNN", torch.backends.cudnn.version())
        properties = torch.cuda.get_device_properties(visit.device)
        visit.note("facts", "memory, MB", properties.total_memory // 2**20)


def tests(visit: Visit) -> None:
    """The tests that need a GPU; a dry run only collects them."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "--no-header", str(ROOT / "tests")]
    command += ["--collect-only"] if visit.dry else []
    timeout = max(1.0, visit.seconds_left if visit.dry else min(150.0, visit.seconds_left))
    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=timeout, check=False
    )
    lines = finished.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    visit.note("tests", "exit code", finished.returncode)
    visit.note("tests", "summary", lines[-1] if lines else finished.stderr[-200:])
    if failed:
        visit.note("tests", "failed", failed)


def _ids() -> Any:
    text = corpus().read_text(encoding="utf-8")
    symbols = {symbol: id for id, symbol in enumerate(sorted(set(text) - {"\n"}), start=2)}
    symbols["\n"] = EOS
    return np.array([symbols[symbol] for symbol in text], np.uint16)


def _state(visit: Visit, batch: int, *, graphed: bool = True, dropout: float = 0.1) -> Any:
    """The training state of 1x512 in the precision that is chosen for the device."""
    ids = _ids()
    sizes = (16,) if visit.dry else (UNITS,)
    config = LSTMConfig(hidden_size=sizes).resolved(int(ids.max()) + 1)
    training = TrainingConfig(steps=1, batch_size=batch, dropout=dropout)
    model = build(config)
    model.initialize(torch.Generator().manual_seed(0))
    streams = Streams(
        ids,
        batch_size=batch,
        sequence_length=training.sequence_length,
        run_windows=training.run_windows,
        unknown_rate=0.0,
        seed=0,
    )
    precision = choose_precision("auto", visit.device, config)
    make = gradient_state if graphed else GradientState
    return make(model.to(visit.device), streams, training, precision)


def graph(visit: Visit) -> None:
    """Whether recorded updates give the weights of updates that are not, and twice the same."""
    weights, losses = [], []
    for graphed in (True, True, False):
        state = _state(visit, 16, graphed=graphed, dropout=0.3)
        for _ in range(6 if visit.dry else 100):
            state.update(2e-3)
        losses.append(state.take_mean_loss())
        weights.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
    apart = [float((weights[0] - other).abs().max()) for other in weights[1:]]
    visit.note("graph", "largest difference of weights between two runs", apart[0])
    visit.note("graph", "largest difference of weights from eager updates", apart[1])
    visit.note("graph", "mean loss: recorded, recorded again, eager", losses)


def speed(visit: Visit) -> None:
    """An update of textgen against a bare loop of the same shape, recorded as a graph, in turns."""
    for batch in (4,) if visit.dry else (128, 16):
        state, bare = _state(visit, batch), _bare_update(visit, batch)
        ways: dict[str, Update] = {"ours": lambda s=state: s.update(1e-3), "bare": bare}
        if not visit.dry:
            eager = _state(visit, batch, graphed=False)
            ways["eager"] = lambda s=eager: s.update(1e-3)
        rounds = [
            {name: visit.seconds(way) for name, way in ways.items()}
            for _ in range(1 if visit.dry else 5)
        ]
        ratio = statistics.median(each["bare"] / each["ours"] for each in rounds)
        visit.note("speed", f"batch {batch}: share of a captured bare loop", ratio)
        for name in ways:
            tokens = batch * WINDOW / statistics.median(each[name] for each in rounds)
            visit.note("speed", f"batch {batch}: tokens per second, {name}", tokens)


def _bare_update(visit: Visit, batch: int) -> Update:
    """The loop that people write by hand, with everything on the device, as one CUDA graph."""
    device, units = visit.device, 16 if visit.dry else UNITS
    ids = torch.from_numpy(_ids().astype(np.int64)).to(device)
    vocabulary = int(ids.max()) + 1
    embedding = torch.nn.Embedding(vocabulary, EMBEDDING).to(device)
    lstm = torch.nn.LSTM(EMBEDDING, units).to(device)
    output = torch.nn.Linear(units, vocabulary).to(device)
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    precision = choose_precision("auto", device, LSTMConfig())
    capturable = device.type == "cuda"
    rate = torch.tensor(1e-3, device=device) if capturable else 1e-3
    optimizer = torch.optim.AdamW(parameters, lr=rate, fused=True, capturable=capturable)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    places = torch.randint(len(ids) - WINDOW - 1, (batch,), device=device)
    steps = torch.arange(WINDOW + 1, device=device).unsqueeze(1)
    dtype = torch.float16 if precision == "fp16" else torch.float32
    state = [torch.zeros(1, batch, units, dtype=dtype, device=device) for _ in range(2)]

    def update() -> None:
        window = ids[places + steps]
        with autocast(device, precision):
            embedded = functional.dropout(embedding(window[:-1]), 0.1)
            hidden, after = lstm(embedded, tuple(each.to(embedded) for each in state))
            logits = output(functional.dropout(hidden, 0.1))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), window[1:].flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            places.add_(WINDOW).remainder_(len(ids) - WINDOW - 1)
            for memory, value in zip(state, after, strict=True):
                memory.copy_(value.detach())

    if not capturable:
        return update
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        update()
    return captured.replay


def sampling(visit: Visit) -> None:
    """Tokens per second of one text and of 64, by the device and by the CPU."""
    for device in dict.fromkeys((visit.device.type, "cpu")):
        model = LanguageModel.load(visit.trained(), device=device)
        for count, length in ((1, 2000), (64, 300)):
            length = 30 if visit.dry else length
            model.sample(length=length, count=count, seed=1)
            begun = time.perf_counter()
            model.sample(length=length, count=count, seed=2)
            figure = count * length / (time.perf_counter() - begun)
            visit.note("sampling", f"{device}, side by side {count}: tokens per second", figure)


def reading(visit: Visit) -> None:
    """Scores on the device: as those of the CPU, how fast, and how much is read again."""
    text = corpus().read_text(encoding="utf-8")
    model = LanguageModel.load(visit.trained(), device=visit.device.type)
    ids = model.tokenizer.encode(text[: 5_000 if visit.dry else 1_000_000])
    few = ids[: len(ids) // 20]
    on_cpu = Document(LanguageModel.load(visit.model, device="cpu").model, EOS).read(few)
    apart = np.abs(Document(model.model, EOS).read(few) - on_cpu).max()
    visit.note("reading", "largest difference from the CPU, nats per token", float(apart))
    windows, read_window = [0], Document.read_window

    def counted(self: Document, *arguments: Any) -> Any:
        windows[0] += 1
        return read_window(self, *arguments)

    Document.read_window = counted  # type: ignore[method-assign]
    begun = time.perf_counter()
    Document(model.model, EOS).read(ids)
    Document.read_window = read_window  # type: ignore[method-assign]
    visit.note("reading", "validation, tokens per second", len(ids) / (time.perf_counter() - begun))
    segments = Document(model.model, EOS).segments
    once = -(-len(ids) // (WINDOW * segments))
    visit.note("reading", "windows read, of one pass", (windows[0], once))
    lines = [line for line in text.split("\n") if line][: 50 if visit.dry else 20_000]
    tokens = sum(len(model.tokenizer.encode(line)) + 1 for line in lines)
    model.score(lines[:100])
    begun = time.perf_counter()
    model.score(lines)
    visit.note("reading", "scoring, tokens per second", tokens / (time.perf_counter() - begun))


def target(visit: Visit) -> None:
    """The shortest of some budgets in which the defaults reach the loss that is asked for."""
    for budget in (1,) if visit.dry else TARGET_BUDGETS:
        loss = _budgeted(visit, "target", budget)
        if loss <= TARGET_LOSS:
            visit.note("target", f"seconds to {TARGET_LOSS} nats per token", budget)
            return
    visit.note("target", f"seconds to {TARGET_LOSS} nats per token", "none of these budgets")


def best(visit: Visit) -> None:
    """The loss of the defaults after five minutes."""
    _budgeted(visit, "best", 1 if visit.dry else BEST_BUDGET)


def _budgeted(visit: Visit, section: str, budget: float) -> float:
    small: dict[str, Any] = {"hidden_size": 16, "batch_size": 4} if visit.dry else {}
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            corpus(),
            out=Path(folder) / "run",
            budget=budget,
            device=visit.device.type,
            baseline=False,
            **small,
        )
        header = LanguageModel.load(Path(folder) / "run", device="cpu").header
    assert result.validation is not None
    key = f"{budget} s of {corpus().name}"
    visit.note(section, f"{key}: loss, nats per token", result.validation.loss)
    visit.note(section, f"{key}: tokens per second", result.tokens_per_second)
    visit.note(section, f"{key}: model", header.model.description)
    chosen = {name: getattr(header.training, name) for name in ("batch_size", "learning_rate")}
    visit.note(section, f"{key}: options", chosen | {"precision": header.machine.precision})
    return result.validation.loss


SECTIONS = {
    section.__name__: section
    for section in (facts, graph, speed, sampling, reading, tests, target, best)
}
_NEEDED = {"best": BEST_BUDGET + 15.0, "target": sum(TARGET_BUDGETS) + 15.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="on the CPU, in small")
    parser.add_argument("--seconds", type=float, default=570.0, help="when to stop")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS))
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing was measured; --dry tries this script on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or (Path(folder) if arguments.dry else RESULTS)
        visit = Visit(dry=arguments.dry, seconds=arguments.seconds, out=out, folder=Path(folder))
        for name in sorted(arguments.only, key=list(SECTIONS).index):
            needed = _AT_LEAST if visit.dry else _NEEDED.get(name, _AT_LEAST)
            if visit.seconds_left < needed:
                visit.note("left out", name, f"{visit.seconds_left:.0f} s were left")
                continue
            begun = time.perf_counter()
            try:
                SECTIONS[name](visit)
            except Exception as error:  # the other sections are worth having
                visit.note("failed", name, f"{type(error).__name__}: {str(error)[:300]}")
                traceback.print_exc(limit=-6)
            visit.note("seconds", name, round(time.perf_counter() - begun, 1))
        if "failed" in visit.found:
            sys.exit("a section failed")


if __name__ == "__main__":
    main()
