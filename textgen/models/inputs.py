"""What a network is given for a token: its embedding, or a vector of zeros and a single one."""

from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig

MOST_COLUMNS = 512
"""Of more tokens than this, one-hot vectors are made of those alone that a window has."""

_COLUMNS_STEP = 128  # oneDNN prepares itself for each width it meets


class OneHot(nn.Module):
    """ids (...) -> (..., vocabulary), 1 at the id and 0 elsewhere. It has no weights."""

    weight: ClassVar[None] = None

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding_dim = vocabulary_size
        self.register_buffer("one", torch.ones(()), persistent=False)  # whose type is the model's

    def forward(self, ids: Tensor) -> Tensor:
        return self._made(ids, self.embedding_dim)

    def given(self, ids: Tensor, from_below: Tensor) -> tuple[Tensor, Tensor]:
        """What a layer is given, and the columns of its weights that this is multiplied by.

        ids (time, batch), from_below (rows, vocabulary) -> (time, batch, columns),
        (rows, columns). Where tokens are many, the columns are of those that are there: the
        others would be multiplied by zeros.
        """
        if self.embedding_dim <= MOST_COLUMNS:
            return self(ids), from_below
        distinct, places = torch.unique(ids, return_inverse=True)
        columns = functional.pad(distinct, (0, -len(distinct) % _COLUMNS_STEP))
        return self._made(places, len(columns)), from_below[:, columns]

    def _made(self, ids: Tensor, width: int) -> Tensor:
        zeros = cast(Tensor, self.one).new_zeros(*ids.shape, width)
        return zeros.scatter_(-1, ids.unsqueeze(-1), 1)


def input_module(config: ModelConfig) -> nn.Embedding | OneHot:
    """ids (...) -> (..., width), with the ``embedding_dim`` that is ``input_width``."""
    if config.embedding_size == 0:
        return OneHot(config.vocabulary_size)
    assert config.embedding_size is not None
    embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
    embedding.weight.requires_grad = not config.freeze_embeddings
    return embedding


def input_width(config: ModelConfig) -> int:
    return config.embedding_size or config.vocabulary_size


def input_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The weights of ``input_module``, where a model has it as ``embedding``."""
    if config.embedding_size == 0:
        return {}
    return {"embedding.weight": (config.vocabulary_size, input_width(config))}


@torch.no_grad()
def draw_inputs(inputs: nn.Embedding | OneHot, generator: torch.Generator, *, tied: bool) -> None:
    """Draw an embedding; one that is the output's matrix too, small enough for that."""
    if isinstance(inputs, nn.Embedding):
        spread = inputs.embedding_dim**-0.5 if tied else 1.0
        inputs.weight.normal_(0, spread, generator=generator)


@torch.no_grad()
def begin_with_vectors(
    embedding: Tensor, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> None:
    """Put vectors (some ids, width) into a drawn embedding (id, width); the others become as large.

    So none is louder than another for having been drawn.
    """
    given = torch.from_numpy(vectors).to(embedding)
    size, drawn = (rows.square().mean().sqrt() for rows in (given, embedding))
    if size > 0:
        embedding.mul_(size / drawn)
    embedding[torch.from_numpy(ids)] = given
