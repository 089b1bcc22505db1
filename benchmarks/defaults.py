"""What a default gains: training with all defaults, and with one of them turned off, in turns.

    python benchmarks/defaults.py [--only NAME ...] [--seeds 3]

Each seed of a study runs both for the same time, the order alternating, so that both run under the
same load. The figure is the loss of the whole validation part in document context. Rows go to
``results/defaults.json`` one by one; a row that is there is not run again. The corpora are in the
folder that TEXTGEN_CORPORA names.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared import SHAKESPEARE, TEXTGEN, TOLSTOY, Rows, machine, real_text, run, show

from textgen import checkpoint

SAVED = Rows("defaults.json")


@dataclass(frozen=True)
class Study:
    """off: the options that turn the default off."""

    corpus: str
    budget: str
    off: tuple[str, ...]
    options: tuple[str, ...] = ()


_WORDS, _SUBWORDS = ("--level", "word"), ("--level", "subword", "--vocab-size", "4000")
_SAMPLED, _NGRAMS = ("--candidates", "0"), ("--ngram-embeddings", "0")
STUDIES = {
    "characters 30s": Study(SHAKESPEARE, "30s", _NGRAMS),
    "characters 90s": Study(SHAKESPEARE, "90s", _NGRAMS),
    "characters 300s": Study(SHAKESPEARE, "300s", _NGRAMS),
    "mixture 90s": Study(SHAKESPEARE, "90s", _NGRAMS, ("--model", "lstm+ngram")),
    "words 300s": Study(TOLSTOY, "300s", _SAMPLED, _WORDS),
    "words 600s": Study(TOLSTOY, "600s", _SAMPLED, _WORDS),
    "subwords 300s": Study(TOLSTOY, "300s", _SAMPLED, _SUBWORDS),
    "subwords 600s": Study(TOLSTOY, "600s", _SAMPLED, _SUBWORDS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.only:
        for seed in range(1, arguments.seeds + 1):
            ways = [True, False] if seed % 2 else [False, True]
            for default in ways:
                key = {"study": name, "default": default, "seed": seed, "machine": machine()}
                if not SAVED.has(key):
                    SAVED.put(key, train(STUDIES[name], seed, default=default))
        rows = [row for row in SAVED.all() if row["study"] == name]
        for default in (True, False):
            some = [row for row in rows if row["default"] is default]
            figures = {
                key: statistics.mean(row[key] for row in some)
                for key in ("loss", "perplexity", "steps", "tokens_per_second", "peak_mb")
            }
            show(f"{name}, {'default' if default else 'off'}", {"seeds": len(some)} | figures)


def train(study: Study, seed: int, *, default: bool) -> dict[str, float]:
    """Loss in nats per token, and how it was reached."""
    options = study.options if default else (*study.options, *study.off)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        length = ("--budget", study.budget, "--seed", seed)
        process = run(
            TEXTGEN, "train", real_text(study.corpus), "--out", out, *length, *options, discard=True
        )
        best = checkpoint.describe(out).header
    assert best.validation is not None
    return {
        "loss": best.validation.loss,
        "perplexity": best.validation.perplexity,
        "steps": best.step,
        "tokens_per_second": best.tokens_per_second,
        "peak_mb": process.peak,
    }


if __name__ == "__main__":
    main()
