"""The n-gram language model: what was seen to follow the last few tokens."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor

from textgen.config import ModelConfig
from textgen.errors import DataError
from textgen.models.base import IdArray, Model, Noise, State, Stepper
from textgen.models.ngram_rows import stepping
from textgen.models.ngram_tables import UNSEEN, NgramTables
from textgen.models.tensor_state import TensorState


class NgramState(TensorState):
    """ngrams: (batch, order - 1) int64, the numbers of what has just been read; and, of a network
    that reads the same, its state by its names."""

    beginnings: ClassVar[Mapping[str, float]] = {"ngrams": UNSEEN}


class NgramModel(Model):
    """Interpolated modified Kneser-Ney, counted in one reading.

    Its features are the numbers of what ends at each place, (time, batch, order - 1) int64.
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

    def kept_back(self, ids: IdArray) -> tuple[slice, ...]:
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

    def features(
        self, ids: Tensor, state: State, noise: Noise | None = None
    ) -> tuple[Tensor, NgramState]:
        numbers = self.tables.follow(ids, cast(NgramState, state).named["ngrams"])
        return numbers, NgramState({"ngrams": numbers[-1]})

    def logits(self, features: Tensor) -> Tensor:
        flat = features.flatten(0, -2)
        shares = self.tables.distributions(flat)
        return shares.log().to(self._wide).view(*features.shape[:-1], -1)

    def log_probs(self, features: Tensor, targets: Tensor) -> Tensor:
        return self.tables.shares(features, targets).log().to(self._wide)

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
