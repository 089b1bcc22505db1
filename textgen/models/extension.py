"""A model over more tokens than it was trained on."""

import dataclasses
import math

import torch
from torch import Tensor

from textgen.models import Model, build, weight_shapes
from textgen.tokenizers.base import UNK


@torch.no_grad()
def extended(model: Model, vocabulary_size: int) -> Model:
    """The model with new ids after its own, each of which starts as another ``<UNK>``.

    ``<UNK>`` is what the model has learned of tokens that it does not know, so the new rows of
    embedding and output are copies of its row, or of its column where input is one-hot. They part
    by themselves: each id has gradients of its own, from where it is read and where it is the
    target; so nothing random is added, and a text that has none of them meets the same model.
    Together the k new ids get the probability of one more ``<UNK>``, their biases being lower by
    ln(k): at the full bias, ten thousand new words would take nearly all of the probability from
    the old ones. Old rows stay as they are.
    """
    config = dataclasses.replace(model.config, vocabulary_size=vocabulary_size, counted=())
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
        if name in weights  # what is counted is counted anew
    }
    bigger.load_state_dict(grown, strict=False)  # a tied weight stands under one name
    return bigger


def _grown(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A weight with more ids: a bias (id,), a row an id (id, units), or a column (units, id)."""
    by_id = next(place for place, size in enumerate(shape) if size != weight.shape[place])
    old = weight.movedim(by_id, 0)
    new = shape[by_id] - len(old)
    rows = old[UNK].expand(new, *old.shape[1:])
    if weight.ndim == 1:
        rows = rows - math.log(new)
    return torch.cat([old, rows]).movedim(0, by_id)
