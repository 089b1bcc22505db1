"""What every model is: a map from ids and a state to logits and the next state."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.native import Network

IdArray = npt.NDArray[np.integer[Any]]

NOTHING = -1
"""The id of no token, where nothing is known to come."""

_READ_AT_ONCE = 4096


class State(Protocol):
    """What a model remembers of the text so far, for each row of a batch. Opaque to others."""

    def detach(self) -> Self:
        """The same state, cut from the graph of gradients."""

    def select(self, rows: Tensor) -> Self:
        """The state of some rows, in their order; a row may be taken more than once."""

    def keep(self, mask: Tensor) -> Self:
        """The state where the mask (batch,) is true, and the start state elsewhere."""

    def replace(self, rows: Tensor, other: Self) -> Self:
        """This state with these rows taken from ``other``, whose rows are as many."""

    def close_to(self, other: Self, tolerance: float) -> Tensor:
        """For each row (batch,), whether the two differ by at most ``tolerance`` (1 + size)."""

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, batch first, from which ``Model.restore`` makes it again."""


@dataclass(frozen=True)
class Noise:
    """Dropout that is an argument: its rate, and the generator that it draws from.

    One mask serves a whole window ("variational" or "locked" dropout: Gal and Ghahramani
    2016; Merity, Keskar and Socher 2018), so it costs a row of draws, not a matrix.
    """

    rate: float
    generator: torch.Generator

    def __call__(self, features: Tensor) -> Tensor:
        """Silence units of ``features`` (time, batch, units), scaled to keep the mean."""
        if self.rate == 0:
            return features
        mask = torch.empty(features.shape[1:], dtype=features.dtype, device=features.device)
        mask.bernoulli_(1 - self.rate, generator=self.generator)
        return features * mask.div_(1 - self.rate)


class Model(nn.Module, ABC):
    """A language model over ids.

    ``logits, state = model(ids, state)`` with ids (time, batch) gives logits
    (time, batch, vocabulary) for the token after each.
    """

    generates: ClassVar[bool] = True
    """Whether it tells what comes next; else what stands between what is before and after."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    @abstractmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """The shape of each weight by its name; one that is shared stands under one name."""

    @classmethod
    def multiplied(cls, config: ModelConfig) -> int:
        """How many weights a token is multiplied by; of the embedding it takes one row."""
        shapes = cls.shapes(config)
        looked_up = 0 if config.tie else math.prod(shapes.get("embedding.weight", (0,)))
        return sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2) - looked_up

    @classmethod
    def held(cls, config: ModelConfig) -> int:
        """Roughly how many numbers an update holds for a token: gates and states, and logits."""
        layers = sum(8 * units for units in config.hidden_size or ())
        return (config.embedding_size or 0) + layers + 3 * config.vocabulary_size

    @abstractmethod
    def start(self, batch: int) -> State:
        """The state before anything has been read."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> State:
        """The state whose ``tensors`` these are."""

    @abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the weights before training."""

    def read(self, ids: IdArray) -> None:
        """Shown the text that it is to learn from, before the first update."""

    def remarks(self) -> tuple[str, ...]:
        """What a person should hear of what it has read."""
        return ()

    def kept_back(self, ids: IdArray) -> tuple[slice, ...]:
        """Pieces of the text, in order, that it is not to learn from, but to settle on.

        Raises DataError where the text is too short to learn from at all.
        """
        return ()

    def settle(self, pieces: Sequence[IdArray]) -> None:
        """Settle what follows from the weights, on the pieces that were kept back.

        It comes before each validation, and depends on nothing that an earlier one has settled.
        """

    @abstractmethod
    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, State]:
        """ids (time, batch) -> features (time, batch, units) that ``logits`` reads, next state."""

    def features_around(
        self, ids: Tensor, targets: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, State]:
        """As ``features``, where the tokens (time or more, batch) that do come are known.

        A model that reads both ways reads them too, each but for its own place, and those after
        them where there are more; what is ``NOTHING`` is past the end of the text.
        """
        return self.features(ids, state, noise)

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """features (..., units) -> logits (..., vocabulary)."""

    def log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        """ln p of each target (places,), given its features (places, units); float32 or wider."""
        logits = self.logits(features)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return -functional.cross_entropy(wide, targets, reduction="none")

    def losses(self, features: Tensor, targets: Tensor) -> Tensor:
        """What an update makes smaller, of each target, as ``log_probs`` has them: nats."""
        return -self.log_probs(features, targets)

    def forward(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, State]:
        features, state = self.features(ids, state, noise)
        return self.logits(features), state

    def stepper(self, *, fast: bool = False) -> "Stepper":
        """What reads on a token a row at a time; it does not learn with the model.

        fast: it may be slightly less exact where that is faster.
        """
        return PlainStepper(self)

    def after(self, ids: Sequence[int]) -> tuple[Tensor, State]:
        """Logits (1, vocabulary) and state once these ids, one at least, are read from the start.

        However many there are, they are read some at a time.
        """
        state = self.start(1)
        for begin in range(0, len(ids), _READ_AT_ONCE):
            some = torch.tensor(ids[begin : begin + _READ_AT_ONCE], device=self.device)
            features, state = self.features(some.unsqueeze(1), state)
        return self.logits(features[-1]), state

    def token_vectors(self) -> Tensor | None:
        """The embedding of each token (vocabulary, width); None where there is none."""
        for module in self.modules():
            if (
                isinstance(module, nn.Embedding)
                and module.num_embeddings == self.config.vocabulary_size
            ):
                return module.weight
        return None

    def check(self) -> None:
        """Called once weights are loaded. Raises ValueError for those that cannot be."""

    @property
    def device(self) -> torch.device:
        return self._any_weight().device

    @property
    def dtype(self) -> torch.dtype:
        return self._any_weight().dtype

    def _any_weight(self) -> Tensor:
        weights = itertools.chain(self.parameters(), self.buffers())
        return next(weight for weight in weights if weight.is_floating_point())


class Stepper(ABC):
    """Reads a token a row, again and again.

    state: what has been read. It is given for as many rows as are to be read on.
    """

    state: State

    @abstractmethod
    def step(self, ids: Tensor) -> Tensor:
        """ids (batch,) -> logits (batch, vocabulary), which the next step may overwrite."""

    @property
    def network(self) -> Network | None:
        """What compiled code reads on with, sharing this state, where there is some."""
        return None


class PlainStepper(Stepper):
    """Reads with the model as it is."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.state = model.start(1)

    def step(self, ids: Tensor) -> Tensor:
        features, self.state = self._model.features(ids.unsqueeze(0), self.state)
        return self._model.logits(features[0])
