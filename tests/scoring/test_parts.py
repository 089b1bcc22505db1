"""Sentences cut into words, tokens and characters."""

import dataclasses
import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from textgen.config import TokenizerConfig
from textgen.data.lines import Text
from textgen.scoring.parts import spellings, starts_word
from textgen.tokenizers.base import EOS, UNK
from textgen.tokenizers.registry import learn_tokenizer

KINDS = ["char", "word", "spaced", "subword"]
PIECES = [
    *("the", "cat", "dogs", "chased", "zebra", "x", "<EOS>", "<UNK>", "ż", "猫", "ﷺ", "א", "🙂"),
    *(" ", " ", " ", "  ", "\t", "\u00a0", "\u3000"),
    *("(", ")", "[", ",", '"', "￭", "％0020", "▁"),
]
TEXTS = [
    "the cat sat down.",
    '"no," said (the dogs), "i will: not."',
    "  two  spaces and   an end  ",
    "",
    " ",
    "naïve 🙂 żółw ﷺ",
    "unheard-of words\tand a\u00a0space",
    "x",
]


LEVELS = ("token", "word", "character")


def check_parts(score: Any, tokenizer: Any, kind: str, given: Any, **options: Any) -> None:
    """At each level the parts sum to the sentence, and their spans are its text."""
    whole = score(tokenizer, given, **options)
    for level in LEVELS:
        scores = score(tokenizer, given, level=level, **options)
        for sentence, same in zip(scores, whole, strict=True):
            parts, text = sentence.parts, "".join(part.span for part in sentence.parts)
            total = math.fsum(part.log_prob for part in parts)
            assert total == pytest.approx(same.log_prob, abs=1e-9)
            assert sentence.log_prob == pytest.approx(same.log_prob, abs=1e-9)
            assert [part.ends for part in parts[-1:]] == [options["eos"]] * len(parts[-1:])
            assert not any(part.ends for part in parts[:-1])
            if kind != "spaced" or text:  # white space alone has no token there
                assert ((sentence.prefix or "") + sentence.text).endswith(text)
                assert text.endswith(sentence.text)
            if level == "character":
                assert all(part.log_prob <= 0 for part in parts)
            elif kind != "spaced" or text:
                assert sum(part.tokens for part in parts) == sentence.tokens


@pytest.mark.parametrize("context", ["sentence", "document"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_levels_add_up_to_the_same_sentence(
    make_tokenizer: Any, score: Any, kind: str, context: str
) -> None:
    check_parts(score, make_tokenizer(kind), kind, TEXTS, context=context, eos=True)


@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_text_its_parts_add_up_to_it(
    make_tokenizer: Any, score: Any, kind: str, eos: bool
) -> None:
    draw = random.Random(8)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 9))) for _ in range(40)]
    given = [(draw.choice(["", "the", "the dogs ", " ("]), text) for text in texts]
    given += [("the dogs", " sat down."), ("the", " cat, who was not"), ("", "the cat"), ("a", "")]
    check_parts(score, make_tokenizer(kind), kind, given, eos=eos)


def test_words_are_what_white_space_separates(make_tokenizer: Any, score: Any) -> None:
    for kind in KINDS:
        for sentence in score(make_tokenizer(kind), TEXTS, level="word"):
            *words, end = [part.text for part in sentence.parts]
            assert words == sentence.text.split()
            assert end == "<EOS>"


@pytest.mark.parametrize("kind", ["char", "word", "subword"])
def test_a_word_has_the_probability_that_it_comes_whole(
    make_tokenizer: Any, scorer: Any, apart: Any, distributions: Any, kind: str
) -> None:
    """p(word) = p(its tokens, then white space or the end | white space or the end comes)."""
    tokenizer = make_tokenizer(kind)
    words = scorer(tokenizer, level="word")
    (sentence,) = words.scores([[Text(1, "the dogs chased (the) cat.")]])
    model, ids = words._reader._model, tokenizer.encode("the dogs chased (the) cat.").tolist()
    starts = {EOS} | {
        id
        for id in range(tokenizer.vocabulary_size)
        if id != EOS and apart(tokenizer, id)[:1].isspace()
    }
    token_texts = tokenizer.token_texts("the dogs chased (the) cat.")
    places = [i for i, span in enumerate(token_texts) if span.startswith(" ")]
    p = distributions(model, ids)
    ends = [sum(p[place][id] for id in starts) for place in [*places, len(ids)]]
    for number, (begin, end) in enumerate(itertools.pairwise([*places, len(ids)])):
        tokens = math.prod(p[place][ids[place]] for place in range(begin, end))
        expected = tokens / ends[number] * ends[number + 1]
        assert math.exp(sentence.parts[number + 1].log_prob) == pytest.approx(expected, rel=1e-9)


def test_that_a_sentence_ends_is_told_given_that_a_word_does(
    make_tokenizer: Any, score: Any, scorer: Any, distributions: Any
) -> None:
    tokenizer = make_tokenizer("char")
    (sentence,) = score(tokenizer, ["a cat"], level="word")
    p = distributions(scorer(tokenizer)._reader._model, tokenizer.encode("a cat").tolist())[-1]
    (space,) = tokenizer.encode(" ").tolist()
    expected = p[EOS] / (p[EOS] + p[space])
    assert math.exp(sentence.parts[-1].log_prob) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_told_from_a_text_that_spells_it(
    make_tokenizer: Any, score: Any, kind: str, level: str
) -> None:
    for sentence in score(make_tokenizer(kind), ["the dogs ", "<EOS>", " "], level=level):
        *others, end = sentence.parts
        assert (end.text, end.ends) == ("<EOS>", True)
        assert not any(part.ends for part in others)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_unknown_stays_whole(make_tokenizer: Any, score: Any, level: str) -> None:
    (sentence,) = score(make_tokenizer("word"), ["the zebra were"], level=level)
    (unknown,) = (part for part in sentence.parts if part.unknown)
    assert unknown.span == " zebra"
    assert (sentence.unknown, sentence.unknown_texts) == (1, ("zebra",))


def test_entropies_fall_by_what_is_said_and_ranks_count_what_is_likelier(
    make_tokenizer: Any, score: Any, scorer: Any, distributions: Any
) -> None:
    tokenizer = make_tokenizer("char")
    (sentence,) = score(tokenizer, ["the cat"], level="token", alternatives=3)
    ids = [*tokenizer.encode("the cat").tolist(), EOS]
    p = np.array(distributions(scorer(tokenizer)._reader._model, ids[:-1]))
    entropies = -(p * np.log2(p)).sum(-1)
    before = entropies[0]
    for place, part in enumerate(sentence.parts):
        assert part.entropy == pytest.approx(entropies[place], abs=1e-9)
        assert part.entropy_reduction == pytest.approx(max(0, before - entropies[place]), abs=1e-9)
        assert part.rank == 1 + (p[place] > p[place, ids[place]]).sum()
        assert [each.id for each in part.alternatives] == np.argsort(-p[place])[:3].tolist()
        assert sum(each.probability for each in part.alternatives) <= 1
        before = entropies[place]


def test_a_vocabulary_smaller_than_the_alternatives_gives_all(score: Any) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("a\n", False)])
    (sentence,) = score(tokenizer, ["aa"], level="token", alternatives=5)
    for part in sentence.parts:
        assert len(part.alternatives) == 3
        assert sum(each.probability for each in part.alternatives) == pytest.approx(1)


def test_after_a_bracket_no_word_starts_with_a_space(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("word", min_count=1)
    ways, way = spellings(tokenizer)
    bracket, word = tokenizer.encode("(that cat")[:2].tolist()
    starts = starts_word(ways)
    assert starts[way[word]].sum() > 10
    assert starts[way[bracket]].nonzero().flatten().tolist() == [EOS]


@pytest.mark.parametrize("kind", ["word", "subword"])
def test_a_character_has_the_probability_of_all_tokens_that_begin_so(
    make_tokenizer: Any, score: Any, scorer: Any, apart: Any, distributions: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    (sentence,) = score(tokenizer, ["the dogs were"], level="character")
    ids = tokenizer.encode("the dogs were").tolist()
    p = distributions(scorer(tokenizer)._reader._model, ids)
    expected: list[float] = []
    for place, span in enumerate(tokenizer.token_texts("the dogs were")):
        spelt = joined if place == 0 else apart
        before = 1.0
        for length in range(1, len(span) + 1):
            begins_so = mass(tokenizer, p[place], span[:length], spelt)
            if length == len(span):
                begins_so = p[place][ids[place]]
            expected.append(begins_so / before)
            before = begins_so
    *characters, end = sentence.parts
    assert [part.text for part in characters] == list("the dogs were")
    got = [math.exp(part.log_prob) for part in characters]
    assert got == pytest.approx(expected, rel=1e-7)
    assert math.exp(end.log_prob) == pytest.approx(p[-1][EOS], rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "given", "place", "prefixes"),
    [
        ("word", "the [cat", 2, [" c", " ca", " cat"]),
        ("word", "the [ cat", 2, [" ", " c", " ca", " cat"]),
        ("spaced", "the\t  cat", 1, [" ", " ", " ", " c", " ca", " cat"]),
        ("spaced", "the\tcat", 1, [" ", " c", " ca", " cat"]),
        ("spaced", "the  cat \t", 1, [" ", " ", " c", " ca", " cat", " cat", " cat"]),
        ("spaced", "     cat", 0, ["", "", "", "", "", "c", "ca", "cat"]),
        ("spaced", " cat ", 0, ["", "c", "ca", "cat", "cat"]),
    ],
)
def test_characters_are_those_of_the_spelling_whatever_space_the_text_has(
    make_tokenizer: Any,
    score: Any,
    scorer: Any,
    apart: Any,
    distributions: Any,
    kind: str,
    given: str,
    place: int,
    prefixes: Any,
) -> None:
    tokenizer = make_tokenizer(kind)
    ids = tokenizer.encode(given).tolist()
    p = distributions(scorer(tokenizer)._reader._model, ids)[place]
    spelt = apart if place else joined
    masses = [
        p[ids[place]] if prefix.endswith("cat") else mass(tokenizer, p, prefix, spelt)
        for prefix in prefixes
    ]
    expected = [one / before for before, one in itertools.pairwise([1.0, *masses])]
    (sentence,) = score(tokenizer, [given], level="character")
    first = 1 + len(prefixes)  # from the end, past which there is <EOS> alone
    got = [math.exp(part.log_prob) for part in sentence.parts[-first:-1]]
    assert got == pytest.approx(expected, rel=1e-7)


def test_what_has_no_place_in_the_text_is_paid_by_the_character_after_it(
    score: Any, scorer: Any, distributions: Any
) -> None:
    config = TokenizerConfig(level="word", min_count=1)
    tokenizer = learn_tokenizer(config, [(" the cat\n  the dogs\n", False)])
    ids = tokenizer.encode(" the").tolist()
    assert UNK not in ids
    assert tokenizer.token_texts(" the") == ["", " the"]
    start, after, _ = distributions(scorer(tokenizer)._reader._model, ids)
    decoder = tokenizer.decoder()
    decoder.feed(ids[0])

    def spelt(tokenizer: Any, id: int) -> str:
        return decoder.next_bytes()[id].decode()

    masses = [mass(tokenizer, after, " the"[:length], spelt) for length in (1, 2, 3)]
    ratios = [one / before for before, one in itertools.pairwise([*masses, after[ids[1]]])]
    (sentence,) = score(tokenizer, [" the"], level="character")
    got = [math.exp(part.log_prob) for part in sentence.parts[:-1]]
    assert got == pytest.approx([start[ids[0]] * masses[0], *ratios], rel=1e-7)


def mass(tokenizer: Any, p: list[float], prefix: str, spelt: Any) -> float:
    """The probability that what comes begins so. spelt: ``apart`` or ``joined``."""
    if not prefix:
        return 1.0
    known = (id for id in range(tokenizer.vocabulary_size) if id not in (UNK, EOS))
    return sum(p[id] for id in known if spelt(tokenizer, id).startswith(prefix))


def joined(tokenizer: Any, id: int) -> str:
    """What an id writes at the start of a sentence."""
    return tokenizer.decoder().next_bytes()[id].decode("utf-8", "replace")


OWN_WORDS = [
    ["the", " dogs", " chased", " the", " cat", ".", " ", ""],
    ["the", " dogs who", " wer", "e", " tired", ", and"],
    ["Don", "’t", " a", "sk"],
    [" the", " ca", "", "t (th", "at) 🙂", "żó", "łw"],
    ["猫", "が", "好き", "。"],
    ["", "", "the"],
    [" "],
    [],
]


def in_words(words: list[str], prefix: str | None = None) -> Text:
    ends = tuple(itertools.accumulate(map(len, words)))
    return Text(1, "".join(words), prefix, word_ends=ends)


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("prefix", [None, "the", "the dogs "])
@pytest.mark.parametrize("kind", KINDS)
def test_own_words_sum_to_the_text_with_or_without_its_end(
    make_tokenizer: Any, scorer: Any, kind: str, prefix: str | None, eos: bool
) -> None:
    tokenizer = make_tokenizer(kind)
    given = [in_words(words, prefix) for words in OWN_WORDS]
    whole = scorer(tokenizer, eos=eos).scores([given])
    for words, same in zip(OWN_WORDS, whole, strict=True):
        own = scorer(tokenizer, level="word", own_words=True, eos=eos)
        ((score),) = own.scores([[in_words(words, prefix)]])
        total = math.fsum(part.log_prob for part in score.parts)
        if eos:
            *parts, end = score.parts
            assert (end.text, end.ends, end.tokens) == ("<EOS>", True, 1)
            score = dataclasses.replace(score, parts=tuple(parts))
        assert len(score.parts) == len(words)
        assert total == pytest.approx(same.log_prob, abs=1e-9)
        assert score.log_prob == pytest.approx(same.log_prob, abs=1e-12)
        assert all(part.log_prob <= 1e-9 for part in score.parts[1:])
        if prefix is None and score.tokens > eos:
            assert [part.span for part in score.parts] == words
        for part, word in zip(score.parts, words, strict=True):
            assert word or (part.log_prob, part.tokens, part.unknown) == (0.0, 0, False)


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_own_words_at_white_space_are_the_words_of_the_text(
    make_tokenizer: Any, scorer: Any, kind: str, eos: bool
) -> None:
    tokenizer = make_tokenizer(kind)
    text = "the dogs (who were tired) slept, and a naïve cat was not.\u3000x"
    (words,) = scorer(tokenizer, level="word", eos=eos).scores([[Text(1, text)]])
    given = in_words([part.span for part in words.parts if not part.ends])
    (own,) = scorer(tokenizer, level="word", own_words=True, eos=eos).scores([[given]])
    for mine, same in zip(own.parts, words.parts, strict=True):
        assert (mine.text, mine.log_prob) == (same.text, same.log_prob)
        assert (mine.tokens, mine.unknown) == (same.tokens, same.unknown)


def test_a_token_of_two_own_words_is_divided_by_what_begins_like_the_first(
    make_tokenizer: Any, scorer: Any, apart: Any, distributions: Any
) -> None:
    tokenizer = make_tokenizer("word")
    own = scorer(tokenizer, level="word", own_words=True, eos=False)
    (score,) = own.scores([[in_words(["the", " ch", "ased", " the"])]])
    ids = tokenizer.encode("the chased the").tolist()
    p = distributions(own._reader._model, ids)
    spaces = [i for i in range(len(p[1])) if i == EOS or apart(tokenizer, i)[:1] == " "]
    ends = [sum(each[id] for id in spaces) for each in p]
    begins_so = mass(tokenizer, p[1], " ch", apart)
    expected = [
        p[0][ids[0]] * ends[1],
        begins_so / ends[1],
        p[1][ids[1]] / begins_so * ends[2],
        p[2][ids[2]] / ends[2],
    ]
    got = [math.exp(part.log_prob) for part in score.parts]
    assert got == pytest.approx(expected, rel=1e-7)
    assert [part.tokens for part in score.parts] == [1, 1, 1, 1]


def test_an_unknown_token_of_several_own_words_is_the_first_ones(
    make_tokenizer: Any, scorer: Any
) -> None:
    own = scorer(make_tokenizer("word"), level="word", own_words=True, eos=False)
    (score,) = own.scores([[in_words(["the", " zeb", "ra", "s", " were"])]])
    (whole,) = own.scores([[in_words(["the", " zebras", " were"])]])
    assert [part.unknown for part in score.parts] == [False, True, True, True, False]
    assert [part.tokens for part in score.parts] == [1, 1, 1, 1, 1]
    _, first, second, third, _ = score.parts
    assert second.log_prob == 0.0
    log_prob = first.log_prob + second.log_prob + third.log_prob
    assert log_prob == pytest.approx(whole.parts[1].log_prob, abs=1e-12)
