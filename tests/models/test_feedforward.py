from typing import Any

import pytest
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.models import Model, build
from textgen.tokenizers.base import EOS

VOCABULARY = 9
KINDS = ("feedforward", "bag-of-words")


def made(name: str, **sizes: Any) -> Model:
    small = {"window": 4, "hidden_size": (8,), "embedding_size": 5} | sizes
    model = build(ModelConfig.from_options({"model": name, **small}).resolved(VOCABULARY))
    model.initialize(torch.Generator().manual_seed(2))
    return model.double()


def ids(time: int, batch: int = 1) -> Tensor:
    return torch.randint(VOCABULARY, (time, batch), generator=torch.Generator().manual_seed(4))


def last_logits(model: Model, text: Tensor) -> Tensor:
    with torch.no_grad():
        return model(text, model.start(text.shape[1]))[0][-1]


@pytest.mark.parametrize("name", KINDS)
def test_nothing_matters_that_the_window_does_not_reach(name: str) -> None:
    model, text = made(name), ids(12)
    long_ago, just_seen = text.clone(), text.clone()
    long_ago[-5], just_seen[-4] = (text[-5] + 1) % VOCABULARY, (text[-4] + 1) % VOCABULARY
    assert torch.equal(last_logits(model, text), last_logits(model, long_ago))
    assert not torch.allclose(last_logits(model, text), last_logits(model, just_seen))


def test_order_is_all_that_a_bag_throws_away() -> None:
    text = torch.tensor([[3], [5], [2], [7]])
    for name in KINDS:
        model = made(name)
        same = torch.allclose(last_logits(model, text), last_logits(model, text.flip(0)))
        assert same == (name == "bag-of-words")
        other = torch.tensor([[3], [5], [2], [2]])
        assert not torch.allclose(last_logits(model, text), last_logits(model, other))


@pytest.mark.parametrize("name", KINDS)
def test_a_text_begins_as_after_ends_of_sentences(name: str) -> None:
    model, text = made(name), ids(2)
    padded = torch.cat([torch.full((3, 1), EOS), text])
    assert torch.allclose(last_logits(model, text), last_logits(model, padded))


@pytest.mark.parametrize("name", KINDS)
def test_few_places_and_many_are_computed_two_ways_with_one_result(name: str) -> None:
    model, text = made(name), ids(VOCABULARY + 3)
    whole = model(text, model.start(1))[0]
    state, rows = model.start(1), []
    for some in text.split(2):
        logits, state = model(some, state)
        rows.append(logits)
    assert torch.allclose(whole, torch.cat(rows), atol=1e-12)


def test_the_first_layer_is_the_product_with_the_embeddings_side_by_side() -> None:
    model = made("feedforward")
    state = model.state_dict()
    seen = ids(4)
    inputs = state["embedding.weight"][seen.flatten()].flatten()
    hidden = (state["layers.0.weight"] @ inputs + state["layers.0.bias"]).tanh()
    expected = state["output.weight"] @ hidden + state["output.bias"]
    assert torch.allclose(last_logits(model, seen)[0], expected)
    assert torch.allclose(last_logits(model, torch.cat([ids(9), seen]))[0], expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_window_of_one_token_sees_it_alone(name: str) -> None:
    model, text = made(name, window=1), ids(6)
    assert torch.allclose(last_logits(model, text), last_logits(model, text[-1:]))
    state = model(text, model.start(1))[1]
    assert bool(state.close_to(model.start(1), 0).all())  # there is nothing to remember
