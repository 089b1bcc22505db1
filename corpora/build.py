"""Writes stories.txt and probe.jsonl from grammar.txt, the same bytes on every machine.

python corpora/build.py                write both files (what ``make corpus`` does)
python corpora/build.py --bits         the grammar's own bits per character on the corpus
python corpora/build.py --statistics   count the characters, lines and words of the corpus
"""

import argparse
import json
import re
import sys
from pathlib import Path

from grammar.dependencies import probe
from grammar.generating import generate_corpus
from grammar.parsing import bits_per_character
from grammar.reading import load_grammar
from grammar.symbols import Grammar

from textgen.errors import ResourceError, TextgenError

HERE = Path(__file__).resolve().parent
GRAMMAR = HERE / "grammar.txt"
STORIES = HERE / "stories.txt"
PROBE = HERE / "probe.jsonl"
SEED = 2024
CHARACTERS = 1_040_000
PROBE_SEED = 1
PROBE_STORIES = 3000
PROBE_ITEMS = 100
"""Items of each kind and interval of distances."""

WORD = re.compile(r"[^\W\d_]+")


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Write the bundled corpus, or measure it.")
    parser.add_argument("--bits", action="store_true", help="print the bits per character")
    parser.add_argument("--statistics", action="store_true", help="print what the corpus holds")
    options = parser.parse_args()
    try:
        if options.bits or options.statistics:
            measure(options.bits, options.statistics)
        else:
            grammar = load_grammar(GRAMMAR)
            write(STORIES, generate_corpus(grammar, SEED, CHARACTERS))
            write(PROBE, probe_text(grammar))
    except TextgenError as error:
        print(f"build.py: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def probe_text(grammar: Grammar) -> str:
    """The probe: a JSON object per line, with the keys kind, distance, context, right, wrong."""
    items = probe(grammar, PROBE_SEED, PROBE_STORIES, PROBE_ITEMS)
    keys = ("kind", "distance", "context", "right", "wrong")
    lines = ({key: getattr(item, key) for key in keys} for item in items)
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def write(path: Path, text: str) -> None:
    """Write a file under another name, then rename it."""
    unfinished = path.with_suffix(".tmp")
    try:
        unfinished.write_bytes(text.encode("utf-8"))
        unfinished.replace(path)
    except OSError as error:
        raise ResourceError("cannot write", where=path, why=error.strerror) from error
    print(f"wrote {path.relative_to(HERE.parent).as_posix()}: {len(text):,} characters")


def measure(bits: bool, statistics: bool) -> None:
    """Print the figures of the corpus as it is on disk."""
    try:
        text = STORIES.read_bytes().decode("utf-8")
    except OSError as error:
        raise ResourceError("cannot read the corpus", where=STORIES, why=error.strerror) from error
    if statistics:
        lines = text.split("\n")[:-1]
        show("characters", len(text))
        show("stories", lines.count("") + 1)
        show("lines", len(lines))
        show("distinct lines", len(set(lines)))
        show("distinct words, ignoring case", len({word.lower() for word in WORD.findall(text)}))
        show("distinct characters", len(set(text)))
    if bits:
        grammar = load_grammar(GRAMMAR)
        start = validation_start(text)
        show("characters, validation part", len(text) - start)
        show("bits per character, whole corpus", bits_per_character(grammar, text))
        show("bits per character, validation part", bits_per_character(grammar, text, start))


def validation_start(text: str) -> int:
    """Where the last 10 % of the characters begin, moved forward to the next start of a line."""
    boundary = len(text) * 9 // 10
    return text.index("\n", boundary - 1) + 1


def show(what: str, value: float) -> None:
    """Print one figure."""
    print(f"{what:36}{value:>12,.4f}" if isinstance(value, float) else f"{what:36}{value:>12,}")


if __name__ == "__main__":
    sys.exit(main())
