"""Compiled drawing against the rules of ``decoding``."""

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen.inference.native import draw, library
from textgen.sampling import decoding

ROWS = 40


@pytest.fixture(autouse=True)
def _compiled(compiled: None, two_threads: None) -> None:
    pass


def by_rules(
    logits: Tensor, barrier: Tensor, temperatures: list[float], uniforms: Tensor
) -> Tensor:
    tempered_ = decoding.temper_rows(logits.double() + barrier, temperatures)
    return decoding.draw(decoding.distribution(tempered_), uniforms)


def both(
    logits: Tensor, barrier: Tensor, temperatures: list[float], uniforms: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and log-probabilities of compiled code, and the ids by the rules."""
    code = library(torch.device("cpu"), torch.float32)
    assert code is not None
    ids, log_probs = draw(code, logits, barrier, np.array(temperatures), uniforms.numpy())
    return ids, log_probs, by_rules(logits, barrier, temperatures, uniforms)


def barred(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """Half of the ids are kept out, but never all of a row."""
    barrier = torch.zeros(rows, size, dtype=torch.float64)
    barrier[torch.rand(rows, size, generator=generator) < 0.5] = -torch.inf
    barrier[:, -1] = 0
    return barrier


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 0.3, 1.0, 1.7, 100.0])
@pytest.mark.parametrize("size", [1, 2, 66, 5000])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_it_draws_as_the_rules_do(temperature: float, size: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(size)
    logits = spread * torch.randn(ROWS, size, generator=generator)
    uniforms = torch.rand(ROWS, dtype=torch.float64, generator=generator)
    for barrier in (
        torch.zeros(size, dtype=torch.float64),
        barred(1, size, generator)[0],
        barred(ROWS, size, generator),
    ):
        ids, log_probs, expected = both(logits, barrier, [temperature] * ROWS, uniforms)
        assert torch.equal(ids, expected)
        whole = logits.double().log_softmax(-1).gather(1, ids.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(log_probs, whole, rtol=1e-12, atol=1e-12)
        assert bool(
            torch.isfinite((barrier + torch.zeros(ROWS, size)).gather(1, ids[:, None])).all()
        )


def test_each_row_has_its_own_temperature() -> None:
    logits = torch.randn(ROWS, 30, generator=torch.Generator().manual_seed(1))
    uniforms = torch.rand(ROWS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    temperatures = [0.0, 0.5, 1.0, 7.0] * (ROWS // 4)
    ids, _, expected = both(logits, torch.zeros(30, dtype=torch.float64), temperatures, uniforms)
    assert torch.equal(ids, expected)


def test_the_ends_of_the_interval_and_ids_without_a_share() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]] * 4)
    uniforms = torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 2**-53], dtype=torch.float64)
    ids, log_probs, expected = both(
        logits, torch.zeros(5, dtype=torch.float64), [1.0] * 4, uniforms
    )
    assert ids.tolist() == expected.tolist() == [1, 1, 3, 3]
    assert log_probs.tolist() == pytest.approx([-np.log(2)] * 4)


def test_the_first_of_the_likeliest_is_drawn_without_chance() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    barrier = torch.zeros(4, dtype=torch.float64)
    uniforms = torch.tensor([0.99], dtype=torch.float64)
    assert both(logits, barrier, [0.0], uniforms)[0].tolist() == [1]
    barrier[1] = -torch.inf
    assert both(logits, barrier, [0.0], uniforms)[0].tolist() == [2]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_drawn_from(temperature: float, number: float) -> None:
    code = library(torch.device("cpu"), torch.float32)
    assert code is not None
    logits = torch.tensor([[number, 1.0, 2.0], [1.0, number, 2.0]])
    barrier = torch.tensor([-torch.inf, 0.0, 0.0], dtype=torch.float64)
    ids, log_probs = draw(code, logits, barrier, np.full(2, temperature), np.full(2, 0.5))
    assert ids.tolist() == [-1, -1]
    assert log_probs.tolist() == [0, 0]


def test_where_nothing_is_open_nothing_is_drawn() -> None:
    code = library(torch.device("cpu"), torch.float32)
    assert code is not None
    barrier = torch.zeros(2, 3, dtype=torch.float64)
    barrier[1] = -torch.inf
    ids, _ = draw(code, torch.zeros(2, 3), barrier, np.ones(2), np.full(2, 0.5))
    assert ids.tolist() == [1, -1]
