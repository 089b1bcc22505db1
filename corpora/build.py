"""Writes corpora/stories.txt from corpora/grammar.txt, bit for bit the same on every machine.

python corpora/build.py                write the corpus (what ``make corpus`` does)
python corpora/build.py --bits         the grammar's own bits a character on the corpus
python corpora/build.py --statistics   count its characters, lines and words
"""

import argparse
import re
import sys
from pathlib import Path

from textgen.errors import ResourceError, TextgenError
from textgen.grammar.generating import generate_corpus
from textgen.grammar.parsing import bits_per_character
from textgen.grammar.reading import load_grammar

HERE = Path(__file__).resolve().parent
GRAMMAR = HERE / "grammar.txt"
STORIES = HERE / "stories.txt"
SEED = 2024
CHARACTERS = 1_040_000
WORD = re.compile(r"[^\W\d_]+")


def main() -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(description="Write the bundled corpus, or measure it.")
    parser.add_argument("--bits", action="store_true", help="print the grammar's bits a character")
    parser.add_argument("--statistics", action="store_true", help="print what the corpus holds")
    options = parser.parse_args()
    try:
        if options.bits or options.statistics:
            measure(options.bits, options.statistics)
        else:
            build()
    except TextgenError as error:
        print(f"build.py: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def build() -> None:
    """Write the corpus beside its place, then put it there in one step."""
    text = generate_corpus(load_grammar(GRAMMAR), SEED, CHARACTERS)
    unfinished = STORIES.with_suffix(".tmp")
    try:
        unfinished.write_bytes(text.encode("utf-8"))
        unfinished.replace(STORIES)
    except OSError as error:
        raise ResourceError("cannot write the corpus", where=STORIES, why=error.strerror) from error
    print(f"wrote {STORIES.relative_to(HERE.parent).as_posix()}: {len(text):,} characters")


def measure(bits: bool, statistics: bool) -> None:
    """Print what was asked for about the corpus as it is on disk."""
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
        show("bits a character, whole corpus", bits_per_character(grammar, text))
        show("bits a character, validation part", bits_per_character(grammar, text, start))


def validation_start(text: str) -> int:
    """Where the last 10 % of the characters begin, moved forward to the next start of a line."""
    boundary = len(text) * 9 // 10
    return text.index("\n", boundary - 1) + 1


def show(what: str, value: float) -> None:
    """Print one figure."""
    print(f"{what:36}{value:>12,.4f}" if isinstance(value, float) else f"{what:36}{value:>12,}")


if __name__ == "__main__":
    sys.exit(main())
