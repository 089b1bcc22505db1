"""A larger vocabulary for a trained model, whose weights a run begins with."""

import math

import torch
from torch import Tensor

from textgen.models import Model, build, weight_shapes
from textgen.tokenizers.base import UNK


@torch.no_grad()
def extended(model: Model, vocabulary_size: int) -> Model:
    """The model with new ids after its own, each of which starts as another ``<UNK>``.

    ``<UNK>`` is what the model has learned of tokens that it does not know, so the new rows of
    embedding and output are copies of its row, or of its column where input is one-hot. Each new
    id has gradients of its own, so they diverge without random noise, and a text without new
    tokens meets the same model. Together the k new ids get the probability of one more ``<UNK>``:
    their biases are lower by ln(k), because at the full bias ten thousand new words would take
    nearly all of the probability from the old ones. Old rows stay as they are.
    """
    config = model.config.resolved(vocabulary_size)
    new = vocabulary_size - model.config.vocabulary_size
    assert new >= 0
    if not new:
        return model
    weights = dict(model.named_parameters())
    bigger = build(config)
    shapes, old_shapes = weight_shapes(config), weight_shapes(model.config)
    grown = {
        name: weights[name] if shape == old_shapes[name] else _grown(weights[name], shape)
        for name, shape in shapes.items()
        if name in weights  # n-grams are counted anew
    }
    bigger.load_state_dict(grown, strict=False)  # a tied weight has one name here
    return bigger


def _grown(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A weight with more ids: a bias (id,), a row per id (id, units), or a column (units, id)."""
    axis = next(axis for axis, size in enumerate(shape) if size != weight.shape[axis])
    old = weight.movedim(axis, 0)
    new = shape[axis] - len(old)
    rows = old[UNK].expand(new, *old.shape[1:])
    if weight.ndim == 1:
        rows = rows - math.log(new)
    return torch.cat([old, rows]).movedim(0, axis)
