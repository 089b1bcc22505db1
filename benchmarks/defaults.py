"""What the defaults of this tree gain over those of an earlier one: training by both in turns.

    python benchmarks/defaults.py EARLIER [--only NAME ...] [--seeds 3]

EARLIER is a clone of an earlier commit. Each seed of a study trains with both for the same time,
the order alternating, so that both run under the same load. The figure is the loss of the whole
validation part in document context. Rows go to ``results/defaults.json`` one by one; a row that is
there for the same commits is not run again. The corpora are in the folder that TEXTGEN_CORPORA
names.
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import ROOT, SHAKESPEARE, TOLSTOY, Rows, commit, machine, real_text, run, show

SAVED = Rows("defaults.json")
FIGURES = ("loss", "perplexity", "steps", "tokens_per_second", "peak_mb")


@dataclass(frozen=True)
class Study:
    corpus: str
    budget: str
    options: tuple[str, ...] = ()


_WORDS, _SUBWORDS = ("--level", "word"), ("--level", "subword", "--vocab-size", "4000")
_MIXTURE = ("--model", "lstm+ngram")
STUDIES = {
    "characters 30s": Study(SHAKESPEARE, "30s"),
    "characters 90s": Study(SHAKESPEARE, "90s"),
    "characters 300s": Study(SHAKESPEARE, "300s"),
    "mixture 90s": Study(SHAKESPEARE, "90s", _MIXTURE),
    "mixture 300s": Study(SHAKESPEARE, "300s", _MIXTURE),
    "words 300s": Study(TOLSTOY, "300s", _WORDS),
    "words 600s": Study(TOLSTOY, "600s", _WORDS),
    "mixture, words 300s": Study(TOLSTOY, "300s", (*_WORDS, *_MIXTURE)),
    "subwords 300s": Study(TOLSTOY, "300s", _SUBWORDS),
    "subwords 600s": Study(TOLSTOY, "600s", _SUBWORDS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path, help="a clone of an earlier commit")
    parser.add_argument("--only", nargs="*", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    trees = {commit(tree): tree for tree in (arguments.earlier.resolve(), ROOT)}
    for name in arguments.only:
        for seed in range(1, arguments.seeds + 1):
            for tree in list(trees) if seed % 2 else list(reversed(trees)):
                key = {"study": name, "tree": tree, "seed": seed, "machine": machine()}
                if not SAVED.has(key):
                    SAVED.put(key, train(trees[tree], STUDIES[name], seed))
        for tree in trees:
            rows = [row for row in SAVED.all() if (row["study"], row["tree"]) == (name, tree)]
            means = {key: statistics.mean(row[key] for row in rows) for key in FIGURES}
            show(f"{name}, {tree}", {"seeds": len(rows)} | means)


def train(tree: Path, study: Study, seed: int) -> dict[str, Any]:
    """Loss in nats per token, and how it was reached."""
    command, corpus = (sys.executable, "-m", "textgen"), real_text(study.corpus).resolve()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        options = ("--out", out, "--budget", study.budget, "--seed", seed, *study.options)
        process = run(*command, "train", corpus, *options, discard=True, tree=tree)
        (found,) = run(*command, "info", out, "--format", "json", tree=tree).objects()
    validation, progress = found["validation"], found["config"]["progress"]
    return {
        "loss": validation["loss"],
        "perplexity": validation["perplexity"],
        "steps": progress["step"],
        "tokens_per_second": progress["tokens_per_second"],
        "peak_mb": process.peak,
        "hidden_size": found["config"]["model"]["hidden_size"],
    }


if __name__ == "__main__":
    main()
