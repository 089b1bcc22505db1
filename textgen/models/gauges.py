"""What is read off a model's distributions beside the log-probability of what came.

A gauge turns the distributions at some places into a few numbers each. It is asked only where
someone wants to know, for it needs all of the distribution.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Gauge(ABC):
    """Some numbers of each place. columns: how many."""

    columns: int = 1

    @abstractmethod
    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """ln p of everything (places, vocabulary), what came before and what came (places,)
        -> (places, columns)."""


class Entropy(Gauge):
    """The entropy of the distribution, in nats."""

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        entropy: Tensor = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
        return entropy


class Rank(Gauge):
    """1, and one for everything that is likelier than what came."""

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        came = log_probs.gather(-1, targets.unsqueeze(-1))
        return 1 + (log_probs > came).sum(-1, keepdim=True)


class Alternatives(Gauge):
    """The likeliest: their ids, then the ln p of each."""

    def __init__(self, count: int) -> None:
        self._count, self.columns = count, 2 * count

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        best, ids = log_probs.topk(self._count, dim=-1)
        return torch.cat([ids.to(best.dtype), best], -1)


class LogMass(Gauge):
    """ln of the probability that one of some ids comes.

    among: (ways, vocabulary) bool, which ones; way: (vocabulary,) which row it is after each id.
    """

    def __init__(self, among: Tensor, way: Tensor) -> None:
        self._without = torch.zeros(among.shape).masked_fill_(~among, -torch.inf)
        self._way = way

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        without = self._without.to(log_probs)[self._way.to(inputs.device)[inputs]]
        return (log_probs + without).logsumexp(-1, keepdim=True)


@dataclass(frozen=True)
class Prefixes:
    """Ids in an order in which those that begin alike are neighbours.

    order: (vocabulary,) ids. begin, end: (vocabulary, columns), for each id and each number of
    characters, from one on, where in the order the ids are that begin with as many of its own;
    both are 0 beyond its length.
    """

    order: Tensor
    begin: Tensor
    end: Tensor


class PrefixMasses(Gauge):
    """The probability that what comes begins like what came: with its first character, its
    first two, and so on; NaN beyond its length, so that this is told, too.

    tables: for each way in which ids can be spelt; way: (vocabulary,) which one it is after
    each id.
    """

    def __init__(self, tables: tuple[Prefixes, ...], way: Tensor) -> None:
        self._tables, self._way = tables, way
        self.columns = max(table.begin.shape[1] for table in tables)

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        ways = self._way.to(inputs.device)[inputs]
        # As exact as can be, because a mass is the difference of two sums.
        dtype = torch.float32 if log_probs.device.type == "mps" else torch.float64
        masses = log_probs.new_full((len(targets), self.columns), torch.nan, dtype=dtype)
        for index, table in enumerate(self._tables):
            rows = (ways == index).nonzero().flatten()
            if not len(rows):
                continue
            sums = log_probs[rows][:, table.order.to(rows.device)].to(dtype).exp().cumsum(-1)
            sums = torch.nn.functional.pad(sums, (1, 0))
            begin, end = (t.to(rows.device)[targets[rows]] for t in (table.begin, table.end))
            between = sums.gather(1, end) - sums.gather(1, begin)
            masses[rows, : begin.shape[1]] = between.masked_fill(end == 0, torch.nan)
        return masses
