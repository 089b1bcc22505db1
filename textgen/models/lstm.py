"""The LSTM language model (Hochreiter and Schmidhuber 1997; Mikolov et al. 2010)."""

from collections.abc import Mapping
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import LSTMConfig, RecurrentConfig
from textgen.models.base import NOTHING, Dropout, State, check_ids
from textgen.models.recurrent import RecurrentModel, RecurrentState

HASH_FACTOR, HASH_MODULUS = 1_000_003, 2**31 - 1


class NgramEmbeddings(nn.Module):
    """The sum of the vectors of the last 2, 3, ... tokens taken together, found by a hash.

    As the hashed n-grams of fastText (Bojanowski et al. 2017): n-grams that share a vector
    are told apart by the others. They hand the network short contexts without a multiplication.

    weight: ((longest - 1) * rows, width), zero at first; the rows of each length lie together.
    """

    def __init__(self, longest: int, rows: int, width: int) -> None:
        super().__init__()
        self.longest, self.rows = longest, rows
        self.weight = nn.Parameter(torch.zeros((longest - 1) * rows, width))
        self.sparse = False

    def places(self, ids: Tensor, before: Tensor) -> Tensor:
        """The rows (time, batch, longest - 1) of the n-grams that end at ids (time, batch).

        before: (batch, longest - 1), the ids before them, ``NOTHING`` before the text.
        """
        text = torch.cat([before.T, ids]) + 1
        hashed, found = ids + 1, []
        for back in range(1, self.longest):
            earlier = text[self.longest - 1 - back : len(text) - back]
            hashed = (hashed * HASH_FACTOR + earlier) % HASH_MODULUS
            found.append(hashed % self.rows + (back - 1) * self.rows)
        return torch.stack(found, -1)

    def forward(self, ids: Tensor, before: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As ``places`` -> vectors (time, batch, width)."""
        places = self.places(ids, before).flatten(0, 1)
        vectors = functional.embedding_bag(
            places,
            self.weight,
            mode="sum",
            sparse=self.sparse,
            per_sample_weights=None if dropout is None else dropout.ngram_weights(places),
        )
        return vectors.view(*ids.shape, -1)


class LSTMState(RecurrentState):
    """Hidden state and cell of each layer; ``ids``, the last tokens, for n-gram embeddings."""

    parts = ("hidden", "cell")
    initial: ClassVar[Mapping[str, float]] = {"ids": NOTHING}

    def after(self, ids: Tensor) -> Self:
        """This state with the last tokens (batch, longest - 1)."""
        return type(self)({**self.named, "ids": ids})


class LSTMModel(RecurrentModel):
    """Stacked LSTM layers."""

    layer_type, kernel, gates = nn.LSTM, torch.lstm, 4
    state_type = LSTMState

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.ngram_embedding: NgramEmbeddings | None = None
        if isinstance(config, LSTMConfig) and config.ngram_embeddings:
            self.ngram_embedding = NgramEmbeddings(
                config.ngram_embeddings, config.ngram_rows, config.embedding_size
            )

    def lookup_tables(self, *, sampled: bool) -> list[nn.Parameter]:
        ngrams = [] if self.ngram_embedding is None else [self.ngram_embedding.weight]
        return super().lookup_tables(sampled=sampled) + ngrams

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        super().initialize(generator)
        if self.ngram_embedding is not None:
            self.ngram_embedding.weight.zero_()

    def start(self, batch: int) -> RecurrentState:
        state = super().start(batch)
        if self.ngram_embedding is None:
            return state
        before = torch.full((batch, self.ngram_embedding.longest - 1), NOTHING, device=self.device)
        return cast(LSTMState, state).after(before)

    def restore(self, tensors: Mapping[str, Tensor]) -> State:
        if self.ngram_embedding is not None:
            check_ids(tensors["ids"], NOTHING, [self.config.vocabulary_size])
        return super().restore(tensors)

    def embedded(self, ids: Tensor, state: State, dropout: Dropout | None = None) -> Tensor:
        vectors = super().embedded(ids, state)
        if self.ngram_embedding is None:
            return vectors
        return vectors + cast(Tensor, self.ngram_embedding(ids, state.named["ids"], dropout))

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, RecurrentState]:
        hidden, after = super().hidden_states(ids, state, dropout)
        if self.ngram_embedding is None:
            return hidden, after
        text = torch.cat([state.named["ids"].T, ids])
        return hidden, cast(LSTMState, after).after(text[len(ids) :].T.contiguous())
