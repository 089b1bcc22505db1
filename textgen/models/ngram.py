"""The n-gram language model, and how it is read one token at a time without compiled code.

For a single row the successors of a context are a slice of the table. NumPy reads it in a few
microseconds, where batched operations take a millisecond.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.errors import DataError
from textgen.models.base import Dropout, IdArray, Model, State, Stepper
from textgen.models.ngram_tables import UNSEEN, NgramTables
from textgen.models.state import TensorState
from textgen.tokenizers.base import EOS

_Whole = npt.NDArray[np.int64]
_Real = npt.NDArray[np.float64]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class NgramRows:
    """Tables on the CPU, as arrays."""

    def __init__(self, tables: NgramTables) -> None:
        levels, first = tables.compiled()
        self._first: _Real = first.numpy()
        self._levels: list[tuple[_Whole, _Whole, _Real, _Real]] = [
            (each.begins.numpy(), each.words.numpy(), each.own.numpy(), each.left.numpy())
            for each in levels
        ]

    def step(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """As ``NgramTables.step``."""
        after = numbers.clone()
        rows = zip(after.numpy(), ids.tolist(), strict=True)
        return torch.from_numpy(np.stack([self._step(row, id) for row, id in rows])), after

    def _step(self, numbers: _Whole, id: int) -> _Real:
        """What may follow, and in ``numbers`` the new ones in place of the old."""
        begins = id == EOS and len(numbers) > 0 and numbers[0] == UNSEEN
        for place in range(len(numbers) - 1, 0, -1):
            numbers[place] = self._longer(place - 1, numbers[place - 1], id)
        numbers[:1] = len(self._first) if begins else id
        shares = self._first.copy()
        for (begins, words, own, left), context in zip(self._levels, numbers.tolist(), strict=True):
            if context == UNSEEN:
                break  # and so is what is longer
            shares *= left[context]
            following = slice(begins[context], begins[context + 1])
            shares[words[following]] += own[following]
        return shares

    def _longer(self, place: int, context: int, id: int) -> int:
        if context == UNSEEN:
            return UNSEEN
        begins, words, _, _ = self._levels[place]
        following = words[begins[context] : begins[context + 1]]
        at = int(np.searchsorted(following, id))
        found = at < len(following) and following[at] == id
        return int(begins[context]) + at if found else UNSEEN


def stepping(tables: NgramTables) -> Step:
    """The faster way to take a step."""
    return NgramRows(tables).step if tables.census.device.type == "cpu" else tables.step


class NgramState(TensorState):
    """ngrams: (batch, order - 1) int64, the numbers of what has just been read; and, of a network
    that reads the same, its state by its names."""

    beginnings: ClassVar[Mapping[str, float]] = {"ngrams": UNSEEN}


class NgramModel(Model):
    """Interpolated modified Kneser-Ney, counted in one reading.

    Its hidden are the numbers of what ends at each place, (time, batch, order - 1) int64.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.order is not None
        self.tables = NgramTables(config.order, config.vocabulary_size, config.counted)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)  # tells device and dtype

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.order is not None
        shapes = NgramTables.shapes(config.order, config.vocabulary_size, config.counted)
        return {f"tables.{name}": shape for name, shape in shapes.items()}

    def initialize(self, generator: torch.Generator) -> None:
        """Nothing has been counted."""

    def held_out_chunks(self, ids: IdArray) -> tuple[slice, ...]:
        check_order(self.config, len(ids))
        return ()

    def read(self, ids: IdArray) -> None:
        counted = self.tables.read(ids)
        self.config = dataclasses.replace(self.config, counted=counted)

    def remarks(self) -> tuple[str, ...]:
        return self.tables.remarks()

    def check(self) -> None:
        self.tables.check()

    def start(self, batch: int) -> NgramState:
        shape = (batch, self.tables.order - 1)
        return NgramState({"ngrams": torch.full(shape, UNSEEN, device=self.device)})

    def restore(self, tensors: dict[str, Tensor]) -> NgramState:
        return NgramState({"ngrams": tensors["ngrams"]})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, NgramState]:
        numbers = self.tables.follow(ids, cast(NgramState, state).named["ngrams"])
        return numbers, NgramState({"ngrams": numbers[-1]})

    def logits(self, hidden: Tensor) -> Tensor:
        flat = hidden.flatten(0, -2)
        shares = self.tables.distributions(flat)
        return shares.log().to(self._wide).view(*hidden.shape[:-1], -1)

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self.tables.shares(hidden, targets).log().to(self._wide)

    def stepper(self, *, fast: bool = False) -> Stepper:
        return NgramStepper(self)

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)


class NgramStepper(Stepper):
    """Takes a slice of what was counted for each row."""

    def __init__(self, model: NgramModel) -> None:
        self._step, self._dtype = stepping(model.tables), model.dtype
        self.state = model.start(1)

    def step(self, ids: Tensor) -> Tensor:
        numbers = cast(NgramState, self.state).named["ngrams"]
        shares, numbers = self._step(ids, numbers)
        self.state = NgramState({"ngrams": numbers})
        return shares.log().to(torch.promote_types(self._dtype, torch.float32))


def check_order(config: ModelConfig, tokens: int) -> None:
    """Refuse n-grams that no text of so many tokens has."""
    assert config.order is not None
    if config.order > tokens:
        raise DataError(
            f"--order {config.order} is more than the text has tokens",
            why=f"there are {tokens} to learn from",
            fix="lower --order or give more text",
        )
