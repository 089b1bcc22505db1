"""The models, by the name that ``--model`` takes. A new one is a file and a line here."""

import math

from textgen.config import ModelConfig
from textgen.errors import UsageError
from textgen.models.base import Model, Noise, State, Stepper
from textgen.models.recurrent import LSTMModel

MODELS: dict[str, type[Model]] = {model.kind: model for model in (LSTMModel,)}

__all__ = [
    "MODELS",
    "Model",
    "Noise",
    "State",
    "Stepper",
    "build",
    "count_parameters",
    "weight_shapes",
]


def build(config: ModelConfig) -> Model:
    """A model of this shape, its weights not yet drawn."""
    return _model_class(config)(config)


def count_parameters(config: ModelConfig) -> int:
    """How many weights a model of this shape has, without making it; exact at any size."""
    return sum(map(math.prod, weight_shapes(config).values()))


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of such a model by its name, without making it."""
    return _model_class(config).shapes(config)


def _model_class(config: ModelConfig) -> type[Model]:
    if config.model not in MODELS:
        raise UsageError(
            f"--model must be one of {', '.join(MODELS)}, got {config.model!r}", where="--model"
        )
    return MODELS[config.model]
