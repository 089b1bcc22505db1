import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.sampling import decoding
from textgen.sampling.decoding import (
    Rule,
    add_bias,
    draw,
    exclude_top_choices,
    filters,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalize_dry,
    penalize_frequency,
    penalize_presence,
    penalize_repetition,
    temper_rows,
)

LOGITS = torch.tensor([1.5, -0.7, 0.3, 2.2, -2.0, 0.0, 1.0, -1.2, 0.8, -0.1, 1.9, -3.0])


def probabilities(
    logits: Tensor = LOGITS, banned: Tensor | None = None, **options: object
) -> Tensor:
    """The distribution over one row of logits, float64 (vocabulary,)."""
    rows = logits.double().unsqueeze(0)
    if banned is not None:
        rows = rows.masked_fill(banned, -torch.inf)
    config = SamplingConfig.from_options(options)
    return filtered(temper_rows(rows, config.temperature), filters(config)).softmax(-1)[0]


def filtered(logits: Tensor, rules: Sequence[tuple[Rule, Any]]) -> Tensor:
    return functools.reduce(lambda logits, rule: rule[0](logits, rule[1]), rules, logits)


def kept(rule: Callable[..., Tensor], shares: Sequence[float], *given: object) -> list[int]:
    """Which ids a rule keeps of a distribution; what it keeps, it keeps as it is."""
    logits = torch.tensor([list(shares)], dtype=torch.float64).log()
    after = rule(logits, *given)
    ids = after[0].isfinite().nonzero().flatten().tolist()
    assert torch.equal(after[0, ids], logits[0, ids])
    return [int(id) for id in ids]


def test_temperature_zero_is_greedy() -> None:
    assert probabilities(temperature=0).tolist() == [float(id == 3) for id in range(12)]
    rows = torch.stack([LOGITS, -LOGITS]).double()
    greedy = temper_rows(rows, [0, 0])
    assert greedy.isfinite().nonzero().tolist() == [[0, 3], [1, 11]]
    one_of_two = temper_rows(rows, [0, 1])
    assert one_of_two.isfinite().sum(-1).tolist() == [1, 12]


def test_greedy_passes_over_a_banned_id_and_takes_the_first_of_equals() -> None:
    banned = torch.arange(12) == 3
    assert probabilities(banned=banned, temperature=0).argmax() == 10
    assert probabilities(torch.tensor([0.0, 2.0, 2.0]), temperature=0).tolist() == [0, 1, 0]


def test_low_temperature_concentrates_on_the_most_probable_token() -> None:
    shares = [probabilities(temperature=t)[3].item() for t in (1e9, 2.0, 1.0, 0.5, 0.1, 0.01)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 12) and shares[-1] > 1 - 1e-12


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30, 1e300])
def test_no_temperature_overflows(temperature: float) -> None:
    shares = probabilities(torch.tensor([1e30, -1e30, 9.9e29]), temperature=temperature)
    assert bool(shares.isfinite().all())
    assert shares.sum().item() == pytest.approx(1)
    assert shares.argmax() == 0


def test_top_k_keeps_the_k_most_probable_in_proportion_and_of_ties_the_lower_id() -> None:
    few, plain = probabilities(top_k=3), probabilities()
    assert few.nonzero().flatten().tolist() == [0, 3, 10]
    assert few.sum().item() == pytest.approx(1, abs=1e-12)
    assert (few[0] / few[3]).item() == pytest.approx((plain[0] / plain[3]).item())
    assert kept(keep_top_k, [0.2, 0.4, 0.2, 0.2], 2) == [0, 1]


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    for p, count in ((0.01, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.875, 3), (0.9, 4)):
        assert kept(keep_top_p, [0.125, 0.5, 0.25, 0.125], p) == sorted([1, 2, 0, 3][:count]), p
    assert kept(keep_top_p, [0.95, *[1e-27] * 5, 0.05], 1.0) == list(range(7))


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999, 1 - 1e-15])
def test_top_p_of_a_large_vocabulary_is_that_of_all_of_it_sorted(p: float) -> None:
    logits = torch.randn(3, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits *= torch.tensor([[0.1], [1.0], [5.0]])
    for row, after in zip(logits, keep_top_p(logits, p), strict=True):
        ordered, order = row.softmax(-1).sort(descending=True)
        needed = int((ordered.cumsum(-1) < p).sum()) + 1
        assert after.isfinite().nonzero().flatten().tolist() == sorted(order[:needed].tolist())


def test_min_p_keeps_what_is_near_the_most_probable() -> None:
    shares = [0.1, 0.4, 0.2, 0.3]
    assert kept(keep_min_p, shares, 0.0) == [0, 1, 2, 3]
    assert kept(keep_min_p, shares, 0.26) == [1, 2, 3]
    assert kept(keep_min_p, shares, 0.74) == [1, 3]
    assert kept(keep_min_p, shares, 1.0) == [1]
    assert kept(keep_min_p, [0.3, 0.3, 0.4 / 3, 0.4 / 3, 0.4 / 3], 1.0) == [0, 1]


@pytest.mark.parametrize("rule", [keep_top_p, keep_typical])
def test_all_mass_on_one_token_is_kept_and_of_equals_the_lower_ids(
    rule: Callable[..., Tensor],
) -> None:
    for p in (1e-9, 0.5, 1 - 1e-16, 1.0):
        assert 1 in kept(rule, [0.0, 1.0, 0.0, 0.0], p)
    assert kept(rule, [0.25] * 4, 0.4) == [0, 1]
    assert kept(rule, [0.25] * 4, 0.51) == [0, 1, 2]


def test_what_one_rule_left_out_no_other_brings_back() -> None:
    rules: list[tuple[Rule, Any]] = [
        (keep_top_k, 3),
        (keep_typical, 0.99999),
        (keep_top_p, 0.99999),
        (keep_min_p, 1e-9),
        (decoding.temper, 100),
    ]
    for order in (rules, rules[::-1], rules[2:] + rules[:2]):
        after = filtered(LOGITS.double().unsqueeze(0), order)
        assert after.isfinite().nonzero()[:, 1].tolist() == [0, 3, 10]


def test_a_repetition_penalty_makes_what_was_seen_less_likely_on_both_sides_of_zero() -> None:
    logits = torch.tensor([[2.0, -2.0, 0.0, 2.0, -2.0]], dtype=torch.float64)
    seen = torch.tensor([[True, True, True, False, False]])
    assert penalize_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 0.0, 2.0, -2.0]]
    assert torch.equal(penalize_repetition(logits, seen, 1.0), logits)


def test_a_frequency_penalty_counts() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    counts = torch.tensor([[0, 1, 5]])
    assert penalize_frequency(logits, counts, 0.5).tolist() == [[1.0, 0.5, -1.5]]


def test_a_presence_penalty_does_not_count() -> None:
    logits, counts = torch.ones(1, 3, dtype=torch.float64), torch.tensor([[0, 1, 5]])
    assert penalize_presence(logits, counts, 0.5).tolist() == [[1.0, 0.5, 0.5]]


def test_a_bias_is_added_to_the_logits_of_its_ids_in_every_row() -> None:
    logits = torch.arange(8, dtype=torch.float64).view(2, 4)
    biased = add_bias(logits, [(3, 1.5), (0, -100.0), (3, 0.25)])
    expected = logits.numpy() + np.array([-100.0, 0, 0, 1.75])
    np.testing.assert_array_equal(biased.numpy(), expected)


@pytest.mark.parametrize(("base", "allowed"), [(1.75, 2), (1.0, 1), (3.5, 4)])
def test_dry_subtracts_a_power_of_the_base_from_the_allowed_length_on(
    base: float, allowed: int
) -> None:
    lengths = np.array([[0, 1, 2, 3, 4, 9, 700], [5, 0, 0, 4, 1, 2, 3]])
    logits = np.random.default_rng(0).normal(size=lengths.shape)
    largest = 1e9 if base == 1 else int(88.7228391 / np.log(base))  # no float32 is larger
    exponents = np.minimum(lengths - allowed, largest)
    with np.errstate(over="ignore"):
        expected = logits - np.where(exponents >= 0, 0.8 * base ** exponents.astype(float), 0)
    found = penalize_dry(torch.from_numpy(logits), torch.from_numpy(lengths), 0.8, base, allowed)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def plainly_excluded(shares: npt.NDArray[np.float64], threshold: float) -> list[int]:
    """The ids that XTC excludes, as llama.cpp does: sorted, all that reach it but the last."""
    order = [int(id) for id in np.argsort(-shares, kind="stable")]
    return [id for id in order if shares[id] >= threshold and shares[id] > 0][:-1]


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.08, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_xtc_leaves_the_least_probable_of_the_top_choices(threshold: float) -> None:
    random = np.random.default_rng(1)
    rows = random.dirichlet(np.full(10, 0.6), size=50)
    rows[0, :4] = rows[0, 3]  # of equals the last is kept
    rows[1, 5:] = 0
    rows /= rows.sum(1, keepdims=True)
    chosen = random.random(50) < 0.7
    logits = torch.from_numpy(rows).log()
    after = exclude_top_choices(logits, threshold, torch.from_numpy(chosen))
    for before, row, is_chosen in zip(logits, after, chosen, strict=True):
        shares = before.softmax(-1).numpy()
        excluded = plainly_excluded(shares, threshold) if is_chosen else []
        expected = before.clone()
        expected[excluded] = -torch.inf
        assert torch.equal(row, expected)
        assert bool(row.isfinite().any())


def test_a_draw_is_the_id_in_whose_share_the_uniform_falls() -> None:
    shares = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999], dtype=torch.float64)
    assert draw(shares.expand(6, 3), uniforms).tolist() == [0, 0, 1, 1, 2, 2]


LARGEST_UNIFORM = float(np.nextafter(1.0, 0.0))


@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, LARGEST_UNIFORM, 1.0])
def test_an_id_of_probability_zero_is_never_drawn(uniform: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(2000, 40, dtype=torch.float64, generator=generator)
    shares[torch.rand(2000, 40, generator=generator) < 0.7] = 0
    shares[:, 20] += 1e-300  # at least one is left
    shares[:, [0, -1]] = 0
    shares /= shares.sum(-1, keepdim=True)
    drawn = draw(shares, torch.full((2000,), uniform, dtype=torch.float64))
    assert bool((shares.gather(-1, drawn.unsqueeze(1)) > 0).all())


def expected_shares(
    temperature: float = 1.0,
    top_k: int = 12,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical: float = 1.0,
) -> npt.NDArray[np.float64]:
    """The distribution, worked out plainly."""
    shares = np.exp(LOGITS.double().numpy() / temperature)
    shares[np.argsort(-shares, kind="stable")[top_k:]] = 0
    shares = _holding(shares / shares.sum(), -shares, top_p)
    shares[shares < min_p * shares.max()] = 0
    shares /= shares.sum()
    surprisal = np.full(len(shares), np.inf)
    surprisal[shares > 0] = -np.log(shares[shares > 0])
    entropy = (shares[shares > 0] * surprisal[shares > 0]).sum()
    return _holding(shares, np.abs(surprisal - entropy), typical)


def _holding(
    shares: npt.NDArray[np.float64], rank: npt.NDArray[np.float64], mass: float
) -> npt.NDArray[np.float64]:
    """The shares that come first by rank, until they hold the mass."""
    few, held = np.zeros(len(shares)), 0.0
    for id in np.argsort(rank, kind="stable"):
        if held < mass:
            few[id] = shares[id]
        held += shares[id]
    return few / few.sum()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.5},
        *({"top_k": k} for k in (4, 12, 10**9)),
        *({"top_p": p} for p in (0.8, 1.0)),
        {"min_p": 0.2},
        *({"typical": p} for p in (0.01, 0.3, 0.6, 0.9, 0.9999, 1.0)),
        {"temperature": 0.5, "top_k": 2, "top_p": 0.6},
        {"temperature": 0.9, "top_k": 8, "top_p": 0.9},
        {"temperature": 1.3, "top_p": 0.95, "min_p": 0.1, "typical": 0.9},
        {"temperature": 2.0, "top_k": 9, "top_p": 0.97, "min_p": 0.05, "typical": 0.95},
    ],
)
def test_the_rules_together_give_the_distribution_worked_out_plainly(
    options: dict[str, float],
) -> None:
    np.testing.assert_allclose(probabilities(**options), expected_shares(**options), rtol=1e-9)
