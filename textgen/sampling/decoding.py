"""Logits to a distribution, and a distribution to an id; each rule is a small function.

A rule takes logits (batch, vocabulary) in float64 and returns logits in which excluded ids are
-inf, so rules can be composed in any order. Ties go to the lower id.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from textgen.config import SamplingConfig

Rule = Callable[[Tensor], Tensor]

_FIRST_SORTED = 128
_COLD = 1e-3
_LARGEST_UNIFORM = 1 - 2**-50


def compose(rules: Sequence[Rule]) -> Rule:
    """One rule that is these, one after another in the order given."""

    def composed(logits: Tensor) -> Tensor:
        for rule in rules:
            logits = rule(logits)
        return logits

    return composed


def only_tempers(config: SamplingConfig) -> bool:
    """Whether a configuration asks for no rule beside its temperatures."""
    penalties = (config.repetition_penalty, config.frequency_penalty)
    return not _filters_given(config) and all(penalty is None for penalty in penalties)


def filters(config: SamplingConfig) -> Rule:
    """What a configuration asks of every step but its temperatures and penalties."""
    return compose([_with(rule, value) for rule, value in _filters_given(config)])


def _filters_given(config: SamplingConfig) -> list[tuple[Callable[[Tensor, Any], Tensor], Any]]:
    filters: list[tuple[Callable[[Tensor, Any], Tensor], Any]] = [
        (keep_top_k, config.top_k),
        (keep_top_p, config.top_p),
        (keep_min_p, config.min_p),
        (keep_typical, config.typical),
    ]
    return [(rule, value) for rule, value in filters if value is not None]


def _with(rule: Callable[[Tensor, Any], Tensor], value: Any) -> Rule:
    return lambda logits: rule(logits, value)


def distribution(logits: Tensor) -> Tensor:
    """The probabilities (batch, vocabulary) of what the rules have left."""
    return logits.softmax(-1)


def in_float64(logits: Tensor) -> Tensor:
    """The logits in float64, on the CPU where the device has none (MPS)."""
    return (logits.cpu() if logits.device.type == "mps" else logits).double()


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide the logits of ids that were read or written (multiply those below 0) by ``penalty``.

    seen: (batch, vocabulary) bool. Of CTRL (Keskar et al. 2019), as everybody has it.
    """
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalized, logits)


def penalize_frequency(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Take ``penalty`` off a logit for each time its id was written: counts (batch, vocabulary)."""
    return logits - penalty * counts


def temper(logits: Tensor, temperature: float) -> Tensor:
    """Divide by the temperature; at 0 the likeliest alone stays."""
    if temperature == 0:
        return keep_top_k(logits, 1)
    if temperature < _COLD:  # the likeliest becomes 0 first, that none may overflow
        logits = logits - logits.amax(-1, keepdim=True)
    return logits if temperature == 1 else logits / temperature


def temper_rows(logits: Tensor, temperatures: Sequence[float]) -> Tensor:
    """As ``temper``, each row by its own temperature."""
    if len(set(temperatures)) == 1:
        return temper(logits, temperatures[0])
    rows = zip(logits.unbind(), temperatures, strict=True)
    return torch.stack([temper(row, temperature) for row, temperature in rows])


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the ``k`` likeliest stay (Fan, Lewis and Dauphin 2018)."""
    if k >= logits.shape[-1]:
        return logits
    last = logits.topk(k, dim=-1).values[..., -1:]
    return _keep_first(logits, logits, last, k)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest ids that holds ``p`` stays (Holtzman et al. 2020)."""
    return logits if p >= 1 else _keep_mass(logits, logits, p)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Ids at least ``share`` times as probable as the likeliest stay (Nguyen et al. 2024)."""
    if share == 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -torch.inf)


def keep_typical(logits: Tensor, p: float) -> Tensor:
    """The ids whose surprisal is nearest to the entropy, until they hold ``p``, stay.

    Locally typical sampling (Meister et al. 2023).
    """
    if p >= 1:
        return logits
    log_probs = logits.log_softmax(-1)
    entropy = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
    # What is left out already stays so: its score is -inf.
    return _keep_mass(logits, -(log_probs + entropy).abs(), p)


def _keep_mass(logits: Tensor, scores: Tensor, mass: float) -> Tensor:
    """The ids of the highest scores, as few as hold ``mass`` of the probability.

    Sorts a few at first and more where those do not suffice: of a large vocabulary rarely all.
    """
    probabilities = logits.softmax(-1)
    size, sorted_ = logits.shape[-1], min(_FIRST_SORTED, logits.shape[-1])
    while True:
        values, ids = scores.topk(sorted_, dim=-1)
        held = probabilities.gather(-1, ids).cumsum(-1)
        if sorted_ == size or bool((held[..., -1] >= mass).all()):
            break
        sorted_ = min(size, 8 * sorted_)
    # An id stays where those before it hold less than the mass: one more than have not reached it.
    needed = (held < mass).sum(-1, keepdim=True).clamp(max=sorted_ - 1)
    return _keep_first(logits, scores, values.gather(-1, needed), needed + 1)


def _keep_first(logits: Tensor, scores: Tensor, last: Tensor, count: int | Tensor) -> Tensor:
    """The ``count`` ids of the highest scores, ``last`` (batch, 1) being the lowest of theirs."""
    above, tied = scores > last, scores == last
    room = count - above.sum(-1, keepdim=True)
    kept = above | (tied & (tied.cumsum(-1) <= room))
    return logits.masked_fill(~kept, -torch.inf)


def draw(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Ids (batch,) by inversion: where the cumulated shares (batch, vocabulary), which need not
    sum to 1, pass ``uniforms`` (batch,) in [0, 1). An id without a share is never drawn.
    """
    cumulated = shares.cumsum(-1)
    # Rounding must not carry a point to the total, past the last id that has a share.
    points = uniforms.clamp(max=_LARGEST_UNIFORM).unsqueeze(1) * cumulated[:, -1:]
    return torch.searchsorted(cumulated, points, right=True).squeeze(1)
