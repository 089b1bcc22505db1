"""Strings that a sample must hold, put where they fit."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from textgen.errors import UsageError
from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.results import Sample
from textgen.sampling.required import encodings, insertions
from textgen.tokenizers.base import EOS, Tokenizer

MakeModel = Callable[..., Model]
Write = Callable[..., list[Sample]]


def test_every_sample_holds_what_is_required(write: Write) -> None:
    for options in ({}, {"sentences": 2}, {"stop": ["("], "ban": ["cats"]}, {"top_k": 5}):
        for sample in write(count=4, require=["the hat", "and"], **options):
            assert "the hat" in sample.text
            assert "and" in sample.text
            assert sample.tokens <= 30


def test_a_sample_that_holds_it_already_is_left_as_it_is(write: Write) -> None:
    free, bound = write(count=40), write(count=40, require="a")
    for one, other in zip(free, bound, strict=True):
        assert ("a" in one.text) == (one == other)
    assert any("a" not in sample.text for sample in free) or len(free[0].text) > 40


def test_a_sample_depends_on_its_seed_and_index_alone(write: Write) -> None:
    many = write(count=6, require=["the hat"])
    assert write(count=3, require=["the hat"]) == many[:3]
    assert write(count=6, require=["the hat"], seed=2) != many


def test_log_prob_is_of_all_that_is_written(
    text_model: Model, tokenizer: Tokenizer, write: Write
) -> None:
    if tokenizer.level != "char":
        return  # a text has several spellings: the model's need not be the tokenizer's
    for sample in write(count=30, require=["the hat"], length=25):
        ids = tokenizer.encode("the " + sample.text).tolist()
        assert sample.tokens == len(ids) - 4
        scored = Document(text_model, EOS).read(np.array(ids, np.uint32))[4:]
        assert sample.log_prob == pytest.approx(scored.sum(), abs=1e-9)


def test_neither_a_ban_nor_a_stop_is_completed_by_what_is_put_in(write: Write) -> None:
    for sample in write(count=8, require=["hat"], ban=["the hat", "ehat", ")hat"], stop=["ahat"]):
        assert "hat" in sample.text
        assert not any(each in sample.text for each in ("the hat", "ehat", ")hat", "ahat"))


def test_places_are_drawn_by_the_strings_probability_there(make_model: MakeModel) -> None:
    model = make_model(9, spread=5.0, dtype=torch.float64)
    read, written, form = [3, 4], [5, 6, 7, 2, 2, 8], (3, 8)
    expected = []
    for at in range(7):
        ids = np.array([*read, *written[:at], *form], np.uint32)
        expected.append(math.exp(Document(model, EOS).read(ids)[-2:].sum()))
    total, edge = sum(expected), 0.0
    for at, share in enumerate(expected):
        for uniform in (edge + 1e-6, edge + share / total - 1e-6):
            position, ids, log_probs = next(
                insertions(
                    model, read, written, [form], [uniform].pop, positions=range(7), length=99
                )
            )
            assert (position, ids) == (at, form)
            assert math.exp(sum(log_probs)) == pytest.approx(share)
        edge += share / total


@pytest.mark.parametrize(
    ("length", "places"), [(99, {1, 2, 3, 4}), (5, {1, 2, 3}), (4, {1, 2}), (2, set())]
)
def test_each_place_that_is_not_too_late_is_drawn_once(
    make_model: MakeModel, length: int, places: set[int]
) -> None:
    model, draw = make_model(9, dtype=torch.float64), random.Random(0).random
    firsts = set()
    for _ in range(50):
        found = insertions(
            model, [], [2, 3, 4, 5], [(6, 7)], draw, positions=range(1, 5), length=length
        )
        positions = [position for position, _, _ in found]
        assert sorted(positions) == sorted(places)
        firsts.update(positions[:1])
    assert firsts == places


def test_what_the_model_cannot_write_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r"--require 'a\\na' cannot be written: it ends"):
        encodings(tokenizer, "a\na", 40)
    with pytest.raises(UsageError, match=r"does not fit into --length 2"):
        encodings(tokenizer, "the cats, (a hat)", 1)
    if tokenizer.level != "subword":
        with pytest.raises(UsageError, match=r"cannot be written: the model does not know 'ñ'"):
            encodings(tokenizer, "ñ", 40)
    for form in encodings(tokenizer, "a hat", 40):
        assert tokenizer.decode(form).strip() == "a hat"


def test_what_fits_nowhere_is_said(tokenizer: Tokenizer, write: Write) -> None:
    room = sum(min(map(len, encodings(tokenizer, each, 40))) for each in ("a hat", "and"))
    (sample,) = write("the", require=["a hat", "and"], length=room + 1)
    assert "a hat" in sample.text
    assert "and" in sample.text
    with pytest.raises(UsageError, match=r"--require '.*' fits nowhere in sample 0"):
        write("the", require=["a hat", "and"], length=room)
