"""A model over more tokens: the old ones are as they were, the new ones are unknowns."""

import math

import pytest
import torch

from textgen.config import RecurrentConfig
from textgen.models import Model, build
from textgen.training.fine_tuning import extended

SHAPES = [((7,), 6, False), ((7, 5, 9), 6, False), ((5, 7), 7, True)]
OLD, NEW = 11, 15


def random_model(hidden: tuple[int, ...], embedding: int, tie: bool) -> Model:
    config = RecurrentConfig(
        hidden_size=hidden, embedding_size=embedding, tie=tie, vocabulary_size=OLD
    )
    model = build(config)
    model.initialize(torch.Generator().manual_seed(3))
    with torch.no_grad():
        model.get_parameter("output.bias").normal_(generator=torch.Generator().manual_seed(4))
    return model


@pytest.mark.parametrize(("hidden", "embedding", "tie"), SHAPES)
def test_old_tokens_keep_their_logits(hidden: tuple[int, ...], embedding: int, tie: bool) -> None:
    model = random_model(hidden, embedding, tie)
    bigger = extended(model, NEW)
    ids = torch.randint(OLD, (20, 3), generator=torch.Generator().manual_seed(5))
    before, _ = model(ids, model.start(3))
    after, _ = bigger(ids, bigger.start(3))
    assert after.shape == (20, 3, NEW)
    torch.testing.assert_close(after[..., :OLD], before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("hidden", "embedding", "tie"), SHAPES)
def test_new_tokens_share_the_probability_of_one_unknown(
    hidden: tuple[int, ...], embedding: int, tie: bool
) -> None:
    bigger = extended(random_model(hidden, embedding, tie), NEW)
    logits, _ = bigger(torch.tensor([[1], [4], [2]]), bigger.start(1))
    shares = logits.softmax(-1)
    new = shares[..., OLD:]
    torch.testing.assert_close(new.sum(-1), shares[..., 0])
    torch.testing.assert_close(new.amin(-1), new.amax(-1))
    bias = bigger.get_parameter("output.bias")
    assert bias[OLD].item() == pytest.approx(bias[0].item() - math.log(NEW - OLD))


def test_a_new_token_is_read_as_an_unknown_one() -> None:
    bigger = extended(random_model(*SHAPES[0]), NEW)
    read_new, _ = bigger(torch.tensor([[1], [NEW - 1]]), bigger.start(1))
    read_unknown, _ = bigger(torch.tensor([[1], [0]]), bigger.start(1))
    assert torch.equal(read_new, read_unknown)


def test_tied_weights_stay_tied_and_new_tokens_part_by_learning() -> None:
    bigger = extended(random_model(*SHAPES[2]), NEW)
    embedding = bigger.get_parameter("embedding.weight")
    assert embedding is bigger.get_submodule("output").weight
    logits, _ = bigger(torch.tensor([[1], [NEW - 1]]), bigger.start(1))
    loss = torch.nn.functional.cross_entropy(logits[:, 0], torch.tensor([NEW - 1, NEW - 2]))
    loss.backward()
    assert embedding.grad is not None
    assert not torch.equal(embedding.grad[NEW - 1], embedding.grad[NEW - 2])


def test_no_more_tokens_is_the_same_model() -> None:
    model = random_model(*SHAPES[0])
    assert extended(model, OLD) is model
