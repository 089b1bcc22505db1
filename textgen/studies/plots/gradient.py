"""The vanishing gradient: the gradient of a loss with respect to the state many tokens before.

Hochreiter (1991); Bengio, Simard and Frasconi (1994).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from textgen.config import check_whole
from textgen.errors import DataError
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.studies.plots.drawing import Axis, LinePlot, Panel, lines_of, rows_of
from textgen.studies.plots.text import check_continuous, continuous
from textgen.tokenizers.base import EOS


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """The norm at one lag, in nats per unit of change of the state.

    Attributes:
        state: The tensors whose gradients are taken as one vector: ``hidden.0 cell.0``.
        places: The number of losses, over which lower and upper are the quartiles.
    """

    state: str
    places: int
    lag: int
    median: float
    lower: float
    upper: float


def gradient_norms(
    model: LanguageModel, text: str, *, lags: int = 100, places: int = 64
) -> list[GradientNorm]:
    """Compute the norm of d loss(t) / d state(t - k) for k = 1 ... ``lags``.

    loss(t) is -ln p of one token, given all tokens before it. state(t - k) is the state from
    which k more tokens are read until that token is predicted: all its floating-point tensors as
    one vector.

    Args:
        places: The number of losses, at equal distances in the text. Reading begins ``lags``
            tokens before the first state, so that no state is that of the start of a text.

    Raises:
        UsageError: The model has no continuous state.
        DataError: The text is too short.
    """
    check_whole("lags", lags, 1)
    state = " ".join(check_continuous(model, "plot gradient"))
    ids = np.concatenate([[EOS], model.tokenizer.encode(text).astype(np.int64)])
    if len(ids) < lags + 1:
        raise DataError(
            f"the text is too short for {lags} lags",
            why=f"it has {len(ids) - 1} tokens",
            fix="give a longer text, or fewer --lags",
        )
    window = min(len(ids), 2 * lags + 1)
    starts = np.unique(np.linspace(0, len(ids) - window, places).astype(np.int64))
    windows = torch.as_tensor(ids[starts + np.arange(window)[:, None]], device=model.model.device)
    norms = np.sort(_norms(model.model, windows, lags).cpu().double().numpy())
    quartiles = np.quantile(norms, (0.5, 0.25, 0.75), axis=1).T.tolist()
    return [GradientNorm(state, len(starts), lag, *each) for lag, each in enumerate(quartiles, 1)]


def _norms(model: Model, ids: Tensor, lags: int) -> Tensor:
    """The norms (lags, places) of the loss of the last of ``ids`` (time, places), lag 1 first."""
    before, after = ids[: -1 - lags], ids[-1 - lags : -1]
    state = model.start(ids.shape[1])
    # cuDNN has no backward pass of a network in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        if len(before):
            with torch.no_grad():
                _, state = model.hidden_states(before, state)
        steps = list[list[Tensor]]()
        for token in after:
            tensors = continuous(state)
            if not steps:
                tensors = {
                    name: each.detach().clone().requires_grad_() for name, each in tensors.items()
                }
            steps.append(list(tensors.values()))
            # Restored from these tensors, so that the graph passes through them.
            restored = model.restore(state.tensors() | tensors)
            outputs, state = model.hidden_states(token.unsqueeze(0), restored)
        loss = -model.log_probs(outputs[0], ids[-1]).sum()  # one place does not depend on another
        flat = [each for tensors in steps for each in tensors]
        gradients = torch.autograd.grad(loss, flat, materialize_grads=True)
    squares = torch.stack([each.flatten(1).pow(2).sum(1) for each in gradients])
    return squares.view(lags, -1, ids.shape[1]).sum(1).flip(0).sqrt()


_TABLE_LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWEST = 1e-16
"""An update this much smaller than the weights does not change them in float64."""


def gradient_plot(
    measured: Mapping[str, Sequence[GradientNorm]], sources: Sequence[str]
) -> LinePlot:
    """A line for each checkpoint, the median, with a band between the quartiles.

    Args:
        measured: By checkpoint.
        sources: A description of each text.
    """
    norms = [norm for each in measured.values() for norm in each]
    tensors = dict.fromkeys(tensor for norm in norms for tensor in norm.state.split())
    parts = " and ".join(dict.fromkeys(tensor.partition(".")[0] for tensor in tensors))
    layers = " of all layers" if any("." in tensor for tensor in tensors) else ""
    ends = [end for norm in norms for end in (norm.lower, norm.upper) if end > 0]
    powers = [math.log10(max(end, _LOWEST)) for end in ends]
    limits = (10.0 ** math.floor(min(powers)), 10.0 ** math.ceil(max(powers))) if powers else None
    y = Axis("|∂ loss(t) / ∂ state(t − k)|", "nats per unit", log=True, show=power, limits=limits)
    lines = lines_of(measured, lambda norm: (norm.lag, norm.median, norm.lower, norm.upper))
    return LinePlot(
        title="How far back does the gradient reach?",
        x=Axis("distance k", "tokens back"),
        y=y,
        panels=[Panel(lines, at=[lag for lag in _TABLE_LAGS if lag <= norms[-1].lag])],
        numbers=rows_of(measured),
        note=f"Median of {min(norm.places for norm in norms)} places in"
        f" {' and '.join(dict.fromkeys(sources))}; shaded: between the quartiles."
        f" State: {parts}{layers}.",
    )


def power(value: float) -> str:
    """A value with its power of ten.

    >>> power(1e-5), power(0.01), power(2.345e-5)
    ('10⁻⁵', '0.01', '2.3·10⁻⁵')
    """
    if value == 0 or 1e-3 < value < 1e3:
        return f"{value:.2g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10**exponent:.2g}"
    tens = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return tens if mantissa == "1" else f"{mantissa}·{tens}"
