"""Alternatives of a word are words, with the probabilities that they would have had as the word."""

from typing import Any

import pytest
import torch

from textgen.config import ScoringConfig
from textgen.scoring import words
from textgen.scoring.words import WordSearch

KINDS = ["char", "word", "spaced", "subword"]


@pytest.fixture
def search(make_model: Any, score: Any) -> Any:
    """search(tokenizer, texts): scores by word with the alternatives of each."""

    def of(tokenizer: Any, texts: Any, **options: Any) -> Any:
        model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
        config = ScoringConfig(level="word", alternatives=4, **options)
        plain = score(tokenizer, texts, level="word", alternatives=4, **options)
        return list(WordSearch(model, tokenizer, config).scores(plain))

    return of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", ["sentence", "document"])
def test_an_alternative_has_the_probability_that_it_would_have_as_the_word(
    kind: str, context: str, search: Any, score: Any, make_tokenizer: Any
) -> None:
    tokenizer = make_tokenizer(kind)
    options = {"context": context}
    before, text = "a cat", "the dogs were tired"
    part = search(tokenizer, [before, text], **options)[1].parts[2]
    assert part.text == "were"
    checked = 0
    for choice in part.alternatives:
        if "<" in choice.text or not choice.text.isprintable():
            continue
        other = text.replace("were", choice.text)
        same = score(tokenizer, [before, other], level="word", **options)[1].parts[2]
        assert same.text == choice.text
        exact = kind in ("char", "spaced")  # others may write a word in several ways
        assert choice.log_prob == pytest.approx(same.log_prob, abs=1e-6 if exact else 0.5)
        assert choice.log_prob >= same.log_prob - 1e-6
        checked += 1
    assert checked
    log_probs = [choice.log_prob for choice in part.alternatives]
    assert log_probs == sorted(log_probs, reverse=True)
    if part.log_prob > log_probs[-1]:
        assert part.text in [choice.text for choice in part.alternatives]


def test_the_end_and_the_first_word_after_a_prefix_have_theirs(
    search: Any, make_tokenizer: Any
) -> None:
    tokenizer = make_tokenizer("char")
    (sentence,) = search(tokenizer, [("the ca", "t sat")], eos=True)
    assert [part.text for part in sentence.parts] == ["t", "sat", "<EOS>"]
    assert all(len(part.alternatives) == 4 for part in sentence.parts)
    (end,) = [each for each in sentence.parts[2].alternatives if each.ends]
    assert end.log_prob == pytest.approx(sentence.parts[2].log_prob)


def test_only_the_first_words_are_searched(
    search: Any, make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "MOST_SEARCHED_WORDS", 3)
    first, second = search(make_tokenizer("word"), ["the cat", "a dog"])
    given = [bool(part.alternatives) for part in (*first.parts, *second.parts)]
    assert given == [True] * 3 + [False] * 3
