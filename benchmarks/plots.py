"""The gates of an LSTM against a plain RNN: ``results/memory.png`` and ``results/gradient.png``.

    python benchmarks/plots.py [FOLDER]

Trains an LSTM and a plain recurrent network of 256 units on the words of the bundled stories,
3,000 updates each, and plots ``textgen plot memory`` and ``plot gradient``. The checkpoints stay
in FOLDER (``checkpoints/plots``); those that exist are not trained again.
"""

import subprocess
import sys
from pathlib import Path

from shared import RESULTS, TEXTGEN

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("lstm", "rnn")
OPTIONS = ["--level", "word", "--hidden-size", "256", "--steps", "3000"]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "checkpoints" / "plots"
    runs = [folder / kind for kind in KINDS]
    for kind, run in zip(KINDS, runs, strict=True):
        if not (run / "best").exists():
            textgen("train", "--model", kind, "--out", run, "--overwrite", *OPTIONS)
    for command in ("memory", "gradient"):
        textgen("plot", command, *runs, "--out", RESULTS / f"{command}.png")
        rows = subprocess.check_output([TEXTGEN, "plot", command, *runs, "--format", "tsv"])
        (RESULTS / f"{command}.tsv").write_bytes(rows)


def textgen(*arguments: object) -> None:
    subprocess.run([str(TEXTGEN), *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
