"""The hidden Markov model (Baum and Petrie 1966; as a language model, Jelinek 1976).

The forward algorithm and its gradient in closed form follow Rabiner, "A tutorial on hidden Markov
models" (1989), sections III.A and V.A.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import HiddenMarkovConfig
from textgen.models.base import (
    Dropout,
    HiddenStates,
    IdArray,
    Model,
    State,
    init_output_bias,
)

_MIN_PROBABILITY = 1e-30  # so that no state is excluded for good


def forward_beliefs(belief: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """The forward algorithm: ln p(hidden state at the next token | all tokens up to this one).

    Neither long texts nor tiny emissions underflow: emissions are added to logarithms, and a
    softmax, which subtracts the maximum, makes posteriors of the sums. These are multiplied by the
    transitions as probabilities, as exact as log-sum-exp, since nothing is subtracted.

    Args:
        belief: (batch, states), the belief about the state at the first token.
        transition: (states, states), probabilities; each row sums to one.
        emission: (time, batch, states), ln p(token | state), up to a constant for each token.

    Returns:
        (time, batch, states), the belief after each token.
    """
    function: Any = _ForwardBeliefs
    return cast(Tensor, function.apply(belief, transition, emission))


class _ForwardBeliefs(torch.autograd.Function):
    """Takes two thirds of the time of autograd, which records each of the small steps."""

    @staticmethod
    def forward(ctx: Any, belief: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
        posteriors, beliefs = torch.empty_like(emission), torch.empty_like(emission)
        for t, log_emission in enumerate(emission):
            torch.softmax(belief + log_emission, -1, out=posteriors[t])
            belief = torch.mm(posteriors[t], transition, out=beliefs[t])
            belief.clamp_(min=_MIN_PROBABILITY).log_()
        ctx.save_for_backward(posteriors, beliefs, transition)
        return beliefs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The backward recursion: the gradient of a belief includes that of all later ones."""
        posteriors, beliefs, transition = ctx.saved_tensors
        products = beliefs.neg().exp_()  # d ln b / d b, at most 1 / _MIN_PROBABILITY
        emission = torch.empty_like(posteriors)
        transposed = transition.T.contiguous()
        later = torch.zeros_like(posteriors[0])
        for t in range(len(posteriors) - 1, -1, -1):
            posterior = posteriors[t]
            products[t].mul_(gradients[0][t] + later)
            later = torch.mm(products[t], transposed)
            later = (later - (later * posterior).sum(-1, keepdim=True)) * posterior
            emission[t] = later
        return later, posteriors.flatten(0, 1).T @ products.flatten(0, 1), emission


_INITIAL_DEVIATION = 1.0  # states with similar initial weights stay similar for long
_MASKED = -1e4


class HiddenMarkovModel(Model):
    """Initial, transition and emission distributions, as softmaxes of weights.

    Its ``State`` is the belief (batch, states): ln p(hidden state at the next token | all tokens
    before it). A row of zeros, which is not a distribution, stands for the initial distribution,
    so that this is trained wherever a text begins.
    """

    config: HiddenMarkovConfig

    def __init__(self, config: HiddenMarkovConfig) -> None:
        super().__init__(config)
        states = config.states
        self.initial = nn.Parameter(torch.empty(states))
        self.transition = nn.Parameter(torch.empty(states, states))  # (from, to)
        self.emission = nn.Linear(states, config.vocabulary_size)

    def matmul_parameters(self) -> int:
        """The transitions; only one row of the emissions is used per token."""
        return self.config.states**2

    def activations_per_token(self) -> int:
        return 8 * self.config.states

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        self.initial.zero_()
        self.transition.normal_(0, _INITIAL_DEVIATION, generator=generator)
        self.emission.weight.normal_(0, _INITIAL_DEVIATION, generator=generator)
        self.emission.bias.zero_()

    def initialize_from_text(self, ids: IdArray) -> None:
        init_output_bias(self.emission.bias, ids)

    def start(self, batch: int) -> State:
        return State({"belief": self.initial.new_zeros(batch, len(self.initial))})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, State]:
        """Beliefs about the state at the next token, minus the log-normalizers of the emissions.

        So the score of a target needs one row of the emissions only. Dropout masks hidden states
        for a whole window (Chiu and Rush 2020).
        """
        # A belief is a sum of many small numbers: too inexact in half precision.
        with torch.autocast(self.device.type, enabled=False):
            normalizers = self.log_normalizers()
            emission = functional.embedding(ids, self.emission.weight) - normalizers
            masked = None
            if dropout is not None and dropout.rate:
                masked = dropout(self.initial.new_ones(1, ids.shape[1], len(self.initial))) == 0
                emission = emission.masked_fill(masked, _MASKED)
            beliefs = forward_beliefs(self.belief(state), self.transition.softmax(-1), emission)
            state = State({"belief": beliefs[-1]})
            if masked is not None:
                beliefs = beliefs.masked_fill(masked, _MASKED).log_softmax(-1)
            return beliefs - normalizers, state

    def belief(self, state: State) -> Tensor:
        """The belief (batch, states), which is the initial distribution at the start of a text."""
        belief = state.named["belief"]
        at_start = (belief == 0).all(-1, keepdim=True)
        return torch.where(at_start, self.initial.log_softmax(-1), belief)

    def log_normalizers(self) -> Tensor:
        """ln of the denominator of each state's emission softmax, (states,)."""
        emission = self.emission.weight + self.emission.bias.unsqueeze(1)
        peaks = emission.detach().amax(0)  # the gradient of logsumexp takes ten times as long
        return (emission - peaks).exp().sum(0).log() + peaks

    def logits(self, hidden: HiddenStates) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return Emissions(self.emission.weight, self.emission.bias).log_probs(
                cast(Tensor, hidden)
            )

    def log_probs(self, hidden: HiddenStates, targets: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            emission = functional.embedding(targets, self.emission.weight)
            return (cast(Tensor, hidden) + emission).logsumexp(-1) + self.emission.bias[targets]


class Emissions:
    """Emission weights, exponentiated once, to be summed over states for all tokens."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        # The maximum of each row, and of each hidden state's vector, is subtracted before exp.
        peaks = weight.detach().amax(1)
        self._exponentials = (weight - peaks.unsqueeze(1)).exp().T  # (states, vocabulary)
        self._bias = bias + peaks

    def log_probs(self, hidden: Tensor) -> Tensor:
        """hidden (..., states), as from the model -> ln p (..., vocabulary)."""
        peaks = hidden.detach().amax(-1, keepdim=True)
        sums = (hidden - peaks).exp() @ self._exponentials
        return sums.clamp(min=torch.finfo(sums.dtype).tiny).log() + peaks + self._bias
