"""Sentences cut into words, tokens and characters."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from textgen.scoring.parts import Spellings
from textgen.tokenizers.base import EOS

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


def summed(parts: Any) -> float:
    return math.fsum(part.log_prob for part in parts)


@pytest.mark.parametrize("context", ["sentence", "document"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_levels_add_up_to_the_same_sentence(
    make_tokenizer: Any, score: Any, kind: str, context: str
) -> None:
    tokenizer = make_tokenizer(kind)
    whole = score(tokenizer, TEXTS, context=context)
    for level in ("token", "word", "character"):
        for sentence, same in zip(
            score(tokenizer, TEXTS, level=level, context=context), whole, strict=True
        ):
            assert summed(sentence.parts) == pytest.approx(same.log_prob, abs=1e-9)
            assert sentence.log_prob == pytest.approx(same.log_prob, abs=1e-9)
            if kind != "spaced" or sentence.text.strip():
                assert "".join(part.span for part in sentence.parts) == sentence.text
            assert sentence.parts[-1].text == "<EOS>" or kind == "spaced"
            if level != "character":
                assert sum(part.tokens for part in sentence.parts) == sentence.tokens


@pytest.mark.parametrize("kind", KINDS)
def test_parts_add_up_without_the_end_and_after_a_prefix(
    make_tokenizer: Any, score: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    given = [("the dogs", " sat down."), ("the", " cat, who was not"), ("", "the cat"), ("a", "")]
    for eos in (False, True):
        whole = score(tokenizer, given, eos=eos)
        for level in ("token", "word", "character"):
            for sentence, same in zip(
                score(tokenizer, given, level=level, eos=eos), whole, strict=True
            ):
                assert summed(sentence.parts) == pytest.approx(same.log_prob, abs=1e-9)
                assert "".join(part.span for part in sentence.parts) == sentence.text


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
    (sentence,) = words.scores([[text("the dogs chased (the) cat.")]])
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


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_text_its_characters_and_words_add_up_to_it(
    make_tokenizer: Any, score: Any, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    draw = random.Random(8)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 9))) for _ in range(150)]
    given = [(draw.choice(["", "the", "the dogs ", " ("]), text) for text in texts]
    for eos in (True, False):
        whole = score(tokenizer, given, eos=eos)
        for level in ("token", "word", "character"):
            scores = score(tokenizer, given, level=level, eos=eos)
            for sentence, same in zip(scores, whole, strict=True):
                parts = sentence.parts
                assert summed(parts) == pytest.approx(same.log_prob, abs=1e-9)
                assert [part.ends for part in parts[-1:]] == [eos] * len(parts[-1:])
                assert not any(part.ends for part in parts[:-1])
                token_texts = "".join(part.span for part in parts)
                if kind != "spaced" or token_texts:  # white space alone has no token there
                    assert (sentence.prefix + sentence.text).endswith(token_texts)
                    assert token_texts.endswith(sentence.text)
                if level == "character":
                    assert all(part.log_prob <= 0 for part in parts)


@pytest.mark.parametrize("level", ["token", "word", "character"])
def test_the_end_is_told_from_a_text_that_spells_it(
    make_tokenizer: Any, score: Any, level: str
) -> None:
    for kind in KINDS:
        for sentence in score(make_tokenizer(kind), ["the dogs ", "<EOS>", " "], level=level):
            *others, end = sentence.parts
            assert (end.text, end.ends) == ("<EOS>", True)
            assert not any(part.ends for part in others)


def test_what_is_unknown_stays_whole(make_tokenizer: Any, score: Any) -> None:
    tokenizer = make_tokenizer("word")
    for level in ("token", "word", "character"):
        (sentence,) = score(tokenizer, ["the zebra were"], level=level)
        (unknown,) = (part for part in sentence.parts if part.unknown)
        assert unknown.span == " zebra"
        assert sentence.unknown_surfaces == ("zebra",)
        assert sentence.unknown == 1


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


def test_a_vocabulary_smaller_than_the_alternatives_gives_all(make_model: Any, score: Any) -> None:
    from textgen.config import TokenizerConfig
    from textgen.tokenizers.character import CharacterTokenizer

    tokenizer = CharacterTokenizer.learn(TokenizerConfig(), ["a\n"])
    (sentence,) = score(tokenizer, ["aa"], level="token", alternatives=5)
    for part in sentence.parts:
        assert len(part.alternatives) == 3
        assert sum(each.probability for each in part.alternatives) == pytest.approx(1)


def test_after_a_bracket_no_word_starts_with_a_space(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("word", min_count=1)
    spellings = Spellings(tokenizer)
    bracket, word = tokenizer.encode("(that cat")[:2].tolist()
    starts = spellings.starts_word()
    assert starts[spellings.way[word]].sum() > 10
    assert np.flatnonzero(starts[spellings.way[bracket]]).tolist() == [EOS]


def text(sentence: str) -> Any:
    from textgen.data.lines import Text

    return Text(1, sentence)
