"""The vanishing gradient, measured: how much of a loss reaches the state of many tokens ago.

Hochreiter (1991); Bengio, Simard and Frasconi (1994): in a plain recurrent network it falls off
exponentially with the distance, and what is not reached cannot be learned.
"""

import numpy as np
import torch
from torch import Tensor

from textgen.config import check_whole
from textgen.errors import DataError
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.results import GradientNorm, GradientNorms
from textgen.studies.states import check_continuous, continuous
from textgen.tokenizers.base import EOS


def gradient_norms(
    model: LanguageModel, text: str, *, lags: int = 100, places: int = 64
) -> GradientNorms:
    """The norm of d loss(t) / d state(t - k) for k = 1 ... ``lags``.

    loss(t): -ln p of one token, given all before it. state(t - k): that from which k more tokens
    are read until that token is predicted; all its real tensors, as one vector. places: how many
    losses, evenly spread over the text; each is read from ``lags`` tokens further back, so that
    the state is one that occurs within a text. Raises DataError where the text is too short.
    """
    check_whole("lags", lags, 1)
    names = check_continuous(model, "plot gradient")
    ids = np.concatenate([[EOS], model.tokenizer.encode(text).astype(np.int64)])
    if len(ids) < lags + 1:
        raise DataError(
            f"the text is too short for {lags} lags",
            why=f"it has {len(ids) - 1} tokens",
            fix="give a longer text, or fewer --lags",
        )
    window = min(len(ids), 2 * lags + 1)
    starts = np.unique(np.linspace(0, len(ids) - window, places).astype(np.int64))
    read = torch.as_tensor(ids[starts + np.arange(window)[:, None]], device=model.model.device)
    norms = np.sort(_norms(model.model, read, lags).cpu().double().numpy())  # (lags, places)
    lower, median, upper = np.quantile(norms, (0.25, 0.5, 0.75), axis=1)
    return GradientNorms(
        checkpoint=str(model.path),
        state=names,
        places=len(starts),
        norms=tuple(
            GradientNorm(lag, float(median[lag - 1]), float(lower[lag - 1]), float(upper[lag - 1]))
            for lag in range(1, lags + 1)
        ),
    )


def _norms(model: Model, ids: Tensor, lags: int) -> Tensor:
    """ids (time, places) -> (lags, places): of the loss of the last of them, lag 1 first."""
    before, after = ids[: -1 - lags], ids[-1 - lags : -1]
    state = model.start(ids.shape[1])
    # cuDNN has no backward pass of a network that is not being trained.
    with torch.backends.cudnn.flags(enabled=False):
        if len(before):
            with torch.no_grad():
                _, state = model.features(before, state)
        passed = list[list[Tensor]]()
        for token in after:
            tensors = state.tensors()
            real = {
                # The first are leaves; the others are held where the next step reads them.
                name: each if passed else each.detach().clone().requires_grad_()
                for name, each in continuous(state).items()
            }
            passed.append(list(real.values()))
            features, state = model.features(token.unsqueeze(0), model.restore(tensors | real))
        loss = -model.log_probs(features[0], ids[-1]).sum()  # places do not meet
        flat = [each for tensors in passed for each in tensors]
        slopes = torch.autograd.grad(loss, flat, allow_unused=True)
    each = len(passed[0])
    squares = [
        torch.zeros_like(one).flatten(1).sum(1) if slope is None else slope.flatten(1).pow(2).sum(1)
        for one, slope in zip(flat, slopes, strict=True)
    ]
    sums = [torch.stack(squares[i : i + each]).sum(0) for i in range(0, len(squares), each)]
    return torch.stack(sums[::-1]).sqrt()
