"""The softmax over a sample of a large vocabulary, in training."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Candidates:
    """Tokens among which the targets of a window are predicted, with a large vocabulary.

    These are the targets themselves, and tokens of which each was drawn with a probability of its
    own. Divided by these probabilities, the exponentials of the logits of the drawn tokens sum up,
    on average, to those of all tokens (Horvitz and Thompson 1952), so the softmax is estimated by
    importance sampling (Bengio and Senécal 2008; Jean et al. 2015).

    Attributes:
        ids: (candidates,), ascending.
        places: The place of each target among the ids.
        log_inclusion: (candidates,), ln of the probability to be among them; 0 for targets.
        sparse: Whether the gradients of the weights of the output layer are sparse.
    """

    ids: Tensor
    places: Tensor
    log_inclusion: Tensor
    sparse: bool

    def losses(self, layer: nn.Linear, hidden: Tensor, places: Tensor) -> Tensor:
        """The loss of targets at these places (tokens,), given hidden (tokens, units)."""
        weight = functional.embedding(self.ids, layer.weight, sparse=self.sparse)
        bias = layer.bias[self.ids] - self.log_inclusion
        logits = functional.linear(hidden, weight, bias.to(weight))
        return functional.cross_entropy(logits.float(), places, reduction="none")

    def to(self, device: torch.device) -> Self:
        ids, places, log_inclusion = (
            each.to(device, non_blocking=True)
            for each in (self.ids, self.places, self.log_inclusion)
        )
        return type(self)(ids, places, log_inclusion, self.sparse)


class CandidateSampler:
    """Draws candidates with probabilities that rise with the square root of a token's count.

    Frequent tokens are always among them, so that the rest varies less.
    """

    def __init__(self, counts: npt.NDArray[np.int64], size: int, *, sparse: bool) -> None:
        """counts: (vocabulary,), of the training text. size: the mean number of tokens drawn."""
        self._inclusion = torch.from_numpy(inclusion_probabilities(counts, size)).float()
        self._log_inclusion = self._inclusion.log()
        self._places = torch.empty(len(counts), dtype=torch.int64)
        self._sparse = sparse

    def draw(self, targets: Tensor, generator: torch.Generator) -> Candidates:
        """The candidates for targets of any shape, on the CPU."""
        drawn = torch.rand(len(self._inclusion), generator=generator) < self._inclusion
        is_target = torch.zeros_like(drawn)
        is_target[targets.flatten()] = True
        ids = (drawn | is_target).nonzero().flatten()
        self._places[ids] = torch.arange(len(ids))
        log_inclusion = self._log_inclusion[ids].masked_fill_(is_target[ids], 0.0)
        return Candidates(ids, self._places[targets], log_inclusion, self._sparse)


def inclusion_probabilities(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    """min(1, c sqrt(count + 1/2)) with the c for which they sum to ``size``: (vocabulary,)."""
    if size >= len(counts):
        return np.ones(len(counts))
    roots = np.sqrt(counts + 0.5)
    ascending = np.sort(roots)
    # With the m largest at 1, c = (size - m) / (sum of the rest).
    below = np.cumsum(ascending)[::-1]  # sums without the m largest, m = 0, 1, ...
    factors = (size - np.arange(size)) / below[:size]
    certain = int(np.argmax(factors * ascending[::-1][:size] <= 1))
    inclusion: npt.NDArray[np.float64] = np.minimum(1.0, factors[certain] * roots)
    return inclusion
