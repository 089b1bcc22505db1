"""What in a story is settled by something before it."""

from random import Random

from grammar.dependencies import Dependency, dependencies
from grammar.generating import Story, generate_story
from grammar.parsing import story_log_prob
from grammar.reading import read_grammar
from grammar.symbols import Grammar

FACTS = """
Story:
  - <who=person> grew up in <home=land>. // <who.He> still speaks <home.tongue> (to <who.him>).
  - <Several> // <One>

Several:
  - The <beast.many> that the <beast> <likes> <likes.do>.

One:
  - The <beast> who swims <likes>.

table person: name | he | him
  - Ann | she | her
  - Bob | he | him

table land: name | tongue
  - India | Hindi; Wales | Welsh; Japan | Japanese; Kenya | Swahili

table beast: one | many
  - ox | oxen

table likes: does | do
  - sings | sing; can fly | can fly
"""


def found_in(wanted: str) -> list[Dependency]:
    """Of the first story of the small grammar that begins so."""
    grammar = read_grammar(FACTS)
    for seed in range(1000):
        story: Story = generate_story(grammar, Random(seed))
        if story.text.startswith(wanted):
            return list(dependencies(story, Random(0)))
    raise AssertionError(wanted)


def test_facts_pronouns_and_brackets_are_found_with_what_settles_them() -> None:
    before = "Ann grew up in Wales.\n"
    pronoun, fact, another, bracket = found_in(before)
    assert pronoun == Dependency(
        "pronouns", before, "She still", "He still", len(before) - 3, ("she", "he")
    )
    assert (fact.kind, fact.context, fact.right) == (
        "facts",
        before + "She still speaks ",
        "Welsh (to",
    )
    assert fact.wrong in ("Hindi (to", "Japanese (to", "Swahili (to")
    assert fact.distance == len(".\nShe still speaks ")
    # It is on the second line that "She" has settled what comes.
    assert (another.context, another.right, another.wrong, another.distance) == (
        "She still speaks Welsh (to ",
        "her",
        "him",
        len(" still speaks Welsh (to "),
    )
    assert (bracket.right, bracket.wrong, bracket.distance) == (").", "].", len("to her"))


def test_the_verb_of_a_sentence_agrees_with_its_first_noun() -> None:
    plural, singular = found_in("The oxen that the ox sings sing.\nThe ox who swims sings")
    assert (plural.right, plural.wrong, plural.distance) == ("sing.", "sings.", 19)
    assert (singular.right, singular.wrong, singular.distance) == ("sings.", "sing.", 11)
    assert not [each for each in found_in("The oxen that the ox sings can") if "can" in each.right]


def test_what_is_wrong_is_what_the_grammar_never_writes(grammar: Grammar) -> None:
    tried = 0
    for seed in range(60):
        story = generate_story(grammar, Random(seed))
        for each in dependencies(story, Random(seed)):
            begin = story.text.index(each.context + each.right)
            after = begin + len(each.context + each.right)
            changed = story.text[:begin] + each.context + each.wrong + story.text[after:]
            assert story_log_prob(grammar, changed) == -float("inf"), each
            assert not (each.right.startswith(each.wrong) or each.wrong.startswith(each.right))
            tried += 1
    assert tried > 300
