"""The feedforward n-gram language model (Bengio et al. 2003), and its bag-of-words variant."""

import itertools
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import FeedForwardConfig
from textgen.models.base import (
    Dropout,
    HiddenStates,
    IdArray,
    Model,
    State,
    check_ids,
    init_output_bias,
)
from textgen.tokenizers.base import EOS


class WindowState(State):
    """The last tokens, (batch, window - 1), oldest first; ``<EOS>`` before the start of a text."""

    initial: ClassVar[Mapping[str, float]] = {"ids": EOS}


class FeedForwardModel(Model):
    """Concatenated embeddings of the last tokens, layers of tanh units, output layer."""

    config: FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__(config)
        self._window = config.window
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        sizes = (self._input_size(config), *config.hidden_size, config.vocabulary_size)
        *layers, output = itertools.starmap(nn.Linear, itertools.pairwise(sizes))
        self.layers, self.output = nn.ModuleList(layers), output

    @staticmethod
    def _input_size(config: FeedForwardConfig) -> int:
        """The number of inputs of the first layer."""
        return config.window * config.embedding_size

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """For inputs of variance one (LeCun et al. 1998)."""
        self.embedding.weight.normal_(0, 1.0, generator=generator)
        for layer in (*self.layers, self.output):
            weight, bias = layer.parameters()
            weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)
            bias.zero_()

    def initialize_from_text(self, ids: IdArray) -> None:
        init_output_bias(self.output.bias, ids)

    def start(self, batch: int) -> WindowState:
        shape = (batch, self._window - 1)
        return WindowState({"ids": torch.full(shape, EOS, device=self.device)})

    def restore(self, tensors: Mapping[str, Tensor]) -> State:
        check_ids(tensors["ids"], 0, [self.config.vocabulary_size])
        return super().restore(tensors)

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, WindowState]:
        text = torch.cat([state.named["ids"].T, ids])
        windows = text.unfold(0, self._window, 1)  # (time, batch, window)
        hidden = windows
        for index, layer in enumerate(self.layers):
            sums = layer(hidden) if index else self._first_layer(windows)
            hidden = sums.tanh() if dropout is None else dropout(sums.tanh())
        last = text[len(ids) :].T.contiguous()
        return hidden, WindowState({"ids": last})

    def _first_layer(self, windows: Tensor) -> Tensor:
        """windows (time, batch, window) -> sums before the activation (time, batch, units).

        If there are fewer tokens than positions, the embedding of each token is multiplied once
        by the weights of each distance, and the products are looked up and added: a seventh of
        the time with the 66 characters of Tiny Shakespeare.
        """
        weight, bias = self.layers[0].parameters()
        vocabulary, positions = len(self.embedding.weight), windows.shape[0] * windows.shape[1]
        if vocabulary > positions:
            return functional.linear(self.embedding(windows).flatten(2), weight, bias)
        by_distance = weight.view(len(weight), self._window, -1).permute(1, 2, 0)
        table = self.embedding.weight @ by_distance  # (window, vocabulary, units)
        rows = windows + vocabulary * torch.arange(self._window, device=windows.device)
        return _row_sums(rows, table.flatten(0, 1)) + bias

    @property
    def output_layer(self) -> nn.Linear:
        return self.output

    def logits(self, hidden: HiddenStates) -> Tensor:
        return cast(Tensor, self.output(hidden))


class BagOfWordsModel(FeedForwardModel):
    """A feedforward model whose input is the mean of the embeddings, without their order."""

    @staticmethod
    def _input_size(config: FeedForwardConfig) -> int:
        return config.embedding_size

    def _first_layer(self, windows: Tensor) -> Tensor:
        # A mean of many embeddings is small: it is scaled to the size of one.
        scaled = _row_sums(windows, self.embedding.weight) * self._window**-0.5
        return cast(Tensor, self.layers[0](scaled))


def _row_sums(rows: Tensor, table: Tensor) -> Tensor:
    """rows (time, batch, window) of a table (rows, units) -> their sums (time, batch, units)."""
    sums = functional.embedding_bag(rows.flatten(0, 1), table, mode="sum")
    return sums.view(*rows.shape[:2], -1)
