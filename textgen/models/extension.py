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
    embedding and output are copies of its row. They part by themselves: each id has gradients of
    its own, from where it is read and where it is the target; so nothing random is added, and a
    text that has none of them meets the same model. Together the k new ids get the probability
    of one more ``<UNK>``, their biases being lower by ln(k): at the full bias, ten thousand new
    words would take nearly all of the probability from the old ones. Old rows stay as they are.
    """
    config = dataclasses.replace(model.config, vocabulary_size=vocabulary_size)
    new = vocabulary_size - model.config.vocabulary_size
    assert new >= 0
    if not new:
        return model
    weights = model.state_dict()
    bigger = build(config)
    shapes, old_shapes = weight_shapes(config), weight_shapes(model.config)
    grown = {
        name: weights[name] if shape == old_shapes[name] else _with_rows(weights[name], new)
        for name, shape in shapes.items()
    }
    bigger.load_state_dict(grown, strict=False)  # a tied weight stands under one name
    return bigger


def _with_rows(weight: Tensor, new: int) -> Tensor:
    """A weight with a row an id (id, units), or a bias (id,), for ``new`` more ids."""
    rows = weight[UNK].expand(new, *weight.shape[1:])
    if weight.ndim == 1:
        rows = rows - math.log(new)
    return torch.cat([weight, rows])
