"""Gradients that reach back, against autograd computed otherwise."""

import types
from typing import Any

import numpy as np
import pytest
import torch

from textgen.errors import DataError, UsageError
from textgen.studies.plots.memory import gradient_norms


class Letters:
    """Tokens that are letters: a is id 2, b is id 3 and so on."""

    def encode(self, text: str) -> Any:
        return np.array([ord(c) - ord("a") + 2 for c in text], np.uint32)


def test_the_norms_are_those_of_the_jacobian(make_model: Any, stand_in: Any) -> None:
    model = make_model(dtype=torch.float64)
    text, lags = "abcdefghihgfedcba", 4
    found = gradient_norms(stand_in(model, Letters()), text, lags=lags, places=1)
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


def test_places_in_one_batch_are_independent(make_model: Any, stand_in: Any) -> None:
    model, text = stand_in(make_model(dtype=torch.float64), Letters()), "abcdefghiabdacfbi"
    both = gradient_norms(model, text, lags=3, places=2)
    # The first place is read from <EOS> on, the second ends with the text.
    first = gradient_norms(model, text[: 2 * 3], lags=3, places=1)
    assert both[0].places == 2
    for norm, alone in zip(both, first, strict=True):
        other = 2 * norm.median - alone.median
        assert other > 0
        assert norm.upper - norm.lower == pytest.approx(abs(other - alone.median) / 2)


def test_a_short_text_and_a_model_without_a_continuous_state_are_refused(
    model: Any, stand_in: Any
) -> None:
    with pytest.raises(DataError, match="3 tokens"):
        gradient_norms(stand_in(model, Letters()), "abc", lags=4)
    window = types.SimpleNamespace(tensors=lambda: {"last": torch.zeros(1, 2).long()})
    feedforward = types.SimpleNamespace(is_causal=True, start=lambda batch: window)
    with pytest.raises(UsageError, match="the last tokens"):
        gradient_norms(stand_in(feedforward, Letters()), "abcdef", lags=1)
    model.is_causal = False
    with pytest.raises(UsageError, match="both ways"):
        gradient_norms(stand_in(model, Letters()), "abcdef", lags=1)
