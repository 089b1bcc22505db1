"""Compiled draws against the rules of ``sampling.decoding``."""

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen.inference.native import kernels
from textgen.sampling import decoding

ROWS = 240

pytestmark = pytest.mark.usefixtures("compiled", "two_threads")


def draw(
    logits: Tensor, logit_mask: Tensor, temperatures: list[float], uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    code = kernels.library(torch.device("cpu"), torch.float32)
    assert code is not None
    return kernels.draw(code, logits, logit_mask, np.array(temperatures), uniforms.numpy())


def by_rules(
    logits: Tensor, logit_mask: Tensor, temperatures: list[float], uniforms: Tensor
) -> Tensor:
    tempered = decoding.temper_rows(logits.double() + logit_mask, temperatures)
    return decoding.draw(tempered.softmax(-1), uniforms)


def random_mask(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """About half of the ids are excluded, but never all of a row."""
    logit_mask = torch.zeros(rows, size, dtype=torch.float64)
    logit_mask[torch.rand(rows, size, generator=generator) < 0.5] = -torch.inf
    logit_mask[:, -1] = 0
    return logit_mask


@pytest.mark.parametrize("size", [1, 2, 66, 5000])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_ids_and_log_probabilities_are_those_of_the_rules(size: int, spread: float) -> None:
    temperatures = [0.0, 1e-6, 0.3, 1.0, 1.7, 100.0] * (ROWS // 6)
    generator = torch.Generator().manual_seed(size)
    logits = spread * torch.randn(ROWS, size, generator=generator)
    uniforms = torch.rand(ROWS, dtype=torch.float64, generator=generator)
    log_softmax = logits.double().log_softmax(-1)
    for logit_mask in (
        torch.zeros(size, dtype=torch.float64),
        random_mask(1, size, generator)[0],
        random_mask(ROWS, size, generator),
    ):
        case = logits, logit_mask, temperatures, uniforms
        ids, log_probs = draw(*case)
        assert torch.equal(ids, by_rules(*case))
        places = ids.unsqueeze(1)
        expected = log_softmax.gather(1, places).squeeze(1)
        torch.testing.assert_close(log_probs, expected, rtol=1e-12, atol=1e-12)
        assert not bool(logit_mask.expand(ROWS, -1).gather(1, places).any())


def test_the_ends_of_the_interval_and_ids_without_probability() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]] * 4)
    uniforms = torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 2**-53], dtype=torch.float64)
    case = logits, torch.zeros(5, dtype=torch.float64), [1.0] * 4, uniforms
    ids, log_probs = draw(*case)
    assert ids.tolist() == by_rules(*case).tolist() == [1, 1, 3, 3]
    assert log_probs.tolist() == pytest.approx([-np.log(2)] * 4)


@pytest.mark.parametrize(("masked", "expected"), [([], 1), ([1], 2)])
def test_at_temperature_0_the_first_of_the_most_probable_is_drawn(
    masked: list[int], expected: int
) -> None:
    logit_mask = torch.zeros(4, dtype=torch.float64)
    logit_mask[masked] = -torch.inf
    uniforms = torch.tensor([0.99], dtype=torch.float64)
    case = torch.tensor([[1.0, 3.0, 3.0, 2.0]]), logit_mask, [0.0], uniforms
    assert draw(*case)[0].tolist() == by_rules(*case).tolist() == [expected]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_or_all_masked_give_no_id(
    temperature: float, number: float
) -> None:
    logits = torch.tensor([[number, 1.0, 2.0], [1.0, number, 2.0], [1.0, 2.0, 3.0]])
    logit_mask = torch.tensor([[-torch.inf, 0.0, 0.0]] * 2 + [[-torch.inf] * 3]).double()
    half = torch.full((3,), 0.5, dtype=torch.float64)
    ids, log_probs = draw(logits, logit_mask, [temperature] * 3, half)
    assert ids.tolist() == [-1] * 3
    assert log_probs.tolist() == [0] * 3
