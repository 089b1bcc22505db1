"""Weights rounded to bfloat16 where that hardly changes what a model predicts."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from textgen.checkpoint import Rounding, is_matrix
from textgen.models import Model
from textgen.models.base import LARGEST_LOGITS, IdArray
from textgen.tokenizers.base import EOS

MAX_DIVERGENCE = 1e-5
"""In nats per token."""

_STREAMS, _WINDOW, _MEASURED = 16, 64, 32
"""A sample of the text: streams, the tokens that each reads, and those at its end on which the
divergence is measured, so that the state has errors too."""


@contextlib.contextmanager
def rounded(model: Model, ids: IdArray) -> Iterator[Rounding | None]:
    """Within the block, the matrices of the model are rounded to the nearest bfloat16.

    They are exact, and the block is given None, if the model would diverge by ``MAX_DIVERGENCE``
    or more on a sample of the text ``ids``, or has no matrices. Afterwards all are exact.
    """
    exact = {weight: weight.detach().clone() for weight in model.parameters() if is_matrix(weight)}
    try:
        yield _round(model, ids, exact) if exact else None
    finally:
        _assign(exact)


@torch.no_grad()
def _round(model: Model, ids: IdArray, exact: Mapping[nn.Parameter, Tensor]) -> Rounding | None:
    text = _sample(ids).to(model.device)
    before = _log_probs(model, text)
    _assign({weight: value.bfloat16() for weight, value in exact.items()})
    # The Kullback-Leibler divergence; where it is zero, rounding errors may make it less.
    terms = before.exp() * (before - _log_probs(model, text))
    divergence = max(0.0, float(terms.sum()) / len(terms))
    if divergence < MAX_DIVERGENCE:
        return Rounding("bfloat16", divergence, len(terms))
    _assign(exact)
    return None


@torch.no_grad()
def _assign(values: Mapping[nn.Parameter, Tensor]) -> None:
    for weight, value in values.items():
        weight.copy_(value)


def _sample(ids: IdArray) -> Tensor:
    """Parts of a text, evenly spaced, one in each column (time, streams)."""
    length = min(_WINDOW, len(ids))
    streams = min(_STREAMS, len(ids) // length)
    begins = np.linspace(0, len(ids) - length, streams).astype(np.int64)
    parts = np.stack([ids[begin : begin + length] for begin in begins], 1)
    return torch.from_numpy(parts.astype(np.int64))


def _log_probs(model: Model, text: Tensor) -> Tensor:
    """ln p of each token of the vocabulary (tokens, vocabulary) at the end of every stream.

    The end is shorter with a large vocabulary, so that the distributions fit in memory.
    """
    inputs = torch.cat([torch.full_like(text[:1], EOS), text[:-1]])
    streams = text.shape[1]
    hidden, _ = model.hidden_states_in_context(inputs, text, model.start(streams))
    most = LARGEST_LOGITS // (streams * model.config.vocabulary_size)
    last = hidden[-max(1, min(_MEASURED, most)) :]
    return model.logits(last.flatten(0, 1)).cpu().double().log_softmax(-1)
