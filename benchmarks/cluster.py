"""What datatrove costs: ``score --executor local`` against ``score --jobs``; in under four minutes.

    python benchmarks/cluster.py [--rounds N] [--characters N]

In an environment with the extra ``cluster``. Documents are the lines of the bundled stories, the
model is an LSTM of 512 units. In one process, with one thread: processor time of scoring all
documents, alone and between reading and writing, in turn; and of reading and writing them alone.
In processes: whole commands in turn, start included, with one thread per worker. cpu_seconds are
those of all processes of a command, which other programs on the machine change less than seconds of
the clock. Ratios are medians over the rounds; --rounds 0 leaves the commands out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from shared import RESULTS, ROOT, commit, machine, show

STORIES = ROOT / "corpora" / "stories.txt"
FILES, IN_PROCESS = 8, 3
Step = Callable[[Iterator[Any]], Iterator[Any]]
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
        textgen("train", folder / "lines.txt", "--out", folder / "run", *SIZES, *TRAIN)
        report = {
            "command": " ".join(["python benchmarks/cluster.py", *sys.argv[1:]]),
            "commit": commit(),
            "machine": machine(),
            "load_average": round(os.getloadavg()[0], 1),
            "documents": len(lines),
            "tokens": len(text),  # characters, and the newline of each line as its <EOS>
            **in_process(folder, lines),
            **in_processes([commands(folder) for _ in range(arguments.rounds)], len(text)),
        }
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


def in_processes(rounds: list[dict[str, dict[str, float]]], tokens: int) -> dict[str, Any]:
    """The ratios of the commands, and the best speed of each."""
    report: dict[str, Any] = {"rounds": rounds}
    for workers in (1, 2) if rounds else ():
        ours, theirs = f"jobs {workers}", f"tasks {workers}"
        for figure in ("seconds", "cpu_seconds"):
            ratios = [each[theirs][figure] / each[ours][figure] for each in rounds]
            report[f"{figure}_ratio_{workers}"] = round(statistics.median(ratios), 3)
        for name in (ours, theirs):
            least = min(each[name]["seconds"] for each in rounds)
            report[f"tokens_per_second_{name.replace(' ', '_')}"] = round(tokens / least)
    return report


def in_process(folder: Path, lines: list[str]) -> dict[str, Any]:
    """Processor time of scoring, alone and with what is around it."""
    from datatrove.io import get_datafolder

    from textgen import LanguageModel
    from textgen.integrations.datatrove import TextgenScorer
    from textgen.integrations.documents import DocumentFiles, DocumentWriter, find_documents

    sources = find_documents([str(folder / "documents")])
    scorer = TextgenScorer(folder / "run", device="cpu")
    model = LanguageModel.load(folder / "run", device="cpu", threads=1)
    in_files = [lines[number::FILES] for number in range(FILES)]

    def alone() -> None:
        for texts in in_files:
            model.score(texts)

    def through(step: Step, *columns: str) -> None:
        out = get_datafolder(tempfile.mkdtemp(dir=folder))
        read = DocumentFiles(sources, "text", columns).run()
        assert sum(1 for _ in DocumentWriter(out, columns).run(step(read))) == len(lines)

    def zeros(data: Iterator[Any]) -> Iterator[Any]:
        for document in data:
            document.metadata["zero"] = 0.0
            yield document

    measured = []
    for _ in range(1 + IN_PROCESS):
        ways = alone, partial(through, scorer.run, *scorer.columns), partial(through, zeros, "zero")
        measured.append([cpu_seconds(way) for way in ways])
    scoring, whole, around = zip(*measured[1:], strict=True)  # the first loads the model
    ratios = [one / other for one, other in zip(whole, scoring, strict=True)]
    return {
        "cpu_seconds_alone": [round(each, 3) for each in scoring],
        "cpu_seconds_in_pipeline": [round(each, 3) for each in whole],
        "pipeline_ratio": round(statistics.median(ratios), 3),
        "overhead_microseconds_per_document": round(min(around) / len(lines) * 1e6, 1),
        "tokens_per_cpu_second": round(sum(map(len, lines), len(lines)) / min(whole)),
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
