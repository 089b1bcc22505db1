"""Logits to a distribution, and a distribution to an id; each rule is a small function.

A rule takes logits (batch, vocabulary) in float64 and a value. In the logits that it returns,
excluded ids are -inf, so rules can be composed in any order. Ties go to the lower id.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.errors import not_finite

Rule = Callable[[Tensor, Any], Tensor]

_FIRST_SORTED = 128
_COLD = 1e-3
_LARGEST_UNIFORM = 1 - 2**-50


def filters(config: SamplingConfig) -> list[tuple[Rule, Any]]:
    """The filters of a configuration with their values, in the order in which they apply."""
    rules: list[tuple[Rule, Any]] = [
        (keep_top_k, config.top_k),
        (keep_top_p, config.top_p),
        (keep_min_p, config.min_p),
        (keep_typical, config.typical),
    ]
    return [(rule, value) for rule, value in rules if value is not None]


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where the device has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def check_finite(logits: Tensor) -> None:
    """Raise DataError where a row of logits or ln p (..., vocabulary) has no distribution."""
    if not bool(logits.max(-1).values.isfinite().all()):
        raise not_finite()


def in_float64(logits: Tensor) -> Tensor:
    """The logits in float64, on the CPU where the device has none (MPS)."""
    return logits.to(float64_device(logits.device)).double()


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide the logits of seen ids by a penalty; multiply those below 0 (Keskar et al. 2019).

    Args:
        seen: (batch, vocabulary) bool, the ids of the prompt and the sample.
    """
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalized, logits)


def penalize_frequency(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Subtract ``penalty`` for each occurrence of an id; counts: (batch, vocabulary)."""
    return logits - penalty * counts


def penalize_presence(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Subtract ``penalty`` where an id has occurred; counts: (batch, vocabulary)."""
    return logits - penalty * (counts > 0)


def add_bias(logits: Tensor, bias: Sequence[tuple[int, float]]) -> Tensor:
    """Add to the logits of some ids, as llama.cpp's ``--logit-bias``."""
    ids, summands = zip(*bias, strict=True)
    places = torch.tensor(ids, device=logits.device)
    added = torch.tensor(summands, dtype=logits.dtype, device=logits.device)
    return logits.index_add(-1, places, added.expand(len(logits), -1))


_LARGEST_EXPONENT = 88.7228391  # of e in float32, as in llama.cpp


def penalize_dry(
    logits: Tensor, repeated: Tensor, multiplier: float, base: float, allowed_length: int
) -> Tensor:
    """Penalize ids that would go on with a repetition, the more the longer it is (DRY).

    ``multiplier * base ** (length - allowed_length)`` is subtracted from that length on, as
    ``llama_sampler_dry_apply`` of llama.cpp does (by pi6am and p-e-w, 2024).

    Args:
        repeated: (batch, vocabulary), the length of the repetition that each id would go on with,
            as ``Repetitions`` counts it.
    """
    exponents = repeated - allowed_length
    if base > 1.000001:
        exponents = exponents.clamp(max=int(_LARGEST_EXPONENT / math.log(base)))
    penalties = multiplier * torch.pow(base, exponents.clamp(min=0).to(logits.dtype))
    return logits - penalties.masked_fill(exponents < 0, 0.0)


def temper(logits: Tensor, temperature: float) -> Tensor:
    """Divide by the temperature; at 0 only the most probable id is kept."""
    if temperature == 0:
        return keep_top_k(logits, 1)
    if temperature < _COLD:  # the largest becomes 0 first, so that none overflows
        logits = logits - logits.amax(-1, keepdim=True)
    return logits if temperature == 1 else logits / temperature


def temper_rows(logits: Tensor, temperatures: Sequence[float]) -> Tensor:
    """As ``temper``, with a temperature for each row."""
    if len(set(temperatures)) == 1:
        return temper(logits, temperatures[0])
    rows = zip(logits.unbind(), temperatures, strict=True)
    return torch.stack([temper(row, temperature) for row, temperature in rows])


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` most probable ids (Fan, Lewis and Dauphin 2018)."""
    if k >= logits.shape[-1]:
        return logits
    last = logits.topk(k, dim=-1).values[..., -1:]
    return _keep_first(logits, logits, last, k)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest ids that have the probability ``p`` together (Holtzman et al. 2020)."""
    return logits if p >= 1 else _keep_mass(logits, logits, p)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep ids of at least ``share`` times the largest probability (Nguyen et al. 2024)."""
    if share == 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -torch.inf)


def keep_typical(logits: Tensor, p: float) -> Tensor:
    """Keep the ids whose surprisal is nearest to the entropy, until they have ``p`` together.

    Locally typical sampling (Meister et al. 2023).
    """
    if p >= 1:
        return logits
    log_probs = logits.log_softmax(-1)
    entropy = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
    # Ids that are excluded already remain so: their score is -inf.
    return _keep_mass(logits, -(log_probs + entropy).abs(), p)


def exclude_top_choices(logits: Tensor, threshold: float, chosen: Tensor) -> Tensor:
    """Exclude ids of at least the probability ``threshold`` but the least probable of them (XTC).

    As ``llama_sampler_xtc_apply`` of llama.cpp (by p-e-w, 2024). Of equals the last id is kept.

    Args:
        chosen: (batch,) bool, the rows in which that happens.
    """
    probabilities = logits.softmax(-1)
    above = (probabilities >= threshold) & (probabilities > 0)
    least = probabilities.masked_fill(~above, torch.inf).amin(-1, keepdim=True)
    tied = above & (probabilities == least)
    kept = tied & (tied.flip(-1).cumsum(-1).flip(-1) == 1)
    return logits.masked_fill(above & ~kept & chosen.unsqueeze(-1), -torch.inf)


def _keep_mass(logits: Tensor, scores: Tensor, mass: float) -> Tensor:
    """Keep the ids with the highest scores, the fewest that have the probability ``mass``.

    It sorts a few ids first, and more if they do not suffice; rarely all of a large vocabulary.
    """
    probabilities = logits.softmax(-1)
    size, sorted_ = logits.shape[-1], min(_FIRST_SORTED, logits.shape[-1])
    while True:
        values, ids = scores.topk(sorted_, dim=-1)
        total = probabilities.gather(-1, ids).cumsum(-1)
        if sorted_ == size or bool((total[..., -1] >= mass).all()):
            break
        sorted_ = min(size, 8 * sorted_)
    # An id is kept if those before it have less than the mass: one more than have not reached it.
    needed = (total < mass).sum(-1, keepdim=True).clamp(max=sorted_ - 1)
    return _keep_first(logits, scores, values.gather(-1, needed), needed + 1)


def _keep_first(logits: Tensor, scores: Tensor, last: Tensor, count: int | Tensor) -> Tensor:
    """Keep the ``count`` ids with the highest scores; last: (batch, 1), the lowest of these."""
    above, tied = scores > last, scores == last
    room = count - above.sum(-1, keepdim=True)
    kept = above | (tied & (tied.cumsum(-1) <= room))
    return logits.masked_fill(~kept, -torch.inf)


def draw(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Draw ids by inversion of the cumulative distribution.

    Args:
        shares: (batch, vocabulary), proportional to the probabilities. An id with 0 is never drawn.
        uniforms: (batch,), in [0, 1).

    Returns:
        Ids (batch,); any where the shares are not numbers.
    """
    cumulative = shares.cumsum(-1)
    # Rounding must not carry a point to the total, past the last id that has a share.
    points = uniforms.clamp(max=_LARGEST_UNIFORM).unsqueeze(1) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, points, right=True).squeeze(1)
    return drawn.clamp(max=shares.shape[1] - 1)
