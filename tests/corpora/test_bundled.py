"""The bundled corpus and probe are what the grammar generates; the stories are consistent."""

import math
import re
from random import Random

import build
import pytest
from grammar.generating import generate_corpus, generate_story
from grammar.parsing import (
    OutsideLanguageError,
    bits_per_character,
    log_probs_per_line,
    story_log_prob,
)
from grammar.symbols import Grammar

from textgen.data.corpus import Corpus, bundled_corpus


def test_the_lines_of_stories_sum_to_the_draws_that_wrote_them(
    grammar: Grammar, stories: list[str]
) -> None:
    generator, first = Random(build.SEED), stories[: len(stories) // 20]
    drawn = math.fsum(generate_story(grammar, generator).log_prob for _ in first)
    log_probs = log_probs_per_line(grammar, "\n\n".join(first) + "\n")
    assert math.fsum(log_probs) == pytest.approx(drawn, abs=1e-6)


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
    before = stories[0] + "\n\n"
    number = (before + wrong[: wrong.index("Danish")]).count("\n") + 1
    with pytest.raises(OutsideLanguageError, match=rf"not write .*line {number}, column \d+"):
        log_probs_per_line(grammar, before + wrong)
    with pytest.raises(OutsideLanguageError, match=r"line 1, column 1\b"):
        log_probs_per_line(grammar, "It was a dark and stormy night.\n")
    with pytest.raises(OutsideLanguageError, match="does not end with a newline"):
        log_probs_per_line(grammar, story.rstrip("\n"))


def test_the_committed_corpus_and_probe_are_what_the_grammar_writes(
    grammar: Grammar, corpus: str
) -> None:
    assert bundled_corpus() == build.STORIES
    assert generate_corpus(grammar, build.SEED, build.CHARACTERS) == corpus
    assert build.PROBE.read_bytes().decode("utf-8") == build.probe_text(grammar)
    assert 1_000_000 <= len(corpus) <= 1_100_000
    assert corpus.endswith("\n")
    assert "\r" not in corpus


def test_the_corpus_has_thousands_of_distinct_lines_and_hardly_any_twice(corpus: str) -> None:
    lines = [line for line in corpus.split("\n") if line]
    assert len(set(lines)) > 10_000
    assert len(set(lines)) > 0.9 * len(lines)


def test_the_validation_part_is_the_one_that_training_holds_out(corpus: str) -> None:
    assert build.validation_start("aaaaaaaa\nb") == 9
    assert build.validation_start("aaaaaaa\nb\nc\n") == 10
    start = build.validation_start(corpus)
    assert corpus[start - 1] == "\n"
    assert start == Corpus.open([build.STORIES]).train_characters


def pairs(words: str) -> dict[str, str]:
    each = words.split()
    return dict(zip(each[::2], each[1::2], strict=True))


def test_whoever_grew_up_in_a_country_speaks_its_language(stories: list[str]) -> None:
    languages = pairs(
        "India Hindi Jaipur Hindi Brazil Portuguese Recife Portuguese Kenya Swahili Mombasa Swahili"
        " Poland Polish Kraków Polish Wales Welsh Bangor Welsh Japan Japanese Kyoto Japanese"
        " Iceland Icelandic Akureyri Icelandic France French Orléans French"
    )
    speaks = re.compile(
        r"(?:speaks|(?:dream|count|swear|sing|pray|think|whisper|hum|argue)s in) ([A-Z]\w+)"
    )
    checked = 0
    for story in stories:
        home = re.search(r"(?:grew up in|was born in) (\w+)", story)
        language = home and languages.get(home[1])
        if language:
            said = speaks.findall(story)
            assert set(said) <= {language}, story
            checked += len(said)
    assert checked > 50


def test_what_is_lost_is_found_by_its_own_sound(stories: list[str]) -> None:
    sounds = pairs(
        "duck quacked owl hooted cow mooed goose honked dog barked ox bellowed cat miaowed"
        " pig grunted wolf howled hen clucked"
    )
    kept = re.compile(rf"an? (?:\w+ )?({'|'.join(sounds)}) called")
    checked = 0
    for story in stories:
        pet = kept.search(story)
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
    regular = "admire adore avoid bribe chase dread fear feed flatter follow hate ignore love obey"
    regard = rf"(?:{'|'.join(regular.split())}|paint|spoil|tame|tease|tickle|visit|worship)(s?)"
    noun = r"(?:\w+ )?(\w+)"
    clause = rf"(?:that the {noun} {regard}|(?:that|who) {regard} the {noun})"
    pattern = re.compile(rf"The {noun} {clause} (is|are|has|have|was|were|does|do|can)\b")
    clauses = {True: [0, 0], False: [0, 0]}
    for head, subject, s, own_s, other, main_verb in pattern.findall(corpus):
        plural = is_plural(head)
        assert main_verb == "can" or (main_verb in {"are", "have", "were", "do"}) == plural, head
        assert bool(s) != is_plural(subject) if subject else bool(own_s) != plural, head
        clauses[plural][is_plural(subject or other)] += 1
    assert min(*clauses[True], *clauses[False]) > 20  # the noun nearest the verb has either number


def is_plural(noun: str) -> bool:
    return noun.endswith("s") or noun in {"geese", "mice", "oxen"}


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
    assert not re.findall(r"\b[Aa] (?!useful|useless)[aeiouAEIOUÁÉÅ]\w*", corpus)
    assert not re.findall(r"\b[Aa]n (?!honest)[^aeiouAEIOU]\w*", corpus)
