"""Why the gates are there, in pictures: ``results/memory.png`` and ``results/gradient.png``.

    python benchmarks/pictures.py [FOLDER]

Trains an LSTM and a plain recurrent network of 256 units on the words of the bundled stories,
3,000 updates each, and draws what ``textgen plot memory`` and ``plot gradient`` find. The
checkpoints stay in FOLDER (``checkpoints/pictures``); those that are there are not trained again.
"""

import subprocess
import sys
from pathlib import Path

from shared import RESULTS, TEXTGEN

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("lstm", "rnn")
OPTIONS = ["--level", "word", "--hidden-size", "256", "--steps", "3000"]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "checkpoints" / "pictures"
    runs = [folder / kind for kind in KINDS]
    for kind, run in zip(KINDS, runs, strict=True):
        if not (run / "best").exists():
            textgen("train", "--model", kind, "--out", run, "--overwrite", *OPTIONS)
    for what in ("memory", "gradient"):
        textgen("plot", what, *runs, "--out", RESULTS / f"{what}.png")
        numbers = subprocess.check_output([TEXTGEN, "plot", what, *runs, "--format", "tsv"])
        (RESULTS / f"{what}.tsv").write_bytes(numbers)


def textgen(*arguments: object) -> None:
    subprocess.run([str(TEXTGEN), *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
