"""The forward algorithm for hidden Markov models, and its gradient in closed form.

After Rabiner, "A tutorial on hidden Markov models" (1989), sections III.A and V.A.
"""

from typing import Any, cast

import torch
from torch import Tensor

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
