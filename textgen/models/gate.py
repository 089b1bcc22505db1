"""How much to believe each of two models, by what is known before they are asked."""

import torch
from torch import Tensor, nn
from torch.nn import functional

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
