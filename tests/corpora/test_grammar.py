"""Grammars: what they write, and that the probabilities they give are exact."""

import itertools
import math
from pathlib import Path
from random import Random

import pytest
from grammar.generating import generate_story
from grammar.parsing import count_derivations, log_probs_per_line, story_log_prob
from grammar.reading import load_grammar, read_grammar
from grammar.symbols import Grammar, GrammarError

from textgen.errors import DataError, ResourceError

CORPORA = Path(__file__).parents[2] / "corpora"

PETS = """
Story:
  3 - <who=person> has {a|one} <pet>. // <who.He> is happy.
  1 - Nobody has <pet=animal.an>.

table person: name | he
  2 - Ann | she
  1 - Bob | he

table animal: one | an
  - owl | an owl; cat | a cat
""".replace("<pet>", "<pet=animal>")

# Every variable is used, so that the file is a valid one: b is any letter but a.
LETTERS = """
Story:
  2 - <x=letter><letter(name!=x.name)>{<x>|}
  1 - <Tail>

Tail:
  - a
  3 - {b|bb|<letter>c}

table letter: name
  - a; b; c
"""


# ------------------------------------------------------------------------------- probabilities


def test_a_tiny_grammar_has_the_probabilities_worked_out_by_hand() -> None:
    grammar = read_grammar(PETS)
    ann = "Ann has a cat.\nShe is happy.\n"
    # 3/4 for the alternative, 2/3 for Ann, 1/2 for "a", 1/2 for the cat.
    assert story_log_prob(grammar, ann) == pytest.approx(math.log(3 / 4 * 2 / 3 / 2 / 2))
    assert story_log_prob(grammar, "Nobody has an owl.\n") == pytest.approx(math.log(1 / 4 / 2))
    # The second line and the end of the story are certain once the first line is known.
    assert log_probs_per_line(grammar, ann + "\n") == pytest.approx([math.log(1 / 8), 0, 0])


def test_over_a_finite_grammar_the_probabilities_of_all_strings_sum_to_one() -> None:
    grammar = read_grammar(LETTERS)
    strings = ("".join(s) + "\n" for n in range(5) for s in itertools.product("abc", repeat=n))
    assert math.fsum(math.exp(story_log_prob(grammar, s)) for s in strings) == pytest.approx(1)


def test_an_ambiguous_text_has_the_summed_probability_of_its_derivations() -> None:
    grammar = read_grammar(LETTERS)
    # "ac" is a letter and another (2/3 x 1/3 x 1/2 x 1/2), or the tail (1/3 x 3/4 x 1/3 x 1/3).
    assert count_derivations(grammar, "ac\n") == 2
    assert story_log_prob(grammar, "ac\n") == pytest.approx(math.log(1 / 18 + 1 / 36))


def test_a_line_pays_for_what_it_reveals_about_the_lines_to_come() -> None:
    grammar = read_grammar("Story:\n  - One.\n  3 - One. // {Two|Three}.\n")
    long, short = math.log(3 / 4), math.log(1 / 4)
    text = "One.\nTwo.\n\nOne.\n\n"
    assert log_probs_per_line(grammar, text) == pytest.approx([0, long - math.log(2), 0, 0, short])


def test_draws_come_as_often_as_their_weights_say() -> None:
    grammar = read_grammar(PETS)
    generator = Random(3)
    texts = [generate_story(grammar, generator).text for _ in range(4000)]
    for text in set(texts):
        expected = 4000 * math.exp(story_log_prob(grammar, text))
        assert abs(texts.count(text) - expected) < 5 * math.sqrt(expected)


def test_the_example_in_the_readme_is_a_grammar_and_unambiguous() -> None:
    readme = (CORPORA / "README.md").read_text(encoding="utf-8")
    grammar = read_grammar(readme.split("```text\n")[1].split("```")[0], "README.md")
    for seed in range(50):
        story = generate_story(grammar, Random(seed))
        assert count_derivations(grammar, story.text) == 1
        assert story_log_prob(grammar, story.text) == pytest.approx(story.log_prob)


def test_the_probability_of_a_story_is_that_of_the_draws_that_wrote_it(grammar: Grammar) -> None:
    for seed in range(200):
        story = generate_story(grammar, Random(seed))
        assert count_derivations(grammar, story.text) == 1
        assert story_log_prob(grammar, story.text) == pytest.approx(story.log_prob, abs=1e-9)


# ------------------------------------------------------------------------------ grammar files


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", "", "has no rule"),
        ("  - before\nStory:\n", 1, "before the first rule"),
        ("story:\n  - no\n", 1, "neither a rule nor a table"),
        ("Story:\n", 1, "has no entries"),
        ("Story:\n  - a\nStory:\n  - b\n", 3, "defined twice"),
        ("Story:\n  text\n", 2, "start with a dash"),
        ("Story:\n  0 - text\n", 2, "at least 1"),
        ("Story:\n  - a\n\n  - a\n", 4, "are the same"),
        ("Story:\n  - a\n  - {b|b}\n", 3, "are the same"),
        ("Story:\n  - {a|b\n", 2, "has no partner"),
        ("Story:\n  - a <b\n", 2, "has no partner"),
        ("Story:\n  - a | b\n", 2, "outside a choice"),
        ("Story:\n  - <Other>\n", 2, "no rule Other"),
        ("Story:\n  - <A>\nA:\n  - <Story>\n", 4, "uses itself"),
        ("Story:\n  - a\nA:\n  - b\n", 3, "never used"),
        ("Story:\n  - <x=t>\n", 2, "no table 't'"),
        ("Story:\n  - {<x=t>|b} <x>\ntable t: a\n  - c\n", 2, "may not be bound"),
        ("Story:\n  - <x=t> <x.b>\ntable t: a\n  - c\n", 2, "no column 'b'"),
        ("Story:\n  - <t(b=c)>\ntable t: a\n  - c\n", 2, "no column 'b'"),
        ("Story:\n  - <t>\ntable t: a | b\n  - c | d\n  - e | f | g\n", 5, "has 3 cells"),
        ("Story:\n  - <t>\ntable t: a\n  - c; d; c\n", 2, "does not tell its rows apart"),
    ],
)
def test_an_error_in_a_grammar_names_the_file_and_the_line(text: str, line: int, what: str) -> None:
    with pytest.raises(GrammarError) as caught:
        read_grammar(text, "my.txt")
    assert what in str(caught.value)
    assert caught.value.where == (f"my.txt:{line}" if line else "my.txt")
    assert isinstance(caught.value, DataError)


def test_a_draw_that_nothing_is_left_for_is_an_error_where_it_stands() -> None:
    grammar = read_grammar("Story:\n  - <x=t> <t(a!=x.a)>\ntable t: a\n  - b\n", "my.txt")
    with pytest.raises(GrammarError, match=r"meets the conditions \(my.txt:2\)"):
        generate_story(grammar, Random(0))


def test_an_empty_line_inside_a_story_is_an_error() -> None:
    with pytest.raises(GrammarError, match="empty line"):
        generate_story(read_grammar("Story:\n  - a // // b\n"), Random(0))


def test_a_missing_or_unreadable_grammar_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot read the grammar"):
        load_grammar(tmp_path / "none.txt")
    (tmp_path / "latin1.txt").write_bytes("Story:\n  - café\n".encode("latin-1"))
    with pytest.raises(GrammarError, match="not UTF-8"):
        load_grammar(tmp_path / "latin1.txt")
