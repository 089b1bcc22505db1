"""The n-gram language model: interpolated modified Kneser-Ney, estimated in one pass."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor

from textgen.config import NgramConfig
from textgen.errors import DataError
from textgen.models.base import Dropout, HiddenStates, IdArray, Model, State
from textgen.models.ngram_tables import UNSEEN, NgramTables
from textgen.models.state import TensorState


class NgramState(TensorState):
    """ngram_ids: (batch, order - 1) int64, the context; in a mixture also the LSTM's state."""

    initial: ClassVar[Mapping[str, float]] = {"ngram_ids": UNSEEN}


class NgramModel(Model):
    """Its hidden states are contexts of ``NgramTables``, (time, batch, order - 1) int64."""

    config: NgramConfig

    def __init__(self, config: NgramConfig) -> None:
        super().__init__(config)
        self.tables = NgramTables(config.order, config.vocabulary_size, config.entries)
        # The tables are integers: device and dtype of the model are those of this buffer.
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def initialize(self, generator: torch.Generator) -> None:
        """There are no weights to draw."""

    def check_text(self, ids: IdArray) -> None:
        if self.config.order > len(ids):
            raise DataError(
                f"--order {self.config.order} exceeds the length of the text",
                why=f"there are {len(ids)} tokens to train on",
                fix="lower --order or give more text",
            )

    def initialize_from_text(self, ids: IdArray) -> None:
        self.config = dataclasses.replace(self.config, entries=self.tables.count(ids))

    def remarks(self) -> tuple[str, ...]:
        return self.tables.remarks()

    def check(self) -> None:
        self.tables.check()

    def start(self, batch: int) -> NgramState:
        shape = (batch, self.tables.order - 1)
        return NgramState({"ngram_ids": torch.full(shape, UNSEEN, device=self.device)})

    def restore(self, tensors: dict[str, Tensor]) -> NgramState:
        return NgramState({"ngram_ids": tensors["ngram_ids"]})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, NgramState]:
        contexts = self.tables.ngram_ids(ids, cast(NgramState, state).named["ngram_ids"])
        return contexts, NgramState({"ngram_ids": contexts[-1]})

    def logits(self, hidden: HiddenStates) -> Tensor:
        contexts = cast(Tensor, hidden)
        probabilities = self.tables.distributions(contexts.flatten(0, -2))
        return self.log(probabilities).view(*contexts.shape[:-1], -1)

    def log_probs(self, hidden: HiddenStates, targets: Tensor) -> Tensor:
        return self.log(self.tables.probabilities(cast(Tensor, hidden), targets))

    def log(self, probabilities: Tensor) -> Tensor:
        """In the dtype of the model, or in float32 where that is wider."""
        return probabilities.log().to(torch.promote_types(self.dtype, torch.float32))
