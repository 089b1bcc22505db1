"""What comes next, and what stands in a blank, against the scorer and against every word."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, train
from textgen.cli.sample import Session
from textgen.config import SamplingConfig, TokenizerConfig
from textgen.errors import UsageError
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.sampling.prediction import _around, next_tokens, next_words
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

MakeModel = Callable[..., Model]
TEXT = "the cat sat on the mat.\nthe dog ran on the road.\n" * 150


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


def test_a_words_probability_is_that_of_all_tokens_that_can_end_it(make_model: MakeModel) -> None:
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blanks")
    (folder / "text.txt").write_text(TEXT)
    return folder


def trained(folder: Path, name: str, **options: Any) -> LanguageModel:
    options = {"hidden_size": (24,), "steps": 60, "batch_size": 8, "learning_rate": 0.02} | options
    train(folder / "text.txt", out=folder / name, sequence_length=16, baseline=False, **options)
    return LanguageModel.load(folder / name)


@pytest.fixture(scope="module")
def both_ways(folder: Path) -> LanguageModel:
    return trained(folder, "both", model="bidirectional", level="word", min_count=1)


@pytest.fixture(scope="module")
def forward(folder: Path) -> LanguageModel:
    return trained(folder, "forward", level="word", min_count=1)


@pytest.mark.parametrize("model", ["both_ways", "forward"])
def test_what_is_after_the_blank_decides(model: str, request: pytest.FixtureRequest) -> None:
    loaded: LanguageModel = request.getfixturevalue(model)
    for verb, animal in (("sat", "cat"), ("ran", "dog")):
        filled = loaded.predict(f"the ____ {verb} on the")
        assert filled.choices[0].text == animal
        assert filled.choices[0].probability > 0.6
        total = math.fsum(choice.probability for choice in filled.choices)
        assert total == pytest.approx(1)


def test_left_to_right_it_is_the_share_of_the_whole_sentence(forward: LanguageModel) -> None:
    filled = forward.predict("the ____ sat on")
    assert len(filled.choices) == forward.tokenizer.vocabulary_size
    words = [choice.text for choice in filled.choices if choice.text.isalpha()]
    whole = forward.score([f"the {word} sat on" for word in words])
    log_probs = {each.text: each.log_prob for each in filled.choices}
    for (word, score), (other, second) in itertools.pairwise(zip(words, whole, strict=True)):
        share = log_probs[word] - log_probs[other]
        assert share == pytest.approx(score.log_prob - second.log_prob, abs=1e-4)


def around(tokenizer: Tokenizer, left: str, right: str) -> tuple[str, str]:
    before, after = _around(tokenizer, left, right)
    assert after[-1] == EOS
    return tuple("|".join(map(tokenizer.token, ids)) for ids in (before, after[:-1]))


def test_what_is_beside_a_blank_is_read_as_in_the_sentence(both_ways: LanguageModel) -> None:
    tokenizer = both_ways.tokenizer
    assert around(tokenizer, "the ", " sat.") == ("the", "sat|￭.")
    assert around(tokenizer, "the ", ".") == ("the", "￭.")
    assert around(tokenizer, "", " cat") == ("", "cat")
    with pytest.raises(UsageError, match="part of a word"):
        _around(tokenizer, "the c", " sat")


def test_a_character_model_fills_one_character(folder: Path) -> None:
    model = trained(folder, "letters", model="bidirectional", level="char", steps=1)
    filled = model.predict("the c____t sat on")
    assert filled.of == "token"
    assert {len(choice.text) for choice in filled.choices if choice.text[0] != "<"} == {1}


def test_what_is_no_blank_or_too_many_is_said(both_ways: LanguageModel) -> None:
    for text in ("the cat", "the ____ sat on the ____"):
        with pytest.raises(UsageError, match="mark it with ____"):
            both_ways.predict(text)
    with pytest.raises(UsageError, match="--words"):
        both_ways.predict("the ____", words=3)


def test_two_underscores_are_text_to_a_model_that_writes(forward: LanguageModel) -> None:
    assert forward.predict("the __").choices[0].text != ""
    assert forward.predict("the").entropy != forward.predict("the ____").entropy


def test_a_bidirectional_model_does_not_generate(both_ways: LanguageModel) -> None:
    for ask in (
        lambda: both_ways.sample("the "),
        lambda: both_ways.samples("the "),
        lambda: both_ways.sample("the ", beams=2),
        lambda: Session(both_ways, SamplingConfig()),
    ):
        with pytest.raises(UsageError, match=r"cannot generate text.* textgen predict"):
            ask()


def test_no_preview_is_written_by_what_cannot_write(folder: Path) -> None:
    seen: list[str] = []
    options: dict[str, Any] = {"model": "bidirectional", "steps": 3, "sample_every": 1e-9}
    trained(folder, "preview", on_event=lambda event: seen.append(type(event).__name__), **options)
    assert "TrainingSample" not in seen


def test_its_scores_are_pseudo_by_the_definition(both_ways: LanguageModel) -> None:
    score = both_ways.score("the cat sat", level="token")
    assert score.pseudo and both_ways.header.validation is not None
    assert both_ways.header.validation.pseudo
    filled = both_ways.predict("the ____ sat")
    cat = next(choice.log_prob for choice in filled.choices if choice.text == "cat")
    assert score.parts is not None
    assert score.parts[1].log_prob == pytest.approx(cat, abs=1e-5)
    assert score.log_prob == pytest.approx(sum(part.log_prob for part in score.parts), abs=1e-5)


@pytest.mark.parametrize(
    "options", [{"level": "word"}, {"prefix": "the "}, {"open_vocabulary": True}]
)
def test_what_pseudo_scores_cannot_tell_is_refused(
    both_ways: LanguageModel, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="model"):
        both_ways.score("the cat", **options)
