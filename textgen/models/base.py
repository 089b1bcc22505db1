"""The interface of models: ids and a state to hidden states, logits and the next state."""

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
from textgen.inference.native import Network
from textgen.process_memory import let_go

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
class Dropout:
    """Dropout that is an argument: its rate, and the generator that it draws from.

    One mask serves a whole window ("variational" or "locked" dropout: Gal and Ghahramani
    2016; Merity, Keskar and Socher 2018), so it costs a row of draws, not a matrix.
    """

    rate: float
    generator: torch.Generator

    def __call__(self, hidden: Tensor) -> Tensor:
        """Silence units of ``hidden`` (time, batch, units), scaled to keep the mean."""
        if self.rate == 0:
            return hidden
        mask = torch.empty(hidden.shape[1:], dtype=hidden.dtype, device=hidden.device)
        mask.bernoulli_(1 - self.rate, generator=self.generator)
        return hidden * mask.div_(1 - self.rate)


class Model(nn.Module, ABC):
    """A language model over ids.

    ``logits, state = model(ids, state)`` with ids (time, batch) gives logits
    (time, batch, vocabulary) for the token after each.
    """

    is_causal: ClassVar[bool] = True
    """Whether it tells what comes next; else what stands between what is before and after."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    @abstractmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """The shape of each weight by its name; one that is shared stands under one name."""

    @classmethod
    def matmul_parameters(cls, config: ModelConfig) -> int:
        """How many weights a token is multiplied by; of the embedding it takes one row."""
        shapes = cls.shapes(config)
        looked_up = 0 if config.tie else math.prod(shapes.get("embedding.weight", (0,)))
        return sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2) - looked_up

    @classmethod
    def activations_per_token(cls, config: ModelConfig) -> int:
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

    def held_out_chunks(self, ids: IdArray) -> tuple[slice, ...]:
        """Pieces of the text, in order, that it is not to learn from, but to settle on.

        Raises DataError where the text is too short to learn from at all.
        """
        return ()

    def settle(self, pieces: Sequence[IdArray]) -> None:
        """Settle what follows from the weights, on the pieces that were kept back.

        It comes before each validation, and depends on nothing that an earlier one has settled.
        """

    @abstractmethod
    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, State]:
        """ids (time, batch) -> hidden (time, batch, units) that ``logits`` reads, next state."""

    def hidden_states_in_context(
        self, ids: Tensor, targets: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, State]:
        """As ``hidden``, where the tokens (time or more, batch) that do come are known.

        A model that reads both ways reads them too, each but for its own place, and those after
        them where there are more; what is ``NOTHING`` is past the end of the text.
        """
        return self.hidden_states(ids, state, dropout)

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., units) -> logits (..., vocabulary)."""

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """ln p of each target (places,), given its hidden (places, units); float32 or wider."""
        logits = self.logits(hidden)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return -functional.cross_entropy(wide, targets, reduction="none")

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """What an update makes smaller, of each target, as ``log_probs`` has them: nats."""
        return -self.log_probs(hidden, targets)

    def forward(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, State]:
        hidden, state = self.hidden_states(ids, state, dropout)
        return self.logits(hidden), state

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
            hidden, state = self.hidden_states(some.unsqueeze(1), state)
        return self.logits(hidden[-1]), state

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
        hidden, self.state = self._model.hidden_states(ids.unsqueeze(0), self.state)
        return self._model.logits(hidden[0])


_SAMPLES, _COUNTED = 64, 2**15


def frequencies(ids: IdArray, vocabulary_size: int) -> npt.NDArray[np.int64]:
    """How often each id stands in the text (vocabulary,), by a sample from all over it."""
    places = np.linspace(0, max(0, len(ids) - _COUNTED), _SAMPLES).astype(np.int64)
    parts = [ids[place : place + _COUNTED] for place in np.unique(places)]
    counts = np.bincount(np.concatenate(parts), minlength=vocabulary_size)
    let_go(ids)
    return counts


@torch.no_grad()
def init_output_bias(bias: Tensor, ids: IdArray) -> None:
    """Begin with the frequencies of the tokens, which Adam else takes long to arrive at.

    A bias (vocabulary,) of the output moves by no more than the rate in an update, and that of
    a rare token has to fall by ten. What has been learned already is left as it is.
    """
    if not bias.any():
        smoothed = torch.from_numpy(frequencies(ids, len(bias))).to(bias) + 0.5
        bias.copy_((smoothed / smoothed.sum()).log())
