"""A probabilistic grammar of little stories: read it, write with it, say how probable a text is.

The bundled corpus is written by such a grammar, so the entropy of its text is known, and a
model trained on it can be told how near it came to the best that any model could do.

    symbols      what a grammar is made of
    reading      the grammar file -> Grammar
    checking     every variable is bound before it is recalled
    generating   Grammar, random numbers -> stories
    parsing      Grammar, text -> exact log-probabilities

The format of a grammar file is described in ``corpora/README.md``.
"""

from textgen.grammar.generating import Story, generate_corpus, generate_story
from textgen.grammar.parsing import (
    OutsideLanguageError,
    bits_per_character,
    count_derivations,
    log_probs_per_line,
    story_log_prob,
)
from textgen.grammar.reading import load_grammar, read_grammar
from textgen.grammar.symbols import Grammar, GrammarError

__all__ = [
    "Grammar",
    "GrammarError",
    "OutsideLanguageError",
    "Story",
    "bits_per_character",
    "count_derivations",
    "generate_corpus",
    "generate_story",
    "load_grammar",
    "log_probs_per_line",
    "read_grammar",
    "story_log_prob",
]
