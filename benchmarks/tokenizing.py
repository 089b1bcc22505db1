"""Speed of encoding text on one core, and the memory it takes.

    python benchmarks/tokenizing.py [CORPUS] [--memory | --words]

first: a pass of a tokenizer that has just been loaded over all of CORPUS. again: the same pass once
more, as in a long corpus. Megabytes are 10^6 bytes of UTF-8. The machines are shared, so medians
are given, and a reference runs in turns with ours: for subwords sentencepiece's own encoding of the
same lines, for words a compiled regular expression that finds words and symbols, with and without
looking them up in a dictionary. Compare the ratios. --words: only words, in CORPUS and in made
texts in which no word occurs twice; the times are those of the process.
"""

import argparse
import json
import os
import random
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared import RESULTS, ROOT, commit, machine, repeated, run, seconds

from textgen.config import TokenizerConfig
from textgen.data.corpus import Corpus
from textgen.data.encoded import tokenize
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer, load_tokenizer, save_tokenizer

GIGABYTE = 10**9
CONFIGS = {
    "characters": TokenizerConfig(level="char"),
    "words, punctuation": TokenizerConfig(level="word"),
    "words, white space": TokenizerConfig(level="word", split="whitespace"),
    "subwords, unigram": TokenizerConfig(level="subword"),
    "subwords, BPE": TokenizerConfig(level="subword", subword_model="bpe"),
}
WIDTHS = {"first": 9, "again": 9, "reference": 11, "first_ratio": 13, "again_ratio": 13}
WORDS_AND_SYMBOLS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", type=Path, default=ROOT / "corpora" / "stories.txt")
    parser.add_argument("--memory", action="store_true", help="tokenize a file of 1 GB too")
    parser.add_argument("--words", action="store_true", help="words only, seen and unseen")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    results = RESULTS / "tokenizing.json"
    shown = [Path(word).name for word in sys.argv[1:]]  # without the folders of this machine
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/tokenizing.py", *shown]),
        "commit": commit(),
        "machine": machine(),
        "corpus": arguments.corpus.name,
        "bytes": arguments.corpus.stat().st_size,
    }
    if arguments.words:
        report["ratios"] = words(arguments.corpus, arguments.repeats)
        report = {**json.loads(results.read_text("utf-8")), "words": report}
        results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return
    if arguments.memory:  # first: the peak of a process includes that of its parent at the fork
        report["one_gigabyte"] = memory(arguments.corpus)
    report["megabytes_per_second"] = speeds(arguments.corpus, arguments.repeats)
    report["pipeline_megabytes_per_second"] = pipelines(arguments.corpus, arguments.repeats)
    results.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def speeds(path: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Encoding alone, from text in memory to ids in memory."""
    text = "".join(piece.text for piece in Corpus.open([path]).train())
    megabytes = len(text.encode()) / 1e6
    print("\n" + f"{'encoding, MB/s':<28}" + "".join(f"{key:>{n}}" for key, n in WIDTHS.items()))
    found = {}
    for name, config in CONFIGS.items():
        learned = learn_tokenizer(config, [(text, False)])
        rounds = [_round(learned, text) for _ in range(repeats)]
        first, again, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
        row = {"first": megabytes / first, "again": megabytes / again}
        if theirs:
            row["reference"] = megabytes / theirs
            row["first_ratio"] = statistics.median(c / a for a, _, c in rounds)
            row["again_ratio"] = statistics.median(c / b for _, b, c in rounds)
        found[name] = {key: round(value, 2) for key, value in row.items()}
        print(f"{name:<28}" + "".join(f"{row[key]:>{WIDTHS[key]}.2f}" for key in row))
    return found


def _round(learned: Tokenizer, text: str) -> tuple[float, float, float]:
    """Seconds of a first pass, of a second one, and of the reference (0 if there is none)."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(learned, Path(folder))
        fresh = load_tokenizer({path.name: path for path in Path(folder).iterdir()})
    first, again = (seconds(lambda: fresh.encode(text)) for _ in range(2))
    if fresh.level == "subword":
        processor, lines = fresh._processor, text.split("\n")  # type: ignore[attr-defined]
        return first, again, seconds(lambda: processor.encode(lines, num_threads=1))
    if fresh.level == "word":
        return first, again, seconds(lambda: WORDS_AND_SYMBOLS.findall(text))
    return first, again, 0.0


def words(path: Path, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """The reference's time by ours, medians of runs in turns; ``looked_up``: with a dictionary."""
    text = "".join(piece.text for piece in Corpus.open([path]).train())
    texts = {
        "corpus": text,
        "unseen, ASCII": unseen("etaoinshrdlucmfwypvbgkjqxz"),
        "unseen, Cyrillic": unseen("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф"),
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("words, punctuation", "words, white space"):
        learned = learn_tokenizer(CONFIGS[name], [(text, False)])
        ids = {learned.token(id): id for id in range(learned.vocabulary_size)}
        for case, each in texts.items():
            rounds = [_words_round(learned, each, ids) for _ in range(repeats)]
            ratios = {
                "first": statistics.median(find / first for first, _, find, _ in rounds),
                "again": statistics.median(find / again for _, again, find, _ in rounds),
                "first_looked_up": statistics.median(both / first for first, _, _, both in rounds),
                "again_looked_up": statistics.median(both / again for _, again, _, both in rounds),
            }
            found.setdefault(name, {})[case] = {key: round(r, 2) for key, r in ratios.items()}
            print(f"{name:<20}{case:<18}{found[name][case]}", flush=True)
    return found


def unseen(letters: str, count: int = 100_000) -> str:
    """Words of 2 to 14 letters, each once, with the punctuation and line ends of prose."""
    generator = random.Random(1)
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(generator.choices(letters, k=generator.randint(2, 14)))] = None
    ends = generator.choices([" ", ", ", ".\n", "; "], [80, 10, 8, 2], k=count)
    return "".join(map("".join, zip(made, ends, strict=True)))


def _words_round(
    learned: Tokenizer, text: str, ids: dict[str, int]
) -> tuple[float, float, float, float]:
    """Seconds of a first pass, a second one, the reference, and the reference with look-ups."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(learned, Path(folder))
        fresh = load_tokenizer({path.name: path for path in Path(folder).iterdir()})

    def timed(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    first, again = (timed(lambda: fresh.encode(text)) for _ in range(2))
    find = timed(lambda: WORDS_AND_SYMBOLS.findall(text))
    both = timed(lambda: [ids.get(token, 0) for token in WORDS_AND_SYMBOLS.findall(text)])
    return first, again, find, both


def pipelines(path: Path, repeats: int) -> dict[str, float]:
    """The whole command: read, check, hash, split, learn, encode, write, flush, map."""
    print(f"\n{'file to folder, MB/s':<28}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        long = repeated(path, Path(folder) / "text", 30 * 10**6)
        for name, config in CONFIGS.items():
            work = partial(tokenize, [long], config, out=Path(folder) / "out", overwrite=True)
            taken = statistics.median(seconds(work) for _ in range(max(1, repeats // 2)))
            found[name] = round(long.stat().st_size / 1e6 / taken, 2)
            print(f"{name:<28}{found[name]:>9.1f}")
    return found


def memory(path: Path) -> dict[str, dict[str, float]]:
    """Peak memory and time of tokenizing a file of 1 GB, each level in its own process."""
    print(f"{'1 GB, file to folder':<28}{'seconds':>9}{'peak MB':>9}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        long = repeated(path, Path(folder) / "text", GIGABYTE)
        for level in ("char", "word", "subword"):
            child = run(sys.executable, __file__, "--child", level, long, f"{folder}/{level}")
            (row,) = child.objects()
            found[level] = row
            print(f"{level:<28}{row['seconds']:>9.1f}{row['peak_megabytes']:>9.0f}")
    return found


def child(level: str, path: str, out: str) -> None:
    """The process that ``memory`` starts: prints one JSON object."""
    config = TokenizerConfig.from_options({"level": level})
    taken = seconds(lambda: tokenize([path], config, out=out))
    unit = 1e3 if sys.platform == "linux" else 1e6  # ru_maxrss is in KB on Linux, else in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps({"seconds": round(taken, 1), "peak_megabytes": round(peak)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
