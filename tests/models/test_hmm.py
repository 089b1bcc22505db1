"""The hidden Markov model against sums over paths, in several precisions, with dropout."""

import itertools

import pytest
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.models import build
from textgen.models.base import Dropout
from textgen.models.hmm import HiddenMarkovModel

VOCABULARY, STATES = 5, 3


def made(states: int = STATES, spread: float = 1.0) -> HiddenMarkovModel:
    model = build(ModelConfig.from_options({"model": "hmm", "states": states}).resolved(VOCABULARY))
    assert isinstance(model, HiddenMarkovModel)
    generator = torch.Generator().manual_seed(6)
    model.initialize(generator)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def log_prob(model: HiddenMarkovModel, text: list[int]) -> Tensor:
    """ln p(all tokens but the first | the first) by the model."""
    ids = torch.tensor(text).unsqueeze(1)
    features, _ = model.hidden_states(ids[:-1], model.start(1))
    return model.log_probs(features.flatten(0, 1), ids[1:, 0]).sum()


def by_enumeration(model: HiddenMarkovModel, text: list[int]) -> Tensor:
    """ln p(text): the sum over all paths of hidden states."""
    initial = model.initial.softmax(0)
    transition = model.transition.softmax(1)
    emission = (model.emission.weight + model.emission.bias.unsqueeze(1)).softmax(0)
    paths = []
    for path in itertools.product(range(len(initial)), repeat=len(text)):
        joint = initial[path[0]] * emission[text[0], path[0]]
        for (before, state), token in zip(itertools.pairwise(path), text[1:], strict=True):
            joint = joint * transition[before, state] * emission[token, state]
        paths.append(joint)
    return torch.stack(paths).sum().log()


def test_the_forward_algorithm_sums_over_all_paths_and_so_does_its_gradient() -> None:
    model, text = made(), [1, 4, 0, 2, 2, 3]
    found = log_prob(model, text)
    expected = by_enumeration(model, text) - by_enumeration(model, text[:1])
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    weights = list(model.parameters())
    for mine, right in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        assert torch.allclose(mine, right, atol=1e-12)


def test_the_initial_distribution_is_trained_only_where_a_text_begins() -> None:
    model, ids = made(), torch.tensor([[1, 0], [4, 2]])
    _, state = model.hidden_states(ids, model.start(2))
    assert torch.allclose(state.named["belief"].exp().sum(-1), torch.ones(2).double())
    carried = state.detach().keep(torch.tensor([True, False]))
    features, _ = model.hidden_states(ids, carried)
    for row, trained in enumerate([False, True]):
        log_probs = model.log_probs(features[:, row], ids[:, row])
        (gradient,) = torch.autograd.grad(log_probs.sum(), model.initial, retain_graph=True)
        assert bool(gradient.any()) == trained


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1e3, 1e6])
def test_extreme_weights_give_finite_numbers(spread: float, dtype: torch.dtype) -> None:
    model = made(spread=spread).to(dtype)
    ids = torch.arange(40).remainder(VOCABULARY).unsqueeze(1)
    features, state = model.hidden_states(ids, model.start(1))
    loss = model.losses(features[:, 0], ids[:, 0]).mean()
    loss.backward()
    found = [loss, model.logits(features), state.named["belief"]]
    found += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(found) == 3 + 4
    assert all(bool(each.isfinite().all()) for each in found)


def test_a_long_text_is_as_exact_in_single_precision() -> None:
    model = made(states=20)
    text = torch.randint(VOCABULARY, (2000,), generator=torch.Generator().manual_seed(8)).tolist()
    with torch.no_grad():
        exact, single = log_prob(model, text), log_prob(model.float(), text)
    assert float(single) == pytest.approx(float(exact), rel=1e-6)


def test_dropout_masks_hidden_states_and_leaves_a_distribution() -> None:
    model, ids = made(states=12), torch.tensor([[1], [4], [0]])
    dropout = Dropout(0.5, torch.Generator().manual_seed(1))
    features, _ = model.hidden_states(ids, model.start(1), dropout)
    probabilities = model.logits(features).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(3, 1).double())
    beliefs = features + model.log_normalizers()
    masked = beliefs[:, 0].exp() < 1e-9
    assert 0 < int(masked[0].sum()) < 12 and bool((masked == masked[0]).all())
    assert not torch.allclose(model.hidden_states(ids, model.start(1))[0], features)
