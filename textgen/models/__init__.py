"""The models, which ``textgen.config.KINDS`` names."""

import functools
import importlib
import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from textgen.config import ModelConfig, flag
from textgen.errors import UsageError
from textgen.models.base import Dropout, Model, State

__all__ = [
    "Dropout",
    "Model",
    "State",
    "build",
    "count_parameters",
    "model_class",
    "on_meta",
    "weight_shapes",
]


def model_class(config: ModelConfig) -> type[Model]:
    module, name = config.kind.place.split(":")
    found: type[Model] = getattr(importlib.import_module(f"textgen.models.{module}"), name)
    return found


def build(config: ModelConfig) -> Model:
    """A model of this shape, its weights not yet drawn."""
    return model_class(config)(config)


@functools.lru_cache(maxsize=64)
def on_meta(config: ModelConfig) -> Model:
    """A model of this shape on the meta device: its weights have shapes and take no memory.

    Raises UsageError where a weight would be larger than any tensor.
    """
    try:
        with torch.device("meta"), _NotDrawn():
            return build(config)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise UsageError(
            f"{config.description} is too large",
            why="its weights are more than a tensor can hold",
            fix=f"lower {' or '.join(map(flag, config.sizes))}",
        ) from error


class _NotDrawn(TorchFunctionMode):
    """Leaves out the drawing of weights: on the meta device it imports all of torch's compiler."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **(options or {}))


def count_parameters(config: ModelConfig) -> int:
    """The number of weights of a model of this shape, without allocating them."""
    return sum(map(math.prod, weight_shapes(config).values()))


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight by name, without allocating it; a shared weight has one name."""
    seen: set[int] = set()
    shapes = {}
    for name, weight in on_meta(config).state_dict(keep_vars=True).items():
        if id(weight) not in seen:
            seen.add(id(weight))
            shapes[name] = tuple(weight.shape)
    return shapes
