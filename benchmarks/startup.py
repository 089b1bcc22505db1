"""How long commands take to their first line, to the first training step, and to their end.

    python benchmarks/startup.py [--rounds 5]

Processor seconds, of user and system, say more than wall-clock seconds on a machine that is shared.
The commands take turns; each figure is the least of all rounds. Rows go to startup.json. A command
of which only the first output counts is killed once that has been written.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shared import ROOT, Rows, machine, real_text, show
from shared import SHAKESPEARE as CORPUS

COMMAND = (sys.executable, "-m", "textgen")
FIRST_UPDATE = "step 1 "


def measured(command: Sequence[str], until: str | None = None) -> tuple[float, float]:
    """Processor and wall-clock seconds of a command, or until it writes a line that begins so."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL if until is not None else subprocess.PIPE,
        stderr=subprocess.PIPE if until is not None else subprocess.DEVNULL,
    )
    output = process.stderr if until is not None else process.stdout
    assert output is not None
    found = False
    for line in output:
        if until is not None and line.startswith(until.encode()):
            found = True
            break
    seconds = time.perf_counter() - begun
    if found:
        process.kill()
    output.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
    assert found or (until is None and status == 0), (command, status)
    return usage.ru_utime + usage.ru_stime, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    corpus = str(real_text(CORPUS))
    with tempfile.TemporaryDirectory() as folder:
        trained, new = str(Path(folder, "trained")), str(Path(folder, "new"))
        train = (*COMMAND, "train", corpus, "--overwrite", "--out")
        measured((*train, trained, "--steps", "1", "--hidden-size", "64"))
        ways: dict[str, tuple[tuple[str, ...], str | None]] = {
            "import torch": ((sys.executable, "-c", "import torch"), None),
            "--help": ((*COMMAND, "--help"), None),
            "train, first line": ((*train, new, "--steps", "100"), "reading "),
            "train --steps, first step": ((*train, new, "--steps", "100"), FIRST_UPDATE),
            "train --budget, first step": ((*train, new, "--budget", "90s"), FIRST_UPDATE),
            "sample 40 characters": ((*COMMAND, "sample", trained, "--length", "40"), None),
            "score a sentence": ((*COMMAND, "score", trained, "--text", "To be or not."), None),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        loads = []
        for _ in range(rounds):
            for name, way in ways.items():
                loads.append(os.getloadavg()[0])
                found[name].append(measured(*way))
                processor, wall = found[name][-1]
                show(name, {"processor seconds": processor, "wall seconds": wall})
    rows = Rows("startup.json")
    for name, each in found.items():
        processor, wall = (min(column) for column in zip(*each, strict=True))
        load = {"least_load_average": min(loads), "greatest_load_average": max(loads)}
        figures = {"processor_seconds": round(processor, 3), "wall_seconds": round(wall, 3)}
        rows.put({"command": name}, {**figures, "rounds": rounds, **load, "machine": machine()})


if __name__ == "__main__":
    main()
