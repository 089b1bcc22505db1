"""Gradients that reach back, against autograd computed otherwise."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.studies.plots.gradient import gradient_norms


class Letters:
    """Tokens that are letters: a is id 2, b is id 3 and so on."""

    def encode(self, text: str) -> Any:
        return np.array([ord(c) - ord("a") + 2 for c in text], np.uint32)


def language_model(network: Any) -> Any:
    header = types.SimpleNamespace(model=types.SimpleNamespace(model="lstm"))
    return types.SimpleNamespace(model=network, tokenizer=Letters(), path="x", header=header)


def test_the_norms_are_those_of_the_jacobian(make_model: Any) -> None:
    model = make_model(dtype=torch.float64)
    text, lags = "abcdefghihgfedcba", 4
    found = gradient_norms(language_model(model), text, lags=lags, places=1)
    assert (found[0].places, found[0].state) == (1, "hidden.0 cell.0 hidden.1 cell.1")
    ids = torch.tensor([1, *Letters().encode(text).tolist()])[: 2 * lags + 1]
    for lag in (1, 3, 4):
        last = len(ids) - 1
        with torch.no_grad():
            _, state = model.hidden_states(ids[: last - lag].unsqueeze(1), model.start(1))
        nudged = torch.cat(list(state.tensors().values()), 1).requires_grad_()

        def loss(vector: Any, lag: int = lag, last: int = last, state: Any = state) -> Any:
            sizes = [each.shape[1] for each in state.tensors().values()]
            parts = dict(zip(state.tensors(), vector.split(sizes, 1), strict=True))
            features, _ = model.hidden_states(
                ids[last - lag : last].unsqueeze(1), model.restore(parts)
            )
            return -model.logits(features[-1]).log_softmax(-1)[0, ids[last]]

        slope = torch.autograd.functional.jacobian(loss, nudged)
        assert found[lag - 1].lag == lag
        assert found[lag - 1].median == pytest.approx(float(slope.norm()), rel=1e-9)


def test_places_in_one_batch_are_independent(make_model: Any) -> None:
    model = language_model(make_model(dtype=torch.float64))
    both = gradient_norms(model, "abcdefghiabdacfbi", lags=3, places=2)
    window = 2 * 3 + 1
    text = "abcdefghiabdacfbi"
    # The first place is read from <EOS> on, the second ends with the text.
    first = gradient_norms(model, text[: window - 1], lags=3, places=1)
    assert both[0].places == 2
    for norm, alone in zip(both, first, strict=True):
        other = 2 * norm.median - alone.median
        assert other > 0
        assert norm.upper - norm.lower == pytest.approx(abs(other - alone.median) / 2)


def test_a_text_that_is_too_short_is_refused(model: Any) -> None:
    with pytest.raises(DataError, match="3 tokens"):
        gradient_norms(language_model(model), "abc", lags=4)


def test_a_model_without_a_continuous_state_is_refused(model: Any) -> None:
    class Counted(torch.nn.Module):
        is_causal = True

        def start(self, batch: int) -> Any:
            return types.SimpleNamespace(tensors=lambda: {"last": torch.zeros(1, 2).long()})

    with pytest.raises(UsageError, match="the last tokens"):
        gradient_norms(language_model(Counted()), "abcdef", lags=1)
    model.is_causal = False
    with pytest.raises(UsageError, match="both ways"):
        gradient_norms(language_model(model), "abcdef", lags=1)
