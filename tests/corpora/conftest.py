"""The grammar of the bundled corpus, and the corpus."""

from pathlib import Path

import pytest
from grammar.reading import load_grammar
from grammar.symbols import Grammar

CORPORA = Path(__file__).parents[2] / "corpora"


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    return load_grammar(CORPORA / "grammar.txt")


@pytest.fixture(scope="session")
def corpus() -> str:
    return (CORPORA / "stories.txt").read_bytes().decode("utf-8")


@pytest.fixture(scope="session")
def stories(corpus: str) -> list[str]:
    return corpus.removesuffix("\n").split("\n\n")
