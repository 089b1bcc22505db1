"""What comes next, against the scorer and against every way to write a word."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from textgen.config import TokenizerConfig
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.sampling.prediction import next_tokens, next_words
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

MakeModel = Callable[..., Model]


def learned(text: str, **options: object) -> Tokenizer:
    return learn_tokenizer(TokenizerConfig.from_options(options), [(text, False)])


def probability(model: Model, ids: list[int], read: int) -> float:
    """Of these ids after the first ``read`` of them."""
    scored = Document(model, EOS).read(np.array(ids, np.uint32))
    return math.exp(scored[read:].sum())


def test_all_tokens_are_there_with_the_scorers_probabilities(make_model: MakeModel) -> None:
    tokenizer = learned("abc d\n")
    model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
    predicted = next_tokens(model, tokenizer, "ab")
    read = tokenizer.encode("ab").tolist()
    assert [choice.text for choice in predicted.choices] != sorted(tokenizer.encode("abc d\n"))
    for choice in predicted.choices:
        assert choice.id is not None
        assert choice.text == tokenizer.token(choice.id)
        assert choice.probability == pytest.approx(probability(model, [*read, choice.id], 2))
    shares = [choice.probability for choice in predicted.choices]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert predicted.rest == pytest.approx(0, abs=1e-12)
    assert predicted.entropy == pytest.approx(-sum(p * math.log2(p) for p in shares))


def test_a_words_probability_is_that_of_all_that_settles_it(make_model: MakeModel) -> None:
    tokenizer = learned("ab c.\n")
    model = make_model(tokenizer.vocabulary_size, spread=4.0, dtype=torch.float64)
    prompt = "ab "
    read = tokenizer.encode(prompt).tolist()
    predicted = next_words(model, tokenizer, prompt, 8)
    ends = [UNK, EOS, *tokenizer.encode(" .").tolist()]  # no word goes on with these
    expected: dict[str, float] = {}
    for length in (1, 2, 3, 4):
        for letters in itertools.product("abc", repeat=length):
            word = "".join(letters)
            ids = [*read, *tokenizer.encode(word).tolist()]
            expected[word] = sum(probability(model, [*ids, end], len(read)) for end in ends)
    checked = 0
    for choice in predicted.choices:
        if choice.text in expected:
            assert choice.probability == pytest.approx(expected[choice.text], rel=1e-3)
            checked += 1
    assert checked >= 3
    assert len(predicted.choices) == 8
    shares = [choice.probability for choice in predicted.choices]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + predicted.rest == pytest.approx(1)
    missed = [w for w, p in expected.items() if p > 1.05 * shares[-1]]
    assert set(missed) <= {choice.text for choice in predicted.choices}


@pytest.mark.parametrize("level", ["word", "subword"])
def test_words_of_other_tokens(level: str, make_model: MakeModel) -> None:
    text = "the cats, the hats and don't\n" * 9
    options = {"min_count": 1} if level == "word" else {"vocab_size": 280}
    tokenizer = learned(text, level=level, **options)
    model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
    predicted = next_words(model, tokenizer, "the", 6)
    assert len(predicted.choices) == 6
    assert len({choice.text for choice in predicted.choices}) == 6
    assert 0 <= predicted.rest < 1
    if level == "word":
        tokens = next_tokens(model, tokenizer, "the").choices
        shares = [choice.probability for choice in predicted.choices]
        assert shares[0] == pytest.approx(tokens[0].probability)


def test_a_word_with_an_apostrophe_is_one(make_model: MakeModel) -> None:
    tokenizer = learned("don't\n")
    model = make_model(tokenizer.vocabulary_size, dtype=torch.float64)
    ids = {symbol: tokenizer.encode(symbol).tolist()[0] for symbol in "don't"}
    with torch.no_grad():  # after each letter the next of the word is all but sure
        model.get_parameter("output.weight").zero_()
        model.get_parameter("output.bias").fill_(-30)
        model.get_parameter("output.bias")[ids["t"]] = 0
        model.get_parameter("output.bias")[EOS] = 0
    words = {choice.text for choice in next_words(model, tokenizer, "don'", 3).choices}
    assert words == {"<EOS>", "t", "tt"}
