"""Logits to a distribution, and a distribution to an id; each rule a small function."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import SamplingConfig

Uniforms = npt.NDArray[np.float64]


def distribution(logits: Tensor, config: SamplingConfig, banned: Tensor | None = None) -> Tensor:
    """The probabilities that ids are drawn from: (batch, vocabulary) logits -> float64.

    In order: bans, temperature, top-k, top-p. Temperature 0 puts all on the likeliest.
    banned: (vocabulary,) bool, ids that are never drawn.
    """
    logits = in_float64(logits)
    if banned is not None:
        logits = logits.masked_fill(banned.to(logits.device), -torch.inf)
    if config.temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    # The largest logit is taken off first, so that a tiny temperature cannot overflow.
    logits = (logits - logits.amax(-1, keepdim=True)) / config.temperature
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    probabilities = logits.softmax(-1)
    if config.top_p is not None:
        probabilities = keep_top_p(probabilities, config.top_p)
    return probabilities


def in_float64(logits: Tensor) -> Tensor:
    """The logits in float64, on the CPU where the device has none (MPS)."""
    return (logits.cpu() if logits.device.type == "mps" else logits).double()


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the ``k`` likeliest stay (Fan, Lewis and Dauphin 2018); ties go to the lower id."""
    if k >= logits.shape[-1]:
        return logits
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return logits.scatter(-1, order[..., k:], -torch.inf)


def keep_top_p(probabilities: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest ids that holds ``p`` (Holtzman et al. 2020), renormalized."""
    if p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(before >= p, 0.0)
    filtered = torch.zeros_like(probabilities).scatter_(-1, order, kept)
    return filtered / filtered.sum(-1, keepdim=True)


def draw(probabilities: Tensor, uniforms: Uniforms) -> Tensor:
    """Ids (batch,) by inversion: where the cumulated probabilities (batch, vocabulary) pass
    ``uniforms`` (batch,) in [0, 1). An id of probability zero is never drawn.
    """
    cumulated = probabilities.cumsum(-1)
    totals = cumulated[:, -1:]
    points = torch.from_numpy(uniforms).to(cumulated).unsqueeze(1) * totals
    # Rounding must not carry a point to the total, past the last id that has a share.
    points = torch.minimum(points, totals.nextafter(torch.zeros_like(totals)))
    return torch.searchsorted(cumulated, points, right=True).squeeze(1)
