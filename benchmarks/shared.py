"""What the benchmarks share: machine and commit, corpora, timing, and result rows in JSON files."""

import codecs
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TEXTGEN = Path(sys.executable).with_name("textgen")
SHAKESPEARE, TOLSTOY = "tinyshakespeare.txt", "war_and_peace_90.txt"

ROUNDS, SECONDS = 9, 0.4
"""Rounds of a comparison, and roughly how long each alternative runs in each."""

Call = Callable[[], object]


def machine() -> dict[str, str]:
    """The machine and versions that figures were measured with."""
    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit(tree: Path = ROOT) -> str:
    """The commit that figures were measured at."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def real_text(name: str) -> Path:
    """A corpus that is not part of the project; exits if TEXTGEN_CORPORA does not have it."""
    path = Path(os.environ.get("TEXTGEN_CORPORA", "."), name)
    if not path.is_file():
        sys.exit(f"no {name}: set TEXTGEN_CORPORA to the folder that has it")
    return path


def repeated(path: Path, to: Path, size: int) -> Path:
    """Write a file of about ``size`` bytes by repeating a text."""
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    with to.open("wb") as stream:
        for _ in range(-(-size // len(text))):
            stream.write(text)
    return to


@dataclass(frozen=True)
class Process:
    """A finished process. seconds: wall-clock time; peak: resident memory in MB."""

    stdout: str
    seconds: float
    peak: float

    def objects(self) -> list[Any]:
        """Its output, one JSON object per line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def run(*command: object, discard: bool = False, tree: Path | None = None) -> Process:
    """Run a command that must succeed, and measure it. Its stderr is discarded.

    Args:
        discard: discard its stdout too, without reading it.
        tree: a source tree whose package it and its children import.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=tree,
        env=None if tree is None else os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL if discard else subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    stdout = b"" if process.stdout is None else process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (command, status)
    unit = 2**10 if sys.platform == "linux" else 2**20  # ru_maxrss is in KB on Linux, else in bytes
    return Process(stdout.decode(), time.perf_counter() - begun, usage.ru_maxrss / unit)


def textgen(*arguments: object) -> list[Any]:
    """The JSON objects that a textgen command prints."""
    return run(TEXTGEN, *arguments, "--format", "json").objects()


def train_on_lines(out: Path, lines: list[str], *options: object) -> Path:
    """Train a model on these lines with the command, unless ``out`` exists."""
    if not out.exists():
        corpus = out.with_suffix(".txt")
        corpus.parent.mkdir(parents=True, exist_ok=True)
        corpus.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        run(TEXTGEN, "train", corpus, "--out", out, *options)
        corpus.unlink()
    return out


def seconds(call: Call, times: int = 1) -> float:
    """Seconds per call."""
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times


def by_turns(ways: Mapping[str, Call]) -> list[dict[str, float]]:
    """Seconds per call of each alternative, in rounds in which all of them run."""
    for way in ways.values():
        seconds(way, 5)
    repeat = {name: max(1, int(SECONDS / seconds(way, 5))) for name, way in ways.items()}
    return [{name: seconds(way, repeat[name]) for name, way in ways.items()} for _ in range(ROUNDS)]


def median(rounds: list[dict[str, float]], name: str) -> float:
    """Median over rounds."""
    return statistics.median(each[name] for each in rounds)


def median_ratio(rounds: list[dict[str, float]], one: str, other: str) -> float:
    """Median over rounds of one divided by the other."""
    return statistics.median(each[one] / each[other] for each in rounds)


def show(label: str, figures: Mapping[str, object]) -> None:
    """Print figures, one per line."""
    for name, value in figures.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
        print(f"{label:<24} {name:<52} {shown:>14}", flush=True)


class Rows:
    """Result rows in a JSON file of RESULTS, written one by one so that a long study can resume."""

    def __init__(self, name: str) -> None:
        self._path = RESULTS / name

    def all(self) -> list[dict[str, Any]]:
        return json.loads(self._path.read_text()) if self._path.exists() else []

    def has(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= row.items() for row in self.all())

    def add(self, row: dict[str, Any]) -> None:
        """Append a row, with the commit. The file is read again: another process may write too."""
        self._write([*self.all(), row | {"commit": commit()}])

    def put(self, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Replace the rows with this key by one row."""
        others = [row for row in self.all() if not key.items() <= row.items()]
        self._write([*others, {**key, **values, "commit": commit()}])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._path.write_text(json.dumps(rows, indent=1) + "\n")
