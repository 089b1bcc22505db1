"""The softmax over a sample of the vocabulary."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.models.candidates import Candidates, CandidateSampler, inclusion_probabilities

COUNTS = np.array([900, 400, 90, 50, 20, 9, 9, 4, 1, 1, 0, 0])
SIZE = 6
HIDDEN = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 8, 3, 3, 11])


def layer() -> nn.Linear:
    made = nn.Linear(7, len(COUNTS))
    with torch.no_grad():
        made.weight.normal_(0, 0.4, generator=torch.Generator().manual_seed(2))
        made.bias.copy_(torch.from_numpy((COUNTS + 0.5) / COUNTS.sum()).log())
    return made


def drawn(times: int, size: int = SIZE) -> list[Candidates]:
    sampler = CandidateSampler(COUNTS, size, sparse=False)
    generator = torch.Generator().manual_seed(3)
    return [sampler.draw(TARGETS, generator) for _ in range(times)]


@pytest.mark.parametrize("size", [1, 2, 5, 11, 12, 100])
def test_inclusion_probabilities_rise_with_the_root_of_the_count_and_sum_to_the_size(
    size: int,
) -> None:
    found = inclusion_probabilities(COUNTS, size)
    assert found.sum() == pytest.approx(min(size, len(COUNTS)))
    assert (np.diff(found) <= 0).all() and found.max() <= 1
    below = found < 1
    ratios = found[below] / np.sqrt(COUNTS[below] + 0.5)
    assert ratios == pytest.approx(ratios[:1].repeat(len(ratios)))


def test_the_targets_are_among_the_candidates_at_their_places() -> None:
    for candidates in drawn(20):
        assert torch.equal(candidates.ids[candidates.places], TARGETS)
        assert torch.equal(candidates.ids, candidates.ids.unique())
        assert not candidates.log_inclusion[candidates.places].any()


def test_each_other_token_is_drawn_as_often_as_its_probability_says() -> None:
    times = 4000
    found = torch.zeros(len(COUNTS))
    for candidates in drawn(times):
        found[candidates.ids] += 1
    expected = torch.from_numpy(inclusion_probabilities(COUNTS, SIZE))
    expected[TARGETS] = 1.0
    deviation = (expected * (1 - expected) / times).sqrt()
    assert bool(((found / times - expected).abs() <= 4 * deviation + 1e-9).all())


def by_draws(times: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """For each draw, the estimated sum of exponentials of each row (times, 5), and the gradient
    of the mean loss with respect to the weights and hidden states (times, numbers)."""
    sums, gradients = [], []
    for candidates in drawn(times, size):
        output, hidden = layer(), HIDDEN.clone().requires_grad_()
        with torch.no_grad():
            logits = output(hidden)[:, candidates.ids] - candidates.log_inclusion
            sums.append(logits.exp().sum(1))
        candidates.losses(output, hidden, candidates.places).mean().backward()
        assert output.weight.grad is not None and hidden.grad is not None
        gradients.append(torch.cat([output.weight.grad.flatten(), hidden.grad.flatten()]))
    return torch.stack(sums), torch.stack(gradients)


def test_the_sum_over_the_vocabulary_is_right_on_average() -> None:
    sums, _ = by_draws(2000)
    error = sums.std(0) / len(sums) ** 0.5
    exact = layer()(HIDDEN).exp().sum(1)
    assert bool(((sums.mean(0) - exact).abs() < 3 * error).all())
    assert bool((error < 0.05 * exact).all())


def test_the_gradient_is_that_of_the_full_softmax_on_average() -> None:
    # The estimate of a logarithm has a bias, which falls with the variance of the sum.
    _, gradients = by_draws(100, size=9)
    output, hidden = layer(), HIDDEN.clone().requires_grad_()
    functional.cross_entropy(output(hidden), TARGETS).backward()
    assert output.weight.grad is not None and hidden.grad is not None
    exact = torch.cat([output.weight.grad.flatten(), hidden.grad.flatten()])
    error = gradients.std(0) / len(gradients) ** 0.5
    off = (gradients.mean(0) - exact).abs() / (error + 1e-7)
    assert float((off < 3).float().mean()) > 0.98
    assert float((gradients.mean(0) - exact).norm() / exact.norm()) < 0.02


def test_with_every_token_a_candidate_the_loss_is_that_of_the_full_softmax() -> None:
    (candidates,) = drawn(1, size=len(COUNTS))
    exact = functional.cross_entropy(layer()(HIDDEN), TARGETS, reduction="none")
    assert torch.allclose(candidates.losses(layer(), HIDDEN, candidates.places), exact, atol=1e-6)
