"""An LSTM and an n-gram model as one, mixed in probability (Mikolov et al. 2011).

What was seen word for word the n-grams know better, and what was not the network; how much to
believe each is a function of the context, fitted on pieces of the text that neither learned from.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.models.base import IdArray, Model, Noise, State, Stepper
from textgen.models.gate import Gate, log_shares
from textgen.models.likelihood import LARGEST_LOGITS
from textgen.models.mixture_stepper import MixtureStepper
from textgen.models.ngram import NgramState, check_order
from textgen.models.ngram_tables import CLUES, UNSEEN, NgramTables
from textgen.models.recurrent import LSTMModel
from textgen.tokenizers.base import EOS

_PIECES, _LARGEST_PIECE, _SHARE = 32, 1024, 32


class MixtureModel(Model):
    """p = w p(LSTM) + (1 - w) p(n-grams), w by a gate.

    Its features are the network's, and after them the numbers of the n-grams that end there, bit
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
    def multiplied(cls, config: ModelConfig) -> int:
        return LSTMModel.multiplied(config)

    def initialize(self, generator: torch.Generator) -> None:
        self.network.initialize(generator)

    def kept_back(self, ids: IdArray) -> tuple[slice, ...]:
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
        features, _ = self.features(inputs, self.start(len(pieces)))
        rows = max(1, LARGEST_LOGITS // self.config.vocabulary_size)
        parts = (torch.split(each.flatten(0, 1), rows) for each in (features, targets))
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

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, NgramState]:
        named = cast(NgramState, state).named
        features, after = self.network.features(ids, self.network.restore(dict(named)), noise)
        if noise is None:
            numbers = self.tables.follow(ids, named["ngrams"])
        else:  # it learns: the n-grams are not asked
            numbers = torch.full((*ids.shape, self.tables.order - 1), UNSEEN, device=ids.device)
        together = torch.cat([features, _as_floats(numbers, features.dtype)], -1)
        return together, NgramState({**after.named, "ngrams": numbers[-1]})

    def logits(self, features: Tensor) -> Tensor:
        flat, contexts = self._apart(features.flatten(0, -2))
        by_ngrams = self.tables.distributions(contexts)
        mixed = self.mixed(self.network.logits(flat), by_ngrams, contexts)
        return mixed.view(*features.shape[:-1], -1)

    def mixed(self, logits: Tensor, by_ngrams: Tensor, contexts: Tensor) -> Tensor:
        """ln p of everything (places, vocabulary), by the network's logits and p of the n-grams."""
        log_probs = _log_softmax(logits)
        weights = log_shares(self.gate(self._clues(log_probs, contexts)))
        both = torch.stack([log_probs, by_ngrams.log().to(log_probs)], 1)
        return (weights.unsqueeze(-1) + both).logsumexp(1)

    def log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        clues, log_probs = self._asked(features, targets)
        log_odds: Tensor = self.gate(clues)
        return (log_shares(log_odds) + log_probs).logsumexp(-1)

    def losses(self, features: Tensor, targets: Tensor) -> Tensor:
        """The network's own: it learns the text, and not what the n-grams leave."""
        return self.network.losses(self._apart(features)[0], targets)

    def _asked(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What the gate goes by (places, clues), and ln p of each target by both (places, 2)."""
        flat, contexts = self._apart(features)
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

    def _apart(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The network's features (places, units), the numbers of n-grams (places, order - 1)."""
        units = features.shape[-1] - (self.tables.order - 1)
        return features[:, :units].to(self.dtype), _as_numbers(features[:, units:])


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
