"""A mixture of an LSTM and an n-gram model, in probability (Mikolov et al. 2011).

The weight is a gate: a function of the context, fitted on held-out chunks from which neither model
learned. n-grams are better on what was seen verbatim, the network on what was not.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.inference.likelihood import LARGEST_LOGITS
from textgen.inference.steppers import MixtureStepper
from textgen.models.base import Dropout, IdArray, Model, State, Stepper
from textgen.models.lstm import LSTMModel
from textgen.models.ngram import NgramState, check_order
from textgen.models.ngram_tables import CLUES, UNSEEN, NgramTables
from textgen.tokenizers.base import EOS

_DECAY = 1e-4
_ITERATIONS = 50
_LEAST_DEVIATION = 0.1


class Gate(nn.Module):
    """The share of the first model, a logistic function of clues.

    It is fitted on a text that neither model has learned from, by itself and at once: so its
    numbers are buffers, which no optimizer of theirs moves. Until then both weigh alike.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, clues: int) -> None:
        super().__init__()
        for name, shape in self.shapes(clues).items():
            self.register_buffer(name, torch.zeros(shape))

    @staticmethod
    def shapes(clues: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (clues,), "bias": ()}

    def forward(self, clues: Tensor) -> Tensor:
        """clues (places, clues) -> the log-odds of the first model (places,)."""
        return clues @ self.weight.to(clues) + self.bias.to(clues)

    @torch.enable_grad()
    def fit(self, clues: Tensor, log_probs: Tensor) -> None:
        """Make what came most probable: clues (places, clues), of it ln p (places, 2).

        From the same text it comes to the same numbers, whatever it was before.
        """
        # On the CPU: it is little, and every device then comes to the same numbers, in float64.
        clues, log_probs = (each.detach().cpu().double() for each in (clues, log_probs))
        # Alike in size, they are found in fewer steps; but of what hardly differs, not by rounding.
        mean, scale = clues.mean(0), 1 / clues.std(0).clamp(min=_LEAST_DEVIATION)
        scaled = (clues - mean) * scale
        weight, bias = (
            torch.zeros_like(mean, requires_grad=True),
            mean.new_zeros((), requires_grad=True),
        )
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            log_weights = log_shares(scaled @ weight + bias)
            mixed = (log_weights + log_probs).logsumexp(-1)
            found = _DECAY * (weight**2).sum() - mixed.mean()
            found.backward()  # type: ignore[no-untyped-call]
            return found

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.weight.copy_(weight * scale)
            self.bias.copy_(bias - (weight * scale) @ mean)


def log_shares(log_odds: Tensor) -> Tensor:
    """ln of the share of each of two (places, 2), from the log-odds of the first (places,)."""
    return torch.stack([functional.logsigmoid(log_odds), functional.logsigmoid(-log_odds)], -1)


_PIECES, _LARGEST_PIECE, _SHARE = 32, 1024, 32


class MixtureModel(Model):
    """p = w p(LSTM) + (1 - w) p(n-grams), w by a gate.

    Its hidden are the network's, and after them the numbers of the n-grams that end there, bit
    for bit in the place of floating-point numbers of the same size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.order is not None
        self.network = LSTMModel(config)
        self.tables = NgramTables(config.order, config.vocabulary_size, config.counted)
        self.gate = Gate(_clue_count(config.order))

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.order is not None
        parts = {
            "network": LSTMModel.shapes(config),
            "tables": NgramTables.shapes(config.order, config.vocabulary_size, config.counted),
            "gate": Gate.shapes(_clue_count(config.order)),
        }
        return {f"{part}.{name}": s for part, shapes in parts.items() for name, s in shapes.items()}

    @classmethod
    def matmul_parameters(cls, config: ModelConfig) -> int:
        return LSTMModel.matmul_parameters(config)

    def initialize(self, generator: torch.Generator) -> None:
        self.network.initialize(generator)

    def held_out_chunks(self, ids: IdArray) -> tuple[slice, ...]:
        """Small pieces from all over it, each of which begins with a sentence where one is near.

        A text is like what is near: without its end, all that follows it would be harder to tell.
        """
        check_order(self.config, len(ids))
        size = min(_LARGEST_PIECE, len(ids) // (_SHARE * _PIECES))
        if size == 0:
            return ()
        pieces = []
        for nominal in np.linspace(0, len(ids), _PIECES + 1)[:-1].astype(np.int64):
            ends = np.flatnonzero(ids[nominal : nominal + 8 * size] == EOS)
            begin = int(nominal) + (int(ends[0]) + 1 if len(ends) else 0)
            pieces.append(slice(begin, begin + size))
        return tuple(pieces)

    def read(self, ids: IdArray) -> None:
        self.network.read(ids)
        counted = self.tables.read(ids)
        self.config = dataclasses.replace(self.config, counted=counted)

    def remarks(self) -> tuple[str, ...]:
        return self.tables.remarks()

    @torch.no_grad()
    def settle(self, pieces: Sequence[IdArray]) -> None:
        targets = torch.from_numpy(np.stack(pieces, 1).astype(np.int64)).to(self.device)
        inputs = torch.cat([torch.full_like(targets[:1], EOS), targets[:-1]])
        hidden, _ = self.hidden_states(inputs, self.start(len(pieces)))
        rows = max(1, LARGEST_LOGITS // self.config.vocabulary_size)
        parts = (torch.split(each.flatten(0, 1), rows) for each in (hidden, targets))
        asked = [self._asked(*some) for some in zip(*parts, strict=True)]
        clues, log_probs = zip(*asked, strict=True)
        self.gate.fit(torch.cat(clues), torch.cat(log_probs))

    def check(self) -> None:
        self.tables.check()

    def start(self, batch: int) -> NgramState:
        ngrams = torch.full((batch, self.tables.order - 1), UNSEEN, device=self.device)
        return NgramState({**self.network.start(batch).named, "ngrams": ngrams})

    def restore(self, tensors: dict[str, Tensor]) -> NgramState:
        return NgramState({**self.network.restore(tensors).named, "ngrams": tensors["ngrams"]})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, NgramState]:
        named = cast(NgramState, state).named
        hidden, after = self.network.hidden_states(ids, self.network.restore(dict(named)), dropout)
        if dropout is None:
            numbers = self.tables.follow(ids, named["ngrams"])
        else:  # it learns: the n-grams are not asked
            numbers = torch.full((*ids.shape, self.tables.order - 1), UNSEEN, device=ids.device)
        together = torch.cat([hidden, _as_floats(numbers, hidden.dtype)], -1)
        return together, NgramState({**after.named, "ngrams": numbers[-1]})

    def logits(self, hidden: Tensor) -> Tensor:
        flat, contexts = self._apart(hidden.flatten(0, -2))
        by_ngrams = self.tables.distributions(contexts)
        mixed = self.mixed(self.network.logits(flat), by_ngrams, contexts)
        return mixed.view(*hidden.shape[:-1], -1)

    def mixed(self, logits: Tensor, by_ngrams: Tensor, contexts: Tensor) -> Tensor:
        """ln p of everything (places, vocabulary), by the network's logits and p of the n-grams."""
        log_probs = _log_softmax(logits)
        weights = log_shares(self.gate(self._clues(log_probs, contexts)))
        both = torch.stack([log_probs, by_ngrams.log().to(log_probs)], 1)
        return (weights.unsqueeze(-1) + both).logsumexp(1)

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        clues, log_probs = self._asked(hidden, targets)
        log_odds: Tensor = self.gate(clues)
        return (log_shares(log_odds) + log_probs).logsumexp(-1)

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The network's own: it learns the text, and not what the n-grams leave."""
        return self.network.losses(self._apart(hidden)[0], targets)

    def _asked(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What the gate goes by (places, clues), and ln p of each target by both (places, 2)."""
        flat, contexts = self._apart(hidden)
        log_probs = _log_softmax(self.network.logits(flat))
        by_network = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        by_ngrams = self.tables.shares(contexts, targets).log().to(by_network)
        return self._clues(log_probs, contexts), torch.stack([by_network, by_ngrams], -1)

    def _clues(self, log_probs: Tensor, contexts: Tensor) -> Tensor:
        """How sure the network is, and how much was seen after each context (places, clues)."""
        entropy = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
        surest = log_probs.amax(-1, keepdim=True)
        return torch.cat([entropy, surest, self.tables.clues(contexts).to(log_probs)], -1)

    def stepper(self, *, fast: bool = False) -> Stepper:
        return MixtureStepper(self, fast=fast)

    def _apart(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The network's hidden (places, units), the numbers of n-grams (places, order - 1)."""
        units = hidden.shape[-1] - (self.tables.order - 1)
        return hidden[:, :units].to(self.dtype), _as_numbers(hidden[:, units:])


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _clue_count(order: int) -> int:
    return 2 + CLUES * (order - 1)


def _as_floats(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers, int64, in the bits of floating-point ones of this type, or of float32."""
    if dtype == torch.float64:
        return numbers.view(torch.float64)
    return numbers.int().view(torch.float32)


def _as_numbers(floats: Tensor) -> Tensor:
    whole = torch.int64 if floats.dtype == torch.float64 else torch.int32
    return floats.contiguous().view(whole).long()
