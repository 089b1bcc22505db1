"""The grammar of the bundled corpus: its probabilities are exact and its stories keep their word."""

import importlib.util
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from textgen.errors import DataError, ResourceError
from textgen.grammar import (
    Grammar,
    GrammarError,
    OutsideLanguageError,
    bits_per_character,
    count_derivations,
    generate_corpus,
    generate_story,
    load_grammar,
    log_probs_per_line,
    read_grammar,
    story_log_prob,
)

CORPORA = Path(__file__).parent.parent / "corpora"

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


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return load_grammar(CORPORA / "grammar.txt")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", CORPORA / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus() -> str:
    return (CORPORA / "stories.txt").read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def stories(corpus: str) -> list[str]:
    return corpus.removesuffix("\n").split("\n\n")


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


def test_the_probability_of_a_story_is_that_of_the_draws_that_wrote_it(grammar: Grammar) -> None:
    for seed in range(400):
        story = generate_story(grammar, Random(seed))
        assert count_derivations(grammar, story.text) == 1
        assert story_log_prob(grammar, story.text) == pytest.approx(story.log_prob, abs=1e-9)


def test_the_lines_of_the_corpus_sum_to_the_draws_that_wrote_it(
    grammar: Grammar, build: ModuleType, corpus: str, stories: list[str]
) -> None:
    generator = Random(build.SEED)
    drawn = math.fsum(generate_story(grammar, generator).log_prob for _ in stories)
    assert math.fsum(log_probs_per_line(grammar, corpus)) == pytest.approx(drawn, abs=1e-6)


def test_bits_from_the_middle_of_a_story_are_given_its_beginning(
    grammar: Grammar, stories: list[str]
) -> None:
    text = "\n\n".join(stories[:40]) + "\n"
    log_probs = log_probs_per_line(grammar, text)
    line_starts = [match.start() for match in re.finditer(r"^", text, re.M)][: len(log_probs)]
    for line in range(0, len(log_probs), 7):
        bits = bits_per_character(grammar, text, line_starts[line])
        rest = len(text) - line_starts[line]
        assert bits == pytest.approx(-math.fsum(log_probs[line:]) / math.log(2) / rest)
    with pytest.raises(ValueError, match="no line starts at character 3"):
        bits_per_character(grammar, text, 3)


def test_a_text_outside_the_language_is_refused_and_the_place_is_named(
    grammar: Grammar, stories: list[str]
) -> None:
    story = next(s for s in stories if "grew up in India" in s and "Hindi" in s) + "\n"
    wrong = story.replace("Hindi", "Danish")
    assert story_log_prob(grammar, story) > -math.inf
    assert story_log_prob(grammar, wrong) == -math.inf
    number = wrong[: wrong.index("Danish")].count("\n") + 3
    with pytest.raises(OutsideLanguageError, match=rf"line {number}, column \d+.*does not write|"):
        log_probs_per_line(grammar, stories[0] + "\n\n" + wrong)
    with pytest.raises(OutsideLanguageError, match=r"line 1, column 1\b"):
        log_probs_per_line(grammar, "It was a dark and stormy night.\n")
    with pytest.raises(OutsideLanguageError, match="does not end with a newline"):
        log_probs_per_line(grammar, story.rstrip("\n"))


# ---------------------------------------------------------------------------------- the corpus


def test_the_committed_corpus_is_what_the_grammar_writes_bit_for_bit(
    grammar: Grammar, build: ModuleType, corpus: str
) -> None:
    assert generate_corpus(grammar, build.SEED, build.CHARACTERS) == corpus
    assert 1_000_000 <= len(corpus) <= 1_100_000
    assert corpus.endswith("\n")
    assert "\r" not in corpus


def test_the_corpus_does_not_depend_on_the_order_of_hashes() -> None:
    program = (
        "import hashlib, pathlib, sys; from textgen.grammar import generate_corpus, load_grammar;"
        "g = load_grammar(pathlib.Path(sys.argv[1]));"
        "print(hashlib.sha256(generate_corpus(g, 5, 30_000).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(CORPORA / "grammar.txt")]
    folder = str(CORPORA.parent)
    digests = {
        subprocess.check_output(command, env={"PYTHONHASHSEED": seed, "PYTHONPATH": folder})
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_the_corpus_has_thousands_of_distinct_lines_and_hardly_any_twice(corpus: str) -> None:
    lines = [line for line in corpus.split("\n") if line]
    assert len(set(lines)) > 10_000
    assert len(set(lines)) > 0.9 * len(lines)


def test_the_validation_part_starts_a_line_at_nine_tenths(build: ModuleType, corpus: str) -> None:
    assert build.validation_start("aaaaaaaa\nb") == 9
    assert build.validation_start("aaaaaaa\nb\nc\n") == 10
    start = build.validation_start(corpus)
    assert corpus[start - 1] == "\n"
    assert 0 <= start - math.floor(0.9 * len(corpus)) < 300


def test_whoever_grew_up_in_a_country_speaks_its_language(stories: list[str]) -> None:
    languages = {"India": "Hindi", "Brazil": "Portuguese", "Kenya": "Swahili", "Poland": "Polish"}
    towns = {"Jaipur": "Hindi", "Recife": "Portuguese", "Mombasa": "Swahili", "Kraków": "Polish"}
    speaks = re.compile(r"(?:speaks|(?:dream|count|swear|sing|think|argue)s in) ([A-Z]\w+)")
    checked = 0
    for story in stories:
        home = re.search(r"(?:grew up in|was born in) (\w+)", story)
        language = home and (languages | towns).get(home[1])
        if language:
            said = speaks.findall(story)
            assert set(said) <= {language}, story
            checked += len(said)
    assert checked > 50


def test_what_is_lost_is_found_by_its_own_sound(stories: list[str]) -> None:
    sounds = {
        "duck": "quacked",
        "owl": "hooted",
        "cow": "mooed",
        "goose": "honked",
        "ox": "bellowed",
    }
    checked = 0
    for story in stories:
        pet = re.search(r"an? (?:\w+ )?(duck|owl|cow|goose|ox) called", story)
        heard = re.search(r"omething (\w+)", story)
        if pet and heard:
            assert heard[1] == sounds[pet[1]], story
            checked += 1
    assert checked > 20


def test_letters_are_signed_by_whoever_wrote_them(stories: list[str]) -> None:
    letters = [re.match(r"From (\w+);", story) for story in stories]
    written = [(letter[1], letter.string) for letter in letters if letter]
    assert len(written) > 50
    for name, story in written:
        assert re.search(rf"(?:, |from ){name}\b", story.split("\n", 1)[1]), story


def test_the_train_goes_back_the_way_it_came(stories: list[str]) -> None:
    pattern = r"from (\w\S*) to (\S+) stops only at (\S+)\.[\s\S]*way back \((\S+), (\S+), (\S+)\)"
    routes = [found.groups() for story in stories if (found := re.search(pattern, story))]
    assert len(routes) > 20
    for a, b, c, *back in routes:
        assert back == [b, c, a]


def test_verbs_agree_with_their_own_subject_across_the_clause_between(corpus: str) -> None:
    clause = (
        r"The (?:\w+ )?(\w+) (?:that|who) (?:the (?:\w+ )?(\w+) (\w+)|(\w+) the (?:\w+ )?(\w+))"
    )
    pattern = re.compile(clause + r" (is|are|has|have|was|were|does|do) ")
    attracted = {True: 0, False: 0}
    for head, subject, verb, own_verb, other, main_verb in pattern.findall(corpus):
        plural = is_plural(head)
        assert (main_verb in {"are", "have", "were", "do"}) == plural, (head, main_verb)
        if subject and verb != "that":
            assert is_singular_verb(verb) != is_plural(subject), (subject, verb)
        if own_verb:
            assert is_singular_verb(own_verb) != plural, (head, own_verb)
        attracted[plural] += is_plural(subject or other) != plural
    assert min(attracted.values()) > 100  # clauses whose noun has the other number


def is_plural(noun: str) -> bool:
    return noun.endswith("s") or noun in {"geese", "mice", "oxen", "wolves"}


def is_singular_verb(verb: str) -> bool:
    return verb.endswith("s")


def test_brackets_and_quotes_close_in_every_line_and_some_are_nested(corpus: str) -> None:
    partner = {"”": "“", "’": "‘", ")": "(", "]": "["}
    nested = set()
    for line in corpus.split("\n"):
        stack: list[str] = []
        for character in line:
            if character in partner.values():
                stack.append(character)
                nested.add("".join(stack))
            elif character in partner:
                assert stack.pop() == partner[character], line
        assert not stack, line
    assert {"“‘", "“‘(", "([", "[("} <= nested


def test_articles_fit_the_words_after_them(corpus: str) -> None:
    wrong_a = re.findall(r"\b[Aa] (?!useful|useless)[aeiouAEIOUÁÉÅ]\w*", corpus)
    wrong_an = re.findall(r"\b[Aa]n (?!honest)[^aeiouAEIOU]\w*", corpus)
    assert not wrong_a
    assert not wrong_an


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
    with pytest.raises(GrammarError, match=r"is left to choose from \(my.txt:2\)"):
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
