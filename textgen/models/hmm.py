"""The hidden Markov model (Baum and Petrie 1966; as a language model, Jelinek 1976).

The forward algorithm and its gradient in closed form follow Rabiner, "A tutorial on hidden Markov
models" (1989), sections III.A and V.A.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.models.base import Dropout, IdArray, Model, State, Stepper, init_output_bias
from textgen.models.state import TensorState

_LEAST = 1e-30


def next_beliefs(begin: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """ln p(hidden state at the next token | all tokens up to this one), for each token.

    begin: (batch, states), the same of the first token. transition: (states, states),
    probabilities, each row summing to one. emission: (time, batch, states), ln p(token | hidden
    state) of the tokens read, but for a constant of each token's. -> (time, batch, states).

    Beliefs go from token to token as logarithms; there they meet the emissions, and there the
    likeliest state is taken out before anything is raised, so that no text is too long and no
    emission too small. In between they are multiplied as probabilities that sum to one, which
    is as exact as sums of exponentials in log space, since nothing is subtracted: and it is one
    product of matrices a token. A belief that would vanish stays at ``_LEAST``, so that no
    state is lost for ever.
    """
    function: Any = _NextBeliefs
    return cast(Tensor, function.apply(begin, transition, emission))


class _NextBeliefs(torch.autograd.Function):
    """Two thirds of the time that autograd takes, which records each of these small steps."""

    @staticmethod
    def forward(ctx: Any, begin: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
        posteriors, beliefs = torch.empty_like(emission), torch.empty_like(emission)
        belief = begin
        for place, of_token in enumerate(emission):
            torch.softmax(belief + of_token, -1, out=posteriors[place])
            belief = torch.mm(posteriors[place], transition, out=beliefs[place])
            belief.clamp_(min=_LEAST).log_()
        ctx.save_for_backward(posteriors, beliefs, transition)
        return beliefs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The backward recursion, which carries what each belief means to all that follows."""
        posteriors, beliefs, transition = ctx.saved_tensors
        to_products = beliefs.neg().exp_()  # d ln b / d b, so far; at most 1 / _LEAST
        to_emission = torch.empty_like(posteriors)
        back = transition.T.contiguous()
        later = torch.zeros_like(posteriors[0])
        for place in range(len(posteriors) - 1, -1, -1):
            posterior = posteriors[place]
            to_products[place].mul_(gradients[0][place] + later)
            later = torch.mm(to_products[place], back)
            later = (later - (later * posterior).sum(-1, keepdim=True)) * posterior
            to_emission[place] = later
        to_transition = posteriors.flatten(0, 1).T @ to_products.flatten(0, 1)
        return later, to_transition, to_emission


_SPREAD = 1.0  # of the first weights: states that begin alike stay alike for long
_SILENT = -1e4


class HiddenMarkovModel(Model):
    """Distributions as weights, softmaxed: where to begin, where to go, what to emit.

    It learns by the gradient of the likelihood that the forward algorithm gives, on the same
    streams as every model. Its state is the belief (batch, states): ln p(hidden state at the
    token to be read | all before it). A row of zeros, which is no distribution, stands for the
    initial one, so that this is learned wherever a text begins.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.states is not None
        states = config.states
        self.initial = nn.Parameter(torch.empty(states))
        self.transition = nn.Parameter(torch.empty(states, states))  # from, to
        self.emission = nn.Linear(states, config.vocabulary_size)

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.states is not None
        return {
            "initial": (config.states,),
            "transition": (config.states, config.states),
            "emission.weight": (config.vocabulary_size, config.states),
            "emission.bias": (config.vocabulary_size,),
        }

    @classmethod
    def matmul_parameters(cls, config: ModelConfig) -> int:
        """The transitions; of the emissions a token takes one row."""
        assert config.states is not None
        return config.states**2

    @classmethod
    def activations_per_token(cls, config: ModelConfig) -> int:
        assert config.states is not None
        return 8 * config.states

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        self.initial.zero_()
        self.transition.normal_(0, _SPREAD, generator=generator)
        self.emission.weight.normal_(0, _SPREAD, generator=generator)
        self.emission.bias.zero_()

    def read(self, ids: IdArray) -> None:
        init_output_bias(self.emission.bias, ids)

    def start(self, batch: int) -> TensorState:
        assert self.config.states is not None
        belief = torch.zeros(batch, self.config.states, dtype=self.dtype, device=self.device)
        return TensorState({"belief": belief})

    def restore(self, tensors: dict[str, Tensor]) -> TensorState:
        return TensorState({"belief": tensors["belief"]})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, TensorState]:
        """Beliefs about the state at the next token, less what the emissions of each sum to.

        With the sums taken off here, a target takes its own row of the emissions and no other.
        Dropout silences hidden states, and leaves the others to explain the window (Chiu and
        Rush 2020).
        """
        # A belief is a sum of many small shares, of which half precision would lose most.
        with torch.autocast(self.device.type, enabled=False):
            sums = self.emission_sums()
            emission = functional.embedding(ids, self.emission.weight) - sums
            silent = (
                None if dropout is None or not dropout.rate else self._silent(dropout, ids.shape[1])
            )
            if silent is not None:
                emission = emission.masked_fill(silent, _SILENT)
            beliefs = next_beliefs(self.begun(state), self.transition.softmax(-1), emission)
            state = TensorState({"belief": beliefs[-1]})
            if silent is not None:
                beliefs = beliefs.masked_fill(silent, _SILENT).log_softmax(-1)
            return beliefs - sums, state

    def begun(self, state: State) -> Tensor:
        """The belief (batch, states), with the initial distribution where nothing was read."""
        belief = cast(TensorState, state).named["belief"]
        fresh = (belief == 0).all(-1, keepdim=True)
        return torch.where(fresh, self.initial.log_softmax(-1), belief)

    def emission_sums(self) -> Tensor:
        """ln of what the emissions of each state (states,) sum to before they are softmaxed."""
        emission = self.emission.weight + self.emission.bias.unsqueeze(1)
        peaks = emission.detach().amax(0)  # the gradient of logsumexp itself takes ten times this
        return (emission - peaks).exp().sum(0).log() + peaks

    def _silent(self, dropout: Dropout, batch: int) -> Tensor:
        shape = (1, batch, len(self.initial))
        return dropout(torch.ones(shape, dtype=self.dtype, device=self.device)) == 0

    def logits(self, outputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return _Mixture(self.emission.weight, self.emission.bias).logits(outputs)

    def log_probs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            emission = functional.embedding(targets, self.emission.weight)
            return (outputs + emission).logsumexp(-1) + self.emission.bias[targets]

    def stepper(self, *, fast: bool = False) -> Stepper:
        return HiddenMarkovStepper(self)


class _Mixture:
    """The emissions, ready to be mixed for all tokens at once."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        # The largest of each row, and of each mixture, are taken out before they are raised.
        peaks = weight.detach().amax(1)
        self._shares = (weight - peaks.unsqueeze(1)).exp().T  # (states, vocabulary)
        self._bias = bias + peaks

    def logits(self, outputs: Tensor) -> Tensor:
        """outputs (..., states) -> ln p (..., vocabulary)."""
        peaks = outputs.detach().amax(-1, keepdim=True)
        mixed = (outputs - peaks).exp() @ self._shares
        return mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log() + peaks + self._bias


class HiddenMarkovStepper(Stepper):
    """Reads with the distributions made of the weights once."""

    @torch.no_grad()
    def __init__(self, model: HiddenMarkovModel) -> None:
        self._model = model
        self._sums = model.emission_sums()
        self._emission = model.emission.weight - self._sums
        self._transition = model.transition.softmax(-1)
        self._mixture = _Mixture(model.emission.weight.detach(), model.emission.bias.detach())
        self.state = model.start(1)

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        emission = self._emission[ids].unsqueeze(0)
        (belief,) = next_beliefs(self._model.begun(self.state), self._transition, emission)
        self.state = TensorState({"belief": belief})
        return self._mixture.logits(belief - self._sums)
