"""The fixed-window feed-forward model (Bengio et al. 2003), and a bag of the same window."""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from textgen.config import ModelConfig
from textgen.models.base import Dropout, IdArray, Model, State, init_output_bias
from textgen.models.state import TensorState
from textgen.tokenizers.base import EOS


class WindowState(TensorState):
    """The last tokens (batch, window - 1), oldest first; before a text stand ends of sentences."""

    beginnings: ClassVar[Mapping[str, float]] = {"ids": EOS}


class WindowModel(Model):
    """Embeddings of the last tokens side by side, layers of tanh units, output layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.embedding_size is not None and config.window is not None
        self._window = config.window
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        shapes = [shape for name, shape in self.shapes(config).items() if name.endswith(".weight")]
        *layers, output = (nn.Linear(inputs, units) for units, inputs in shapes[1:])
        self.layers, self.output = nn.ModuleList(layers), output

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.embedding_size is not None and config.hidden_size is not None
        shapes: dict[str, tuple[int, ...]] = {
            "embedding.weight": (config.vocabulary_size, config.embedding_size)
        }
        below = cls._inputs(config)
        names = [f"layers.{index}" for index in range(len(config.hidden_size))]
        sizes = (*config.hidden_size, config.vocabulary_size)
        for name, units in zip([*names, "output"], sizes, strict=True):
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (units, below), (units,)
            below = units
        return shapes

    @classmethod
    def _inputs(cls, config: ModelConfig) -> int:
        """How many numbers the first layer reads."""
        assert config.embedding_size is not None and config.window is not None
        return config.window * config.embedding_size

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Layers as LeCun et al. (1998) have them, for inputs of variance one."""
        self.embedding.weight.normal_(0, 1.0, generator=generator)
        for layer in (*self.layers, self.output):
            weight, bias = layer.parameters()
            weight.normal_(0, weight.shape[1] ** -0.5, generator=generator)
            bias.zero_()

    def read(self, ids: IdArray) -> None:
        init_output_bias(self.output.bias, ids)

    def start(self, batch: int) -> WindowState:
        shape = (batch, self._window - 1)
        return WindowState({"ids": torch.full(shape, EOS, device=self.device)})

    def restore(self, tensors: dict[str, Tensor]) -> WindowState:
        return WindowState({"ids": tensors["ids"]})

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, WindowState]:
        seen = torch.cat([cast(WindowState, state).named["ids"].T, ids])
        windows = seen.unfold(0, self._window, 1)  # (time, batch, window)
        hidden = self._first(windows)
        for layer in list(self.layers)[1:]:
            hidden = layer(self._active(hidden, dropout))
        last = seen[len(ids) :].T.contiguous()
        return self._active(hidden, dropout), WindowState({"ids": last})

    def _active(self, sums: Tensor, dropout: Dropout | None) -> Tensor:
        active = sums.tanh()
        return active if dropout is None else dropout(active)

    def _first(self, windows: Tensor) -> Tensor:
        """What the first layer sums up (time, batch, units) of windows (time, batch, window).

        Where there are fewer tokens than places, each is multiplied once for every distance
        that it can stand at, and the places add up what they see: with the 66 characters of a
        play, a seventh of the time of a product for each place.
        """
        weight, bias = self.layers[0].parameters()
        vocabulary, places = len(self.embedding.weight), windows.shape[0] * windows.shape[1]
        if vocabulary > places:
            return functional.linear(self.embedding(windows).flatten(2), weight, bias)
        by_distance = weight.view(len(weight), self._window, -1).permute(1, 2, 0)
        table = self.embedding.weight @ by_distance  # (window, vocabulary, units)
        rows = windows + vocabulary * torch.arange(self._window, device=windows.device)
        return _sums(rows, table.flatten(0, 1)) + bias

    def logits(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.output(hidden))


class BagModel(WindowModel):
    """The window with its order thrown away: the mean of its embeddings is all that is read."""

    @classmethod
    def _inputs(cls, config: ModelConfig) -> int:
        assert config.embedding_size is not None
        return config.embedding_size

    def _first(self, windows: Tensor) -> Tensor:
        # The mean of many embeddings is small: it is scaled to the size of one.
        bag = _sums(windows, self.embedding.weight) * self._window**-0.5
        return cast(Tensor, self.layers[0](bag))


def _sums(rows: Tensor, table: Tensor) -> Tensor:
    """rows (time, batch, window) of a table (rows, units) -> their sums (time, batch, units)."""
    sums = functional.embedding_bag(rows.flatten(0, 1), table, mode="sum")
    return sums.view(*rows.shape[:2], -1)
