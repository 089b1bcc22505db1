"""What learning from the text that is scored gains, and what it costs (``textgen score --adapt``).

    python benchmarks/adapting.py [--models FOLDER] [--budget 4m]

A model of characters and one of words, all else at its defaults, learn from the first half of War
and Peace, and then score the first 400,000 characters of the second half, and 100,000 of Tiny
Shakespeare. ``static`` and ``adapted`` are the loss in nats a token, in document context. The cost
is the seconds of the adapted pass over those of the static one, the mean of a pass before and one
after. Models that are in the folder already are not trained again.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from shared import TEXTGEN, Rows, machine, real_text

from textgen import LanguageModel
from textgen.batching import IdArray
from textgen.config import AdaptationConfig
from textgen.metrics import bits_per_character
from textgen.models.likelihood import LogProbs
from textgen.scoring.reading import DocumentReader, Reader
from textgen.studies.adaptation import AdaptingReader
from textgen.tokenizers.base import EOS

KEPT = Rows("adapting.json")
LEVELS = ("char", "word")
CHARACTERS, OF_ANOTHER_KIND = 400_000, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path)
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--levels", nargs="*", default=LEVELS)
    arguments = parser.parse_args()
    first, later = halves(real_text("war_and_peace_90.txt"))
    shakespeare = real_text("tinyshakespeare.txt").read_text(encoding="utf-8").splitlines()
    texts = {"later half": later, "tinyshakespeare": list(up_to(OF_ANOTHER_KIND, shakespeare))}
    with tempfile.TemporaryDirectory() as folder:
        for level in arguments.levels:
            out = (arguments.models or Path(folder)) / level
            model = trained(out, level, arguments.budget, first, Path(folder, "first.txt"))
            for name, lines in texts.items():
                key = {"level": level, "budget": arguments.budget, "text": name}
                figures = compare(model, lines)
                KEPT.put(key, {"machine": machine(), **figures})
                print(*key.values(), figures, flush=True)


def halves(path: Path) -> tuple[list[str], list[str]]:
    """The lines of the first half of a text, and what is scored of the second."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    first = len(list(up_to(sum(len(line) + 1 for line in lines) // 2, lines))) + 1
    return lines[:first], list(up_to(CHARACTERS, lines[first:]))


def up_to(characters: int, lines: list[str]) -> Iterator[str]:
    """The first lines, of no more than so many characters."""
    for line in lines:
        characters -= len(line) + 1
        if characters < 0:
            return
        yield line


def trained(out: Path, level: str, budget: str, lines: list[str], corpus: Path) -> LanguageModel:
    if not out.exists():
        corpus.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        command = [TEXTGEN, "train", corpus, "--out", out, "--level", level, "--budget", budget]
        subprocess.run(list(map(str, command)), check=True)
    return LanguageModel.load(out)


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
        figures[f"{name}, bits a character"] = round(bits, 4)
    seconds = {"before": before, "adapted": adapting, "after": after}
    return {
        **figures,
        "times the cost of static": round(2 * adapting / (before + after), 2),
        "seconds": {name: round(each, 1) for name, each in seconds.items()},
    }


def timed(reader: Reader, ids: list[IdArray]) -> tuple[LogProbs, float]:
    """ln p of all tokens, and the seconds that it took."""
    begun = time.perf_counter()
    read = np.concatenate([*reader.read(ids), *reader.finish()])
    return read[:, 0], time.perf_counter() - begun


if __name__ == "__main__":
    main()
