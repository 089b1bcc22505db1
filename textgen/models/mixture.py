"""An LSTM and an n-gram model, interpolated in probability (Mikolov et al. 2011).

The interpolation weight is a gate: a function of the context, fitted on held-out chunks of the
text that neither model was trained on. N-grams are better on text that was seen verbatim, the
LSTM on other text.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import MixtureConfig
from textgen.models.base import (
    LARGEST_LOGITS,
    Dropout,
    HiddenStates,
    IdArray,
    Model,
    State,
)
from textgen.models.candidates import Candidates
from textgen.models.device import size_on
from textgen.models.lstm import LSTMModel, LSTMState
from textgen.models.ngram import GATE_INPUTS_PER_ORDER, UNSEEN, NgramModel, NgramState
from textgen.tokenizers.base import EOS

_WEIGHT_DECAY = 1e-3
_MAX_ITERATIONS = 50
_MIN_DEVIATION = 0.1


class Gate(nn.Module):
    """The log-odds of the interpolation weight of the LSTM, linear in the gate inputs.

    No optimizer updates its buffers: ``fit`` determines them. Until then both weights are 1/2.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(inputs))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (tokens, inputs) -> ln of the weights of LSTM and n-gram model (tokens, 2)."""
        return log_weights(inputs @ self.weight.to(inputs) + self.bias.to(inputs))

    @torch.enable_grad()
    def fit(self, inputs: Tensor, log_probs: Tensor) -> None:
        """Maximize the probability of tokens by L-BFGS, whatever the weights were before.

        inputs: (tokens, inputs). log_probs: (tokens, 2), ln p of each token by either model.
        """
        # On the CPU in float64 it has the same solution for all devices.
        inputs, log_probs = (each.detach().cpu().double() for each in (inputs, log_probs))
        # Standardized inputs need fewer iterations. One that hardly varies is not scaled up.
        mean, scale = inputs.mean(0), 1 / inputs.std(0).clamp(min=_MIN_DEVIATION)
        weight = torch.zeros_like(mean, requires_grad=True)
        bias = mean.new_zeros((), requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=_MAX_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            log_odds = inputs @ (weight * scale) + (bias - (weight * scale) @ mean)
            mixed = (log_weights(log_odds) + log_probs).logsumexp(-1)
            loss = _WEIGHT_DECAY * (weight**2).sum() - mixed.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.weight.copy_(weight * scale)
            self.bias.copy_(bias - (weight * scale) @ mean)


def log_weights(log_odds: Tensor) -> Tensor:
    """ln of two weights that sum to one (tokens, 2), given the log-odds of the first (tokens,)."""
    return torch.stack([functional.logsigmoid(log_odds), functional.logsigmoid(-log_odds)], -1)


@dataclass(frozen=True)
class MixtureHiddenStates:
    """hidden: (..., units), of the LSTM. ngram_ids: (..., order - 1), the n-gram contexts."""

    hidden: Tensor
    ngram_ids: Tensor

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.hidden[index], self.ngram_ids[index])

    def flatten(self, start: int, end: int) -> Self:
        return type(self)(self.hidden.flatten(start, end), self.ngram_ids.flatten(start, end))

    def split(self, size: int) -> list[Self]:
        parts = (torch.split(each, size) for each in (self.hidden, self.ngram_ids))
        return [type(self)(*part) for part in zip(*parts, strict=True)]


class MixtureState(NgramState):
    """The context of the n-grams, and the state of the LSTM."""

    initial: ClassVar[Mapping[str, float]] = {**NgramState.initial, **LSTMState.initial}


_NGRAM_IDS = "ngram_ids"
_CHUNKS, _MAX_CHUNK, _HELD_OUT_SHARE = 32, 1024, 32


class MixtureModel(Model):
    """p = w p(LSTM) + (1 - w) p(n-gram), where w is computed by the gate."""

    config: MixtureConfig

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__(config)
        self.network = LSTMModel(config)
        self.ngrams = NgramModel(config)
        columns = 2 + GATE_INPUTS_PER_ORDER * (config.order - 1)
        self.gate = Gate(columns + config.hidden_size[-1])

    @property
    def has_fixed_shapes(self) -> bool:
        return self.network.has_fixed_shapes

    def matmul_parameters(self) -> int:
        return self.network.matmul_parameters()

    @property
    def output_layer(self) -> nn.Linear:
        return self.network.output

    def lookup_tables(self, *, sampled: bool) -> list[nn.Parameter]:
        return self.network.lookup_tables(sampled=sampled)

    def initialize(self, generator: torch.Generator) -> None:
        self.network.initialize(generator)

    def held_out_chunks(self, ids: IdArray) -> tuple[slice, ...]:
        """Small chunks, none of a short text, each from the start of a sentence if one is near.

        They are from all over the text, because its end alone would be harder to predict.
        """
        size = min(_MAX_CHUNK, len(ids) // (_HELD_OUT_SHARE * _CHUNKS))
        if size == 0:
            return ()
        chunks = []
        for nominal in np.linspace(0, len(ids), _CHUNKS + 1)[:-1].astype(np.int64):
            ends = np.flatnonzero(ids[nominal : nominal + 8 * size] == EOS)
            begin = int(nominal) + (int(ends[0]) + 1 if len(ends) else 0)
            chunks.append(slice(begin, begin + size))
        return tuple(chunks)

    def initialize_from_text(self, ids: IdArray) -> None:
        self.network.initialize_from_text(ids)
        self.ngrams.initialize_from_text(ids)
        self.config = dataclasses.replace(self.config, entries=self.ngrams.config.entries)

    @torch.no_grad()
    def fit_mixture(self, chunks: Sequence[IdArray]) -> None:
        """Fit the gate to chunks of equal length."""
        targets = torch.from_numpy(np.stack(chunks, 1).astype(np.int64)).to(self.device)
        inputs = torch.cat([torch.full_like(targets[:1], EOS), targets[:-1]])
        hidden_states, _ = self.hidden_states(inputs, self.start(len(chunks)))
        most = size_on(self.device, LARGEST_LOGITS)
        rows = max(1, most // self.config.vocabulary_size)
        parts = hidden_states.flatten(0, 1).split(rows), torch.split(targets.flatten(), rows)
        found = [self._components(*some) for some in zip(*parts, strict=True)]
        gate_inputs, log_probs = map(torch.cat, zip(*found, strict=True))
        self.gate.fit(gate_inputs, log_probs)

    def start(self, batch: int) -> MixtureState:
        return MixtureState({**self.network.start(batch).named, **self.ngrams.start(batch).named})

    def restore(self, tensors: Mapping[str, Tensor]) -> State:
        for each in (self.network, self.ngrams):
            each.restore(tensors)  # which checks them
        return super().restore(tensors)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[MixtureHiddenStates, MixtureState]:
        before = LSTMState({name: each for name, each in state.named.items() if name != _NGRAM_IDS})
        hidden, after = self.network.hidden_states(ids, before, dropout)
        if dropout is None:
            ngram_ids, _ = self.ngrams.hidden_states(ids, state)
        else:  # ``losses``, which alone is computed with dropout, does not need them
            ngram_ids = torch.full((*ids.shape, self.config.order - 1), UNSEEN, device=ids.device)
        state = MixtureState({**after.named, _NGRAM_IDS: ngram_ids[-1]})
        return MixtureHiddenStates(hidden, ngram_ids), state

    def logits(self, hidden: HiddenStates) -> Tensor:
        hidden_states = cast(MixtureHiddenStates, hidden)
        flat = hidden_states.flatten(0, -2)
        logits, ngrams = self.network.logits(flat.hidden), self.ngrams.logits(flat.ngram_ids)
        return self.mixed(logits, ngrams, flat).view(*hidden_states.hidden.shape[:-1], -1)

    def mixed(self, logits: Tensor, ngrams: Tensor, hidden_states: MixtureHiddenStates) -> Tensor:
        """Interpolate predictions: logits of the LSTM, ln p by the n-grams (tokens, vocabulary).

        hidden_states: those of as many tokens.
        """
        log_probs = _log_softmax(logits)
        weights: Tensor = self.gate(self._gate_inputs(log_probs, hidden_states))  # (tokens, 2)
        both = torch.stack([log_probs, ngrams.to(log_probs)], 1)
        return (weights.unsqueeze(-1) + both).logsumexp(1)

    def log_probs(self, hidden: HiddenStates, targets: Tensor) -> Tensor:
        gate_inputs, log_probs = self._components(cast(MixtureHiddenStates, hidden), targets)
        weights: Tensor = self.gate(gate_inputs)
        return (weights + log_probs).logsumexp(-1)

    def losses(
        self, hidden: HiddenStates, targets: Tensor, candidates: Candidates | None = None
    ) -> Tensor:
        """Those of the LSTM alone, so that it learns more than what the n-grams do not predict."""
        return self.network.losses(cast(MixtureHiddenStates, hidden).hidden, targets, candidates)

    def _components(
        self, hidden_states: MixtureHiddenStates, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gate inputs (tokens, inputs), and ln p of each target by either model (tokens, 2)."""
        log_probs = _log_softmax(self.network.logits(hidden_states.hidden))
        network = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        ngrams = self.ngrams.log_probs(hidden_states.ngram_ids, targets).to(network)
        gate_inputs = self._gate_inputs(log_probs, hidden_states)
        return gate_inputs, torch.stack([network, ngrams], -1)

    def _gate_inputs(self, log_probs: Tensor, hidden_states: MixtureHiddenStates) -> Tensor:
        """Entropy and largest ln p of the LSTM, those of the n-grams, and the hidden state of the
        LSTM: (tokens, inputs)."""
        entropy = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
        largest = log_probs.amax(-1, keepdim=True)
        ngrams = self.ngrams.tables.gate_inputs(hidden_states.ngram_ids)
        parts = [entropy, largest, ngrams, hidden_states.hidden]
        return torch.cat([part.to(log_probs) for part in parts], -1)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
