"""What rounding the weights of trained models to bfloat16 changes, and how long measuring it takes.

    python benchmarks/rounding.py RUN [RUN ...] [--corpus FILE]

The runs are of this corpus, tinyshakespeare.txt of the folder that TEXTGEN_CORPORA names; its last
tenth is the held-out text. ``last`` of each is read, whose weights are in float32.
"""

import argparse
import time
from pathlib import Path

from shared import SHAKESPEARE, Rows, machine, real_text, show

from textgen import LanguageModel
from textgen.training.rounding import rounded
from textgen.training.trainer import validate

SAVED = Rows("rounding.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    corpus = arguments.corpus or real_text(SHAKESPEARE)
    text = corpus.read_text(encoding="utf-8")
    for run in arguments.runs:
        loaded = LanguageModel.load(run / "last", device="cpu")
        ids = loaded.tokenizer.continuation(text[-len(text) // 10 :]).ids
        figures = compare(loaded, ids)
        shape = f"{loaded.header.model.description}, {loaded.tokenizer.level}"
        key = {"model": shape, "steps": loaded.header.step, "corpus": corpus.name}
        SAVED.put(key | {"machine": machine()}, {"figures": figures})
        show(run.name, figures)


def compare(loaded: LanguageModel, ids: object) -> dict[str, float | None]:
    def seconds() -> float:
        return time.process_time()  # a shared machine has little influence on it

    begun = seconds()
    exact = validate(loaded.model, ids, characters=1).loss
    validating = seconds() - begun
    begun = seconds()
    with rounded(loaded.model, ids) as rounding:
        measuring = seconds() - begun
        loss = validate(loaded.model, ids, characters=1).loss
    return {
        "KL divergence, nats per token": None if rounding is None else rounding.divergence,
        "loss, nats per token": exact,
        "loss of the rounded weights minus that, nats per token": loss - exact,
        "processor time of measuring, share of a validation": measuring / validating,
    }


if __name__ == "__main__":
    main()
