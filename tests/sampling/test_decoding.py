import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.sampling.decoding import distribution, draw, keep_top_k, keep_top_p

LOGITS = torch.tensor([1.5, -0.7, 0.3, 2.2, -2.0, 0.0, 1.0, -1.2, 0.8, -0.1, 1.9, -3.0])
DRAWS = 10**6


def probabilities(
    logits: Tensor = LOGITS, banned: Tensor | None = None, **options: object
) -> Tensor:
    """The distribution over one row of logits, float64 (vocabulary,)."""
    return distribution(logits.unsqueeze(0), SamplingConfig.from_options(options), banned)[0]


def test_the_plain_distribution_is_the_softmax() -> None:
    torch.testing.assert_close(probabilities(), LOGITS.double().softmax(-1), rtol=1e-12, atol=0)


def test_temperature_zero_is_greedy() -> None:
    assert probabilities(temperature=0).tolist() == [float(id == 3) for id in range(12)]
    rows = torch.stack([LOGITS, -LOGITS])
    assert distribution(rows, SamplingConfig(temperature=0)).argmax(-1).tolist() == [3, 11]


def test_greedy_passes_over_a_banned_id() -> None:
    banned = torch.arange(12) == 3
    assert probabilities(banned=banned, temperature=0).argmax() == 10


def test_greedy_takes_the_first_of_equals() -> None:
    assert probabilities(torch.tensor([0.0, 2.0, 2.0]), temperature=0).tolist() == [0, 1, 0]


def test_low_temperature_concentrates_on_the_likeliest_token() -> None:
    shares = [probabilities(temperature=t)[3].item() for t in (2.0, 1.0, 0.5, 0.1, 0.01)]
    assert shares == sorted(shares)
    assert shares[-1] > 1 - 1e-12


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30, 1e300])
def test_no_temperature_overflows(temperature: float) -> None:
    shares = probabilities(torch.tensor([1e30, -1e30, 9.9e29]), temperature=temperature)
    assert bool(shares.isfinite().all())
    assert shares.sum().item() == pytest.approx(1)
    assert shares.argmax() == 0


def test_high_temperature_strays_to_uniform() -> None:
    torch.testing.assert_close(
        probabilities(temperature=1e9), torch.full((12,), 1 / 12).double(), rtol=1e-6, atol=0
    )


def test_top_k_keeps_the_k_likeliest_in_proportion() -> None:
    kept = probabilities(top_k=3)
    plain = probabilities()
    assert kept.nonzero().flatten().tolist() == [0, 3, 10]
    assert kept.sum().item() == pytest.approx(1, abs=1e-12)
    assert (kept[0] / kept[3]).item() == pytest.approx((plain[0] / plain[3]).item())


@pytest.mark.parametrize("k", [12, 13, 10**9])
def test_top_k_above_the_vocabulary_changes_nothing(k: int) -> None:
    assert torch.equal(probabilities(top_k=k), probabilities())


def test_top_k_gives_ties_to_the_lower_id() -> None:
    kept = keep_top_k(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 2)
    assert kept.isfinite().tolist() == [[True, True, False, False]]


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    shares = torch.tensor([[0.125, 0.5, 0.25, 0.125]], dtype=torch.float64)
    for p, kept in [
        (0.01, [1]),
        (0.5, [1]),
        (0.51, [1, 2]),
        (0.75, [1, 2]),
        (0.76, [0, 1, 2]),
        (0.875, [0, 1, 2]),
        (0.9, [0, 1, 2, 3]),
    ]:
        filtered = keep_top_p(shares, p)[0]
        assert filtered.nonzero().flatten().tolist() == kept, p
        assert filtered.sum().item() == pytest.approx(1, abs=1e-12)
    assert keep_top_p(shares, 0.6)[0].tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0])


def test_top_p_of_one_is_no_filter() -> None:
    shares = torch.tensor([0.0] + [-60.0] * 5 + [3.0])
    assert torch.equal(probabilities(shares, top_p=1.0), probabilities(shares))
    assert bool((probabilities(shares, top_p=1.0) > 0).all())


def test_top_p_counts_after_top_k_and_temperature() -> None:
    # Temperature 0.5 squares the shares; the two likeliest are then 4/5 and 1/5 of what is left.
    logits = torch.tensor([4.0, 2.0, 1.0]).log()
    both = probabilities(logits, temperature=0.5, top_k=2, top_p=0.8)
    assert both.tolist() == [1.0, 0.0, 0.0]
    more = probabilities(logits, temperature=0.5, top_k=2, top_p=0.81)
    assert more.tolist() == pytest.approx([0.8, 0.2, 0.0])


@pytest.mark.parametrize("options", [{}, {"top_k": 12}, {"top_p": 1.0}, {"temperature": 0.3}])
def test_a_banned_id_has_no_share(options: dict[str, float]) -> None:
    banned = torch.zeros(12, dtype=torch.bool)
    banned[[0, 3]] = True
    shares = probabilities(banned=banned, **options)
    assert shares[banned].tolist() == [0, 0]
    assert shares.sum().item() == pytest.approx(1, abs=1e-12)


def test_a_draw_is_the_id_in_whose_share_the_uniform_falls() -> None:
    shares = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    uniforms = np.array([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999])
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
    drawn = draw(shares, np.full(2000, uniform))
    assert bool((shares.gather(-1, drawn.unsqueeze(1)) > 0).all())


def test_a_share_of_one_is_always_drawn() -> None:
    shares = torch.eye(12, dtype=torch.float64)
    for uniform in (0.0, 0.3, LARGEST_UNIFORM):
        assert draw(shares, np.full(12, uniform)).tolist() == list(range(12))


# Chi-square over a million draws


def chi_square_tail(ids: Tensor, shares: npt.NDArray[np.float64]) -> float:
    """The probability of a fit as bad or worse if ``shares`` is what was drawn from."""
    counts = np.bincount(ids.numpy(), minlength=len(shares))
    if counts[shares == 0].any():
        return 0.0
    possible = shares > 0
    expected = shares[possible] * len(ids)
    assert expected.min() > 5
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = torch.tensor((possible.sum() - 1) / 2).double()
    return float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2).double()))


def expected_shares(temperature: float, top_k: int, top_p: float) -> npt.NDArray[np.float64]:
    """The distribution, worked out plainly."""
    shares = np.exp(LOGITS.double().numpy() / temperature)
    order = np.argsort(-shares, kind="stable")
    shares[order[top_k:]] = 0
    shares /= shares.sum()
    kept, held = np.zeros(len(shares)), 0.0
    for id in order:
        if held < top_p:
            kept[id] = shares[id]
        held += shares[id]
    return kept / kept.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 12, 1.0), (0.7, 12, 1.0), (1.5, 12, 1.0), (1.0, 4, 1.0), (1.0, 12, 0.8), (0.9, 8, 0.9)],
)
def test_a_million_draws_follow_the_distribution_and_no_other(
    temperature: float, top_k: int, top_p: float
) -> None:
    def drawn(temperature: float) -> Tensor:
        shares = probabilities(temperature=temperature, top_k=top_k, top_p=top_p)
        return draw(shares.expand(DRAWS, -1), np.random.default_rng(7).random(DRAWS))

    shares = expected_shares(temperature, top_k, top_p)
    assert chi_square_tail(drawn(temperature), shares) > 1e-3
    # The test has power: a temperature off by a fiftieth does not pass it.
    assert chi_square_tail(drawn(1.02 * temperature), shares) < 1e-9
