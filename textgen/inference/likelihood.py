"""Log-probabilities of the tokens of a text, and token statistics, for validation and scoring.

A token statistic is computed only on request, because it needs the whole distribution.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from textgen.models.base import (
    LARGEST_LOGITS,
    NOTHING,
    HiddenStates,
    IdArray,
    Model,
    State,
)
from textgen.models.candidates import Candidates
from textgen.models.device import size_on


class TokenStatistic(ABC):
    """Some numbers for each token, so many ``columns``."""

    columns: int = 1

    @abstractmethod
    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """ln p of all tokens (tokens, vocabulary), token before and target (tokens,) ->
        (tokens, columns)."""


class Entropy(TokenStatistic):
    """The entropy of the distribution, in nats."""

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        entropy: Tensor = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
        return entropy


class Rank(TokenStatistic):
    """1 plus the number of tokens that are more probable than the target."""

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        target = log_probs.gather(-1, targets.unsqueeze(-1))
        return 1 + (log_probs > target).sum(-1, keepdim=True)


class Alternatives(TokenStatistic):
    """The most probable tokens: their ids, then ln p of each."""

    def __init__(self, count: int) -> None:
        self._count, self.columns = count, 2 * count

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        best, ids = log_probs.topk(self._count, dim=-1)
        return torch.cat([ids.to(best.dtype), best], -1)


class LogMass(TokenStatistic):
    """ln of the probability that the next token is one of a set of ids.

    among: (sets, vocabulary) bool. way: (vocabulary,), the set that applies after each id.
    """

    def __init__(self, among: Tensor, way: Tensor) -> None:
        self._logit_masks = torch.zeros(among.shape).masked_fill_(~among, -torch.inf)
        self._way = way

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        masks = self._logit_masks.to(log_probs)[self._way.to(inputs.device)[inputs]]
        return (log_probs + masks).logsumexp(-1, keepdim=True)


@dataclass(frozen=True)
class Prefixes:
    """Ids sorted so that those with a common prefix are adjacent.

    order: (vocabulary,) ids. ranges: the ranges of an id, (characters, 2): for each length of a
    prefix of it, from one character on, that in ``order`` of the ids with this prefix. longest:
    the most characters of an id.
    """

    order: Tensor
    ranges: Callable[[int], Tensor]
    longest: int


class PrefixMasses(TokenStatistic):
    """The probabilities of all tokens with the target's first character, its first two, and so
    on; NaN beyond its length.

    tables: one for each way to spell ids. way: (vocabulary,), the one that applies after each id.
    """

    def __init__(self, tables: tuple[Prefixes, ...], way: Tensor) -> None:
        self._tables, self._way = tables, way
        self.columns = max(1, *(table.longest for table in tables))

    def read(self, log_probs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        ways = self._way.to(inputs.device)[inputs]
        # In the highest precision, because a mass is the difference of two sums.
        dtype = torch.float32 if log_probs.device.type == "mps" else torch.float64
        masses = log_probs.new_full((len(targets), self.columns), torch.nan, dtype=dtype)
        for index, table in enumerate(self._tables):
            rows = (ways == index).nonzero().flatten()
            if not len(rows):
                continue
            sums = log_probs[rows][:, table.order.to(rows.device)].to(dtype).exp().cumsum(-1)
            sums = functional.pad(sums, (1, 0))
            ranges = [table.ranges(id) for id in targets[rows].tolist()]
            padded = pad_sequence(ranges, batch_first=True).to(rows.device)
            begin, end = padded.unbind(-1)  # 0 beyond the last character
            between = sums.gather(1, end) - sums.gather(1, begin)
            masses[rows, : begin.shape[1]] = between.masked_fill(end == 0, torch.nan)
        return masses


LogProbs = npt.NDArray[np.float64]
TokenStatistics = npt.NDArray[np.float64]
"""(tokens, columns): ln p of the target, then the columns of each statistic."""

_WINDOW = 64
_MAX_TRAINING_LOGITS = 2**25  # 128 MB of float32; their gradient is as large; more on a GPU
# On a CPU, more segments cost more in repeated reading than they save.
_SEGMENTS_ON_CPU, _SEGMENTS = 16, 128
_BLOCK_TOKENS = 2**18
_TOLERANCES = {torch.bfloat16: 2e-2, torch.float32: 1e-6, torch.float64: 1e-14}
# Rounding depends on the number of rows there, by up to 5e-7 in products of 512 numbers.
_TOLERANCES_ON_CUDA = _TOLERANCES | {torch.float32: 1e-5}


def target_log_probs(model: Model, hidden: HiddenStates, targets: Tensor) -> Tensor:
    """ln p of each target: hidden (time, batch, units), targets (time, batch) -> (time, batch).

    Logits are computed for some tokens at a time, so that a large vocabulary fits in memory.
    """
    return token_statistics(model, hidden, targets, targets).squeeze(-1)


def token_statistics(
    model: Model,
    hidden: HiddenStates,
    inputs: Tensor,
    targets: Tensor,
    statistics: Sequence[TokenStatistic] = (),
) -> Tensor:
    """As ``target_log_probs``, with the statistics: (time, batch, columns).

    inputs: (time, batch), the token before each target.
    """
    rows = max(1, size_on(targets.device, LARGEST_LOGITS) // model.config.vocabulary_size)
    pieces = []
    flat = hidden.flatten(0, 1).split(rows)
    ids = (torch.split(each.flatten(), rows) for each in (inputs, targets))
    for some, before, target in zip(flat, *ids, strict=True):
        if not statistics:
            pieces.append(model.log_probs(some, target).unsqueeze(-1))
            continue
        logits = model.logits(some)
        if logits.dtype != torch.float64:
            logits = logits.float()
        log_probs = logits.log_softmax(-1)
        columns = [log_probs.gather(-1, target.unsqueeze(-1))]
        columns += [statistic.read(log_probs, before, target) for statistic in statistics]
        pieces.append(torch.cat(columns, -1))
    return torch.cat(pieces).view(*targets.shape, -1)


def mean_cross_entropy(
    model: Model, hidden: HiddenStates, targets: Tensor, candidates: Candidates | None = None
) -> Tensor:
    """The training loss, in nats per token: hidden (time, batch, units), targets (time, batch).

    candidates: if given, those of these targets.

    If the logits of a whole window would be too large, those of some tokens at a time are computed,
    and again for the gradient (checkpointing; Chen et al. 2016): a third more work in the output
    layer for bounded memory.
    """
    flat, ids = hidden.flatten(0, 1), targets.flatten()
    columns = model.config.vocabulary_size
    if candidates is not None:
        ids, columns = candidates.places.flatten(), len(candidates.ids)
    rows = max(1, size_on(targets.device, _MAX_TRAINING_LOGITS) // columns)

    def loss_sum(some: HiddenStates, of: Tensor) -> Tensor:
        return model.losses(some, of, candidates).sum()

    if len(ids) <= rows:
        return loss_sum(flat, ids) / len(ids)
    losses = [
        checkpoint(loss_sum, some, of, use_reentrant=False, preserve_rng_state=False)
        for some, of in zip(flat.split(rows), torch.split(ids, rows), strict=True)
    ]
    return torch.stack(losses).sum() / len(ids)


class Document:
    """A text whose parts are read one after another, with the state carried over.

    A recurrent network reads in order, but distant tokens hardly change its state. So a part is
    cut into segments that are read side by side, all but the first from a guessed state, and then
    again from the final state of the segment before, until the states of both passes differ by no
    more than rounding, if need be to the end of all segments. The result is always exact.
    """

    def __init__(
        self,
        model: Model,
        first: int,
        *,
        segments: int | None = None,
        statistics: Sequence[TokenStatistic] = (),
    ) -> None:
        """first: the token before the text.

        segments: how many are read side by side; None for the default of the device.
        """
        self.model, self._previous, self.statistics = model, first, statistics
        by_device = _SEGMENTS_ON_CPU if model.device.type == "cpu" else _SEGMENTS
        self.segments = segments or by_device
        self.columns = 1 + sum(statistic.columns for statistic in statistics)
        self.state = model.start(1)

    def read(self, ids: IdArray) -> LogProbs:
        """ln p of each of the next tokens, given all tokens before it."""
        return self.token_statistics(ids)[:, 0]

    @torch.inference_mode()
    def token_statistics(self, ids: IdArray) -> TokenStatistics:
        """As ``read``, with the statistics."""
        pieces = [np.empty((0, self.columns))]
        for begin in range(0, len(ids), _BLOCK_TOKENS):
            known = ids[begin : begin + _BLOCK_TOKENS + _WINDOW]
            around = torch.as_tensor(np.asarray(known, np.int64), device=self.model.device)
            block = around[:_BLOCK_TOKENS]
            inputs = torch.cat([block.new_tensor([self._previous]), block[:-1]])
            read, self.state = _Block(self, inputs, block, around).read()
            self._previous = int(block[-1])
            pieces.append(read.cpu().double().numpy())
        return np.concatenate(pieces)

    def read_window(
        self, inputs: Tensor, targets: Tensor, around: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """The result for each token (time, batch, columns), and the next state."""
        hidden, state = self.model.hidden_states_in_context(inputs, around, state)
        return token_statistics(self.model, hidden, inputs, targets, self.statistics), state


class _Block:
    """One block of a text, read in segments side by side.

    around: its targets and the tokens after them, some of which each window has in context.
    """

    def __init__(self, document: Document, inputs: Tensor, targets: Tensor, around: Tensor) -> None:
        self._document, model = document, document.model
        count = max(1, min(document.segments, len(targets) // (4 * _WINDOW)))
        length = len(targets) // count
        whole = count * length
        self._inputs = inputs[:whole].view(count, length).T  # (time, segment)
        self._targets = targets[:whole].view(count, length).T
        ended = functional.pad(around, (0, _WINDOW), value=NOTHING)
        self._around = ended.unfold(0, length + _WINDOW, length)[:count].T  # (time, segment)
        self._rest = [each[whole:].unsqueeze(1) for each in (inputs, targets, ended)]
        dtype = torch.promote_types(model.dtype, torch.float32)
        shape = (length, count, document.columns)
        self._results = torch.empty(shape, dtype=dtype, device=targets.device)
        self._edges: list[State] = []  # the state after each window, rows being segments
        tolerances = _TOLERANCES_ON_CUDA if targets.device.type == "cuda" else _TOLERANCES
        self._tolerance = tolerances[model.dtype]

    def read(self) -> tuple[Tensor, State]:
        """The result for each token of the block (tokens, columns), and the final state."""
        segments = self._targets.shape[1]
        every = torch.arange(segments, device=self._targets.device)
        state = self._document.model.start(segments).replace(every[:1], self._document.state)
        for window in range(0, len(self._targets), _WINDOW):
            state = self._read_window(window, every, state)
            self._edges.append(state)
        unconverged = every[1:]
        while len(unconverged):
            changed = self._read_again(unconverged)
            unconverged = changed[changed < segments - 1] + 1
        last = self._edges[-1].select(every[-1:])
        flat = self._results.transpose(0, 1).flatten(0, 1)
        inputs, targets, around = self._rest
        if len(inputs):
            rest, last = self._document.read_window(inputs, targets, around, last)
            flat = torch.cat([flat, rest.flatten(0, 1).to(flat.dtype)])
        return flat, last

    def _read_window(self, window: int, rows: Tensor, state: State) -> State:
        inputs = self._inputs[window : window + _WINDOW, rows]
        targets = self._targets[window : window + _WINDOW, rows]
        around = self._around[window : window + 2 * _WINDOW, rows]
        read, state = self._document.read_window(inputs, targets, around, state)
        self._results[window : window + _WINDOW, rows] = read.to(self._results.dtype)
        return state

    def _read_again(self, rows: Tensor) -> Tensor:
        """Read segments from the final states before them; returns those that never converged."""
        state = self._edges[-1].select(rows - 1)
        for edge, window in enumerate(range(0, len(self._targets), _WINDOW)):
            state = self._read_window(window, rows, state)
            before = self._edges[edge]
            converged = state.close_to(before.select(rows), self._tolerance)
            self._edges[edge] = before.replace(rows, state)
            rows = rows[~converged]
            state = state.select((~converged).nonzero().flatten())
            if not len(rows):
                break
        return rows


@torch.inference_mode()
def batch_token_statistics(
    model: Model,
    inputs: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    statistics: Sequence[TokenStatistic] = (),
) -> TokenStatistics:
    """inputs, targets (time, batch), read from the start state -> (time, batch, columns)."""
    before, target = (torch.as_tensor(ids, device=model.device) for ids in (inputs, targets))
    hidden, _ = model.hidden_states_in_context(before, target, model.start(before.shape[1]))
    return token_statistics(model, hidden, before, target, statistics).cpu().double().numpy()
