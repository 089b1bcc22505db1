"""What the benchmarks share: the machine, the texts, and rows that are made once and kept."""

import codecs
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
TEXTGEN = Path(sys.executable).with_name("textgen")

# Rounds of a comparison, and about how long each way has its turn in each.
ROUNDS, SECONDS = 9, 0.4


def machine() -> dict[str, str]:
    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """What the figures are of."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def real_text(name: str) -> Path:
    """A corpus that is not of the project; without it the benchmark ends here."""
    path = Path(os.environ.get("TEXTGEN_CORPORA", "."), name)
    if not path.is_file():
        sys.exit(f"no {name}: set TEXTGEN_CORPORA to the folder that has it")
    return path


def repeated(path: Path, to: Path, size: int) -> Path:
    """A file of about ``size`` bytes: the text over and over."""
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    with to.open("wb") as stream:
        for _ in range(-(-size // len(text))):
            stream.write(text)
    return to


def by_turns(ways: dict[str, Callable[[], object]]) -> list[dict[str, float]]:
    """Seconds that a call of each takes, in rounds that have every way's turn."""
    repeat = {name: max(1, int(SECONDS / _one_call(way))) for name, way in ways.items()}
    return [
        {name: _seconds(way, repeat[name]) for name, way in ways.items()} for _ in range(ROUNDS)
    ]


def _one_call(way: Callable[[], object]) -> float:
    for _ in range(5):
        way()
    return _seconds(way, 5)


def _seconds(way: Callable[[], object], times: int) -> float:
    """Of one call."""
    begun = time.perf_counter()
    for _ in range(times):
        way()
    return (time.perf_counter() - begun) / times


class Rows:
    """Results in a JSON file of RESULTS, added one by one, so that a long study can go on."""

    def __init__(self, name: str) -> None:
        self._path = RESULTS / name

    def all(self) -> list[dict[str, Any]]:
        return json.loads(self._path.read_text()) if self._path.exists() else []

    def has(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= row.items() for row in self.all())

    def add(self, row: dict[str, Any]) -> None:
        """Read anew, for another process may add too; the row names the commit it is of."""
        self._write([*self.all(), row | {"commit": commit()}])

    def put(self, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Add a row in the place of those with this key."""
        others = [row for row in self.all() if not key.items() <= row.items()]
        self._write([*others, {**key, **values, "commit": commit()}])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._path.write_text(json.dumps(rows, indent=1) + "\n")
