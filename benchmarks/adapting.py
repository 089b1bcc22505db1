"""The gain and the cost of dynamic evaluation (``textgen score --adapt``).

    python benchmarks/adapting.py [--models FOLDER] [--budget 4m]

A character model and a word model with defaults are trained on the first half of War and Peace and
score the first 400,000 characters of the second half, and 100,000 of Tiny Shakespeare. ``static``
and ``adapted`` are the loss in nats per token, in document context. The cost is the time of the
adapted pass relative to the static one (the mean of a pass before and one after). Models that are
in the folder already are not trained again.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from shared import SHAKESPEARE, TOLSTOY, Rows, machine, real_text, seconds, show, train_on_lines

from textgen import LanguageModel
from textgen.config import AdaptationConfig
from textgen.data.batching import IdArray
from textgen.inference.likelihood import LogProbs
from textgen.metrics import bits_per_character
from textgen.scoring.adaptation import AdaptingReader
from textgen.scoring.scorer import DocumentReader, Reader
from textgen.tokenizers.base import EOS

SAVED = Rows("adapting.json")
LEVELS = ("char", "word")
SCORED, SCORED_OF_SHAKESPEARE = 400_000, 100_000  # characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path)
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--levels", nargs="*", default=LEVELS)
    arguments = parser.parse_args()
    first, second = halves(real_text(TOLSTOY))
    shakespeare = real_text(SHAKESPEARE).read_text(encoding="utf-8").splitlines()
    texts = {"later half": second, "tinyshakespeare": shakespeare}
    sizes = {"later half": SCORED, "tinyshakespeare": SCORED_OF_SHAKESPEARE}
    with tempfile.TemporaryDirectory() as folder:
        for level in arguments.levels:
            out = (arguments.models or Path(folder)) / level
            options = ("--level", level, "--budget", arguments.budget)
            model = LanguageModel.load(train_on_lines(out, first, *options))
            for name, lines in texts.items():
                key = {"level": level, "budget": arguments.budget, "text": name}
                figures = compare(model, list(up_to(sizes[name], lines)))
                SAVED.put(key, {"machine": machine(), **figures})
                show(f"{level}, {name}", figures)


def halves(path: Path) -> tuple[list[str], list[str]]:
    """The lines of both halves of a text."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    first = len(list(up_to(sum(len(line) + 1 for line in lines) // 2, lines))) + 1
    return lines[:first], lines[first:]


def up_to(characters: int, lines: list[str]) -> Iterator[str]:
    """The first lines with at most ``characters`` characters in total."""
    for line in lines:
        characters -= len(line) + 1
        if characters < 0:
            return
        yield line


def compare(model: LanguageModel, lines: list[str]) -> dict[str, Any]:
    ids = [np.append(model.tokenizer.encode(line), np.uint32(EOS)) for line in lines]
    characters = sum(len(line) + 1 for line in lines)
    static, before = timed(DocumentReader(model.model), ids)
    adapted, adapting = timed(AdaptingReader(model.model), ids)
    _, after = timed(DocumentReader(model.model), ids)
    figures: dict[str, Any] = {"rate": AdaptationConfig.adapt_rate, "tokens": len(static)}
    for name, log_probs in (("static", static), ("adapted", adapted)):
        figures[name] = round(-float(log_probs.mean()), 4)
        bits = bits_per_character(float(log_probs.sum()), characters)
        figures[f"{name}, bits per character"] = round(bits, 4)
    taken = {"before": before, "adapted": adapting, "after": after}
    return {
        **figures,
        "times the cost of static": round(2 * adapting / (before + after), 2),
        "seconds": {name: round(each, 1) for name, each in taken.items()},
    }


def timed(reader: Reader, ids: list[IdArray]) -> tuple[LogProbs, float]:
    """ln p of all tokens, and the seconds it took."""
    read: list[LogProbs] = []
    taken = seconds(lambda: read.extend([*reader.read(ids), *reader.finish()]))
    return np.concatenate(read)[:, 0], taken


if __name__ == "__main__":
    main()
