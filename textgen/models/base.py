"""The interface of models: ids and a state to hidden states, logits and the next state."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.models.candidates import Candidates
from textgen.process_memory import release_pages

IdArray = npt.NDArray[np.integer[Any]]

NOTHING = -1
"""The target where no token is known to follow; the id of no token."""

LARGEST_LOGITS = 2**22
"""The most logits computed at once where none is kept; more on a GPU (``size_on``)."""


@dataclass(frozen=True)
class State:
    """The state of a model after the text so far, by name, one row per stream. Opaque to callers.

    initial: the value that fills a tensor at the start of a text, where it is not 0.
    """

    named: dict[str, Tensor]
    initial: ClassVar[Mapping[str, float]] = {}

    def detach(self) -> Self:
        """The same state, cut from the graph of gradients."""
        return type(self)({name: rows.detach() for name, rows in self.named.items()})

    def select(self, rows: Tensor) -> Self:
        """The state of some rows, in their order; a row may be taken more than once."""
        return type(self)({name: all_rows[rows] for name, all_rows in self.named.items()})

    def keep(self, mask: Tensor) -> Self:
        """The state where the mask (batch,) is true, and the start state elsewhere."""
        kept = {}
        for name, rows in self.named.items():
            lost = ~mask.view(-1, *[1] * (rows.ndim - 1))
            # Filled, not multiplied: zero times NaN is NaN.
            kept[name] = rows.masked_fill(lost, self.initial.get(name, 0))
        return type(self)(kept)

    def replace(self, rows: Tensor, other: Self) -> Self:
        """This state with these rows taken from ``other``, which has as many rows."""
        return type(self)(
            {name: own.index_copy(0, rows, other.named[name]) for name, own in self.named.items()}
        )

    def close_to(self, other: Self, tolerance: float) -> Tensor:
        """For each row (batch,), whether the two differ by at most ``tolerance`` (1 + size)."""
        close = []
        for name, own in self.named.items():
            there = other.named[name]
            if own.is_floating_point():
                # Cells of an LSTM may reach dozens, with proportional rounding errors.
                equal = (own - there).abs() <= tolerance * (1 + there.abs())
            else:
                equal = own == there
            close.append(equal.flatten(1).all(1))
        return torch.stack(close).all(0)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, batch first, from which ``Model.restore`` makes the state again."""
        return dict(self.named)


class HiddenStates(Protocol):
    """What ``Model.logits`` reads, (time, batch, ...) or (tokens, ...): a tensor, or like one."""

    def __getitem__(self, index: Any, /) -> Self: ...

    def flatten(self, start: int, end: int, /) -> Self: ...

    def split(self, size: int, /) -> Sequence[Self]: ...


@dataclass(frozen=True)
class Dropout:
    """Dropout with one mask for a whole window, which costs a row of draws, not a matrix.

    "Variational" or "locked" dropout (Gal and Ghahramani 2016; Merity, Keskar and Socher 2018).

    ngram_rate: The share of n-gram embeddings that are left out, each on its own.
    """

    rate: float
    generator: torch.Generator
    ngram_rate: float = 0.0

    def __call__(self, hidden: Tensor) -> Tensor:
        """Drop units of ``hidden`` (time, batch, units), scaled to keep the mean."""
        if self.rate == 0:
            return hidden
        mask = torch.empty(hidden.shape[1:], dtype=hidden.dtype, device=hidden.device)
        mask.bernoulli_(1 - self.rate, generator=self.generator)
        return hidden * mask.div_(1 - self.rate)

    def ngram_weights(self, places: Tensor) -> Tensor | None:
        """0 for what is left out and a factor that keeps the mean for the rest, as ``places``."""
        if self.ngram_rate == 0:
            return None
        kept = torch.empty(places.shape, device=places.device)
        kept.bernoulli_(1 - self.ngram_rate, generator=self.generator)
        return kept.div_(1 - self.ngram_rate)


class Model(nn.Module, ABC):
    """A language model over ids.

    ``logits, state = model(ids, state)``: ids (time, batch) -> (time, batch, vocabulary).
    """

    is_causal: ClassVar[bool] = True
    """Whether it predicts a token from those before it alone; else from both sides."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the weights before training."""

    def initialize_from_text(self, ids: IdArray) -> None:
        """Called with the training text before the first update, after ``initialize``."""

    @abstractmethod
    def start(self, batch: int) -> State:
        """The state at the start of a text."""

    def restore(self, tensors: Mapping[str, Tensor]) -> State:
        """The state with these tensors, of which others are ignored.

        Raises:
            ValueError: An id in it is outside the vocabulary or the tables of the model.
        """
        start = self.start(1)
        return type(start)({name: tensors[name] for name in start.named})

    @abstractmethod
    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[HiddenStates, State]:
        """ids (time, batch) -> hidden states (time, batch, units) for ``logits``, next state."""

    def hidden_states_in_context(
        self, ids: Tensor, targets: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[HiddenStates, State]:
        """As ``hidden_states``; a bidirectional model also uses the tokens after each target.

        targets: (time or more, batch), the tokens after each id and, if there are more, those
        after them; ``NOTHING`` after the end of the text.
        """
        return self.hidden_states(ids, state, dropout)

    @abstractmethod
    def logits(self, hidden: HiddenStates) -> Tensor:
        """hidden (..., units) -> logits (..., vocabulary)."""

    def log_probs(self, hidden: HiddenStates, targets: Tensor) -> Tensor:
        """ln p of each target (tokens,), given its hidden state; float32 or wider."""
        logits = self.logits(hidden)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return -functional.cross_entropy(wide, targets, reduction="none")

    def losses(
        self, hidden: HiddenStates, targets: Tensor, candidates: Candidates | None = None
    ) -> Tensor:
        """What training minimizes, for each target (tokens,), in nats.

        candidates: if given, the targets are places among them, and the loss is an estimate.
        """
        layer = self.output_layer
        if candidates is None or layer is None:
            return -self.log_probs(hidden, targets)
        return candidates.losses(layer, cast(Tensor, hidden), targets)

    def forward(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, State]:
        hidden, state = self.hidden_states(ids, state, dropout)
        return self.logits(hidden), state

    def token_vectors(self) -> Tensor | None:
        """The embedding of each token, (vocabulary, width); None if there is none."""
        return next((each.weight for each in self._embeddings()), None)

    def matmul_parameters(self) -> int:
        """The number of weights that a token is multiplied by; an embedding is only looked up."""
        weights = sum(weight.numel() for weight in self.parameters() if weight.ndim == 2)
        looked_up = [each.weight for each in self._embeddings()] + self.lookup_tables(sampled=False)
        return weights - sum(each.numel() for each in looked_up)

    @property
    def output_layer(self) -> nn.Linear | None:
        """The layer that alone computes logits from hidden states, if there is one."""
        return None

    def lookup_tables(self, *, sampled: bool) -> list[nn.Parameter]:
        """Weights (rows, width) of which an update uses few rows.

        sampled: whether losses are computed among ``Candidates``.
        """
        layer = self.output_layer if sampled else None
        if layer is None:
            return []
        weights = [layer.weight, *(each.weight for each in self._embeddings())]
        found = {id(each): cast(nn.Parameter, each) for each in weights}  # a tied one once
        return [each for each in found.values() if each.requires_grad]

    def activations_per_token(self) -> int:
        """Roughly how many numbers an update holds per token: gates and states, and logits."""
        widths = sum(each.embedding_dim for each in self._embeddings())
        return widths + 8 * sum(self.config.layer_sizes) + 3 * self.config.vocabulary_size

    def _embeddings(self) -> list[nn.Embedding]:
        return [module for module in self.modules() if isinstance(module, nn.Embedding)]

    @property
    def has_fixed_shapes(self) -> bool:
        """Whether the shapes within an update depend on no id, so that it can be recorded."""
        return True

    @property
    def device(self) -> torch.device:
        return self._any_weight().device

    @property
    def dtype(self) -> torch.dtype:
        return self._any_weight().dtype

    def _any_weight(self) -> Tensor:
        weights = itertools.chain(self.parameters(), self.buffers())
        return next(weight for weight in weights if weight.is_floating_point())


def frequencies(ids: IdArray, vocabulary_size: int) -> npt.NDArray[np.int64]:
    """The count of each id (vocabulary,) in a sample from all over the text."""
    samples, size = 64, 2**15
    places = np.linspace(0, max(0, len(ids) - size), samples).astype(np.int64)
    parts = [ids[place : place + size] for place in dict.fromkeys(places.tolist())]
    counts = np.bincount(np.concatenate(parts), minlength=vocabulary_size)
    release_pages(ids)
    return counts


def check_ids(ids: Tensor, low: int, sizes: Sequence[int]) -> None:
    """Raises ValueError if an id of a state (batch, columns) is not below the size of its column.

    Args:
        low: The lowest id.
    """
    if bool(((ids < low) | (ids >= torch.tensor(sizes, device=ids.device))).any()):
        raise ValueError("an id in the state of a stream is out of range")


@torch.no_grad()
def init_output_bias(bias: Tensor, ids: IdArray) -> None:
    """Set the bias (vocabulary,) of an output layer to the unigram distribution, if it is zero.

    Adam would take long to reach it: an update moves a bias by at most the learning rate.
    """
    if not bias.any():
        smoothed = torch.from_numpy(frequencies(ids, len(bias))).to(bias) + 0.5
        bias.copy_((smoothed / smoothed.sum()).log())
