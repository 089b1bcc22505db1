"""What datatrove costs: ``score --executor local`` against ``score --jobs``; in under four minutes.

    python benchmarks/cluster.py [--rounds N] [--characters N]

In an environment with the extra ``cluster``. Both commands score the lines of the bundled stories,
each a document, with an LSTM of 512 units and one thread per worker, in turn; seconds are of whole
commands, start included. cpu_seconds are those of all processes of a command, which other programs
on the machine change less than wall-clock seconds; ratios are medians over the rounds. The overhead
per document is measured in one process: reading and writing rows with a step that does nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import RESULTS, ROOT, commit, machine, show

STORIES = ROOT / "corpora" / "stories.txt"
FILES = 8
SIZES = ["--hidden-size", "512", "--embedding-size", "128", "--ngram-embeddings", "0"]
TRAIN = ["--steps", "1", "--batch-size", "2", "--sequence-length", "8", "--device", "cpu"]
HOURLY_DOLLARS = 0.04
"""An assumption: the price of a CPU core for an hour, for the arithmetic of a large run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=180_000)
    arguments = parser.parse_args()
    text = STORIES.read_text(encoding="utf-8")[: arguments.characters]
    lines = text.splitlines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lines.txt").write_text(text, encoding="utf-8")
        (folder / "documents").mkdir()
        for number in range(FILES):
            rows = "".join(json.dumps({"text": line}) + "\n" for line in lines[number::FILES])
            (folder / "documents" / f"{number}.jsonl").write_text(rows, encoding="utf-8")
        textgen("train", STORIES, "--out", folder / "run", *SIZES, *TRAIN)
        rounds = [commands(folder) for _ in range(arguments.rounds)]
        overhead = statistics.median(microseconds(folder, len(lines)) for _ in range(5))
    tokens = len(text)  # characters, and the newline of each line as its <EOS>
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/cluster.py", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "documents": len(lines),
        "tokens": tokens,
        "rounds": rounds,
        "overhead_microseconds_per_document": round(overhead, 1),
    }
    for workers in (1, 2):
        ours, theirs = f"jobs {workers}", f"tasks {workers}"
        for figure in ("seconds", "cpu_seconds"):
            ratios = [each[theirs][figure] / each[ours][figure] for each in rounds]
            report[f"{figure}_ratio_{workers}"] = round(statistics.median(ratios), 3)
        least = min(each[theirs]["seconds"] for each in rounds)
        report[f"tokens_per_second_{workers}"] = round(tokens / least)
    least = min(each["tasks 1"]["cpu_seconds"] for each in rounds)
    report["tokens_per_cpu_second"] = round(tokens / least)
    core_hours = 100e9 / report["tokens_per_cpu_second"] / 3600
    report["core_hours_of_100_billion_tokens"] = round(core_hours)
    report["dollars_of_100_billion_tokens"] = round(core_hours * HOURLY_DOLLARS)
    (RESULTS / "cluster.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    shown = {name: value for name, value in report.items() if not isinstance(value, list | dict)}
    show("datatrove", shown)


def textgen(*arguments: object) -> dict[str, float]:
    """Run a command, and measure it with all its processes."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "textgen", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (command, status)
    elapsed = time.perf_counter() - begun
    return {"seconds": round(elapsed, 2), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2)}


def commands(folder: Path) -> dict[str, dict[str, float]]:
    """Both commands with one worker and with two."""
    measured = {}
    for workers in (1, 2):
        given = ["score", folder / "run", folder / "lines.txt", "--format", "json"]
        threads = ["--jobs", workers, "--threads", workers]  # divided among the jobs
        measured[f"jobs {workers}"] = textgen(*given, *threads)
        out = Path(tempfile.mkdtemp(dir=folder), "out")
        given = ["score", folder / "run", folder / "documents", "--executor", "local"]
        # One task is one worker; FILES tasks are as many as there are cores.
        tasks = ["--tasks", 1 if workers == 1 else FILES]
        measured[f"tasks {workers}"] = textgen(*given, *tasks, "--out", out)
    return measured


def microseconds(folder: Path, documents: int) -> float:
    """Of reading and writing a document with datatrove between, without scoring it."""
    from datatrove.io import get_datafolder

    from textgen.integrations.documents import DocumentFiles, DocumentWriter, find_documents

    def zeros(data: Iterator[Any]) -> Iterator[Any]:
        for document in data:
            document.metadata["log_prob"] = 0.0
            yield document

    sources, out = find_documents([str(folder / "documents")]), tempfile.mkdtemp(dir=folder)
    begun = time.process_time()
    read = DocumentFiles(sources, "text", ["log_prob"]).run()
    written = DocumentWriter(get_datafolder(out), ["log_prob"]).run(zeros(read))
    assert sum(1 for _ in written) == documents
    return (time.process_time() - begun) / documents * 1e6


if __name__ == "__main__":
    main()
