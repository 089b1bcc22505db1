"""The models, which ``textgen.config.KINDS`` names."""

import importlib
import math

from textgen.config import ModelConfig
from textgen.models.base import Dropout, Model, State, Stepper

__all__ = [
    "Dropout",
    "Model",
    "State",
    "Stepper",
    "build",
    "count_parameters",
    "model_class",
    "weight_shapes",
]


def model_class(config: ModelConfig) -> type[Model]:
    module, name = config.kind.place.split(":")
    found: type[Model] = getattr(importlib.import_module(f"textgen.models.{module}"), name)
    return found


def build(config: ModelConfig) -> Model:
    """A model of this shape, its weights not yet drawn."""
    return model_class(config)(config)


def count_parameters(config: ModelConfig) -> int:
    """How many weights a model of this shape has, without making it; exact at any size."""
    return sum(map(math.prod, weight_shapes(config).values()))


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of such a model by its name, without making it."""
    return model_class(config).shapes(config)
