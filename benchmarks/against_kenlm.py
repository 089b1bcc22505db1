"""KenLM on the same text and the same tokens: scoring speed and perplexity.

    TEXTGEN_CORPORA=FOLDER python benchmarks/against_kenlm.py [--budget 4m] [--model CHECKPOINT]

Needs ``pip install 'textgen-lm[kenlm]'``. Trains on the first nine tenths of War and Peace and
scores the last. A word model is trained for the budget; its unknown words are unknown to KenLM too.
KenLM's estimator is not in its Python package, so the trigram model is estimated here: interpolated
Kneser-Ney (Kneser and Ney 1995) with one discount per order. ``results/kenlm.json`` has the last
figures.
"""

import argparse
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import kenlm
from shared import TOLSTOY, Rows, machine, real_text, show, train_on_lines

from textgen import LanguageModel
from textgen.tokenizers.base import UNK, Tokenizer

SAVED = Rows("kenlm.json")
ORDER = 3
START, END, UNKNOWN = "<s>", "</s>", "<unk>"
Ngram = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    lines = real_text(TOLSTOY).read_text(encoding="utf-8-sig").splitlines()
    seen, held_out = lines[: len(lines) * 9 // 10], lines[len(lines) * 9 // 10 :]
    with tempfile.TemporaryDirectory() as folder:
        options = ("--level", "word", "--budget", arguments.budget)
        out = arguments.model or train_on_lines(Path(folder, "model"), seen, *options)
        model = LanguageModel.load(out)
        figures = by_textgen(model, held_out) | by_kenlm(
            Path(folder, "model.arpa"),
            list(as_words(model.tokenizer, seen)),
            list(as_words(model.tokenizer, held_out)),
        )
    SAVED.put({"budget": arguments.budget, "machine": machine()}, figures)
    show("", figures)


def as_words(tokenizer: Tokenizer, lines: Iterable[str]) -> Iterator[list[str]]:
    """The tokens of each line, as words without spaces."""
    for line in lines:
        ids = tokenizer.encode(line).tolist()
        yield [UNKNOWN if id == UNK else tokenizer.token(id) for id in ids]


def by_textgen(model: LanguageModel, lines: list[str]) -> dict[str, float]:
    begun = time.perf_counter()
    scores = model.score(lines)
    seconds = time.perf_counter() - begun
    tokens = sum(score.tokens for score in scores)
    loss = -sum(score.log_prob for score in scores) / tokens
    carried = -sum(score.log_prob for score in model.score(lines, context="document")) / tokens
    return {
        "textgen, perplexity per token": math.exp(loss),
        "textgen, perplexity in document context": math.exp(carried),
        "textgen, tokens per second": tokens / seconds,
    }


def by_kenlm(path: Path, seen: list[list[str]], held_out: list[list[str]]) -> dict[str, float]:
    begun = time.perf_counter()
    write_arpa(path, seen)
    estimated = time.perf_counter()
    model = kenlm.Model(str(path))
    read = time.perf_counter()
    log10 = sum(model.score(" ".join(words)) for words in held_out)
    scored = time.perf_counter()
    tokens = sum(len(words) + 1 for words in held_out)
    return {
        f"KenLM, order {ORDER}, perplexity per token": 10 ** (-log10 / tokens),
        "KenLM, tokens per second": tokens / (scored - read),
        "estimating the trigram model here, s": estimated - begun,
        "loading it into KenLM, s": read - estimated,
    }


def write_arpa(path: Path, sentences: list[list[str]]) -> None:
    """Estimate n-grams up to ORDER and write them as an ARPA file."""
    counts = counted(sentences)
    probabilities: list[dict[Ngram, float]] = [{}]
    backoffs: list[dict[Ngram, float]] = []
    words = [gram[0] for gram in counts[0] if gram[0] != START]
    uniform = 1 / len({*words, UNKNOWN})
    for grams in counts:
        once = sum(count == 1 for count in grams.values())
        twice = sum(count == 2 for count in grams.values())
        discount = once / max(1, once + 2 * twice)
        totals, followers = Counter[Ngram](), Counter[Ngram]()
        for gram, count in grams.items():
            if gram != (START,):
                totals[gram[:-1]] += count
                followers[gram[:-1]] += 1
        backoff = {h: discount * followers[h] / totals[h] for h in totals}
        lower = probabilities[-1]
        probabilities.append(
            {
                gram: (count - discount) / totals[gram[:-1]]
                + backoff[gram[:-1]] * (lower[gram[1:]] if lower else uniform)
                for gram, count in grams.items()
                if gram != (START,)
            }
        )
        backoffs.append(backoff)
    probabilities[1][UNKNOWN,] = probabilities[1].get((UNKNOWN,), backoffs[0][()] * uniform)
    probabilities[1][START,] = 1e-99
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={len(probabilities[n])}\n" for n in range(1, ORDER + 1))
        for n in range(1, ORDER + 1):
            file.write(f"\n\\{n}-grams:\n")
            for gram, p in probabilities[n].items():
                after = backoffs[n].get(gram, 1.0) if n < ORDER else None
                more = "" if after is None else f"\t{math.log10(after):.7f}"
                file.write(f"{math.log10(p):.7f}\t{' '.join(gram)}{more}\n")
        file.write("\n\\end\\\n")


def counted(sentences: list[list[str]]) -> list[Counter[Ngram]]:
    """Counts of the longest n-grams; of shorter ones continuation counts, except at the start of a
    sentence, where there is nothing before them to count."""
    raw = [Counter[Ngram]() for _ in range(ORDER)]
    for words in sentences:
        whole = [START, *words, END]
        for n in range(1, ORDER + 1):
            raw[n - 1].update(zip(*(whole[place:] for place in range(n)), strict=False))
    counts = []
    for n in range(1, ORDER):
        continued = Counter(gram[1:] for gram in raw[n])
        starts = {gram: c for gram, c in raw[n - 1].items() if gram[0] == START}
        counts.append(continued | Counter(starts))
    return [*counts, raw[-1]]


if __name__ == "__main__":
    main()
