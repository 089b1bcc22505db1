"""Characters inside tokens, each with its share of what the token costs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from textgen.tokenizers.base import EOS, UNK


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
    from textgen.config import TokenizerConfig
    from textgen.tokenizers.word import WordTokenizer

    config = TokenizerConfig(level="word", min_count=1)
    tokenizer = WordTokenizer.learn(config, [" the cat\n  the dogs\n"])
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
