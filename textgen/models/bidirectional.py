"""Two LSTMs that read towards each other, and never the token between them.

As in ELMo (Peters et al. 2018) and context2vec (Melamud et al. 2016), the two directions are
separate in all layers. If they were mixed below the last layer, one would give the other the
answer.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from textgen.config import ModelConfig
from textgen.models.base import NOTHING, Dropout, Model, State, Stepper
from textgen.models.lstm import LSTMModel
from textgen.models.state import HiddenState
from textgen.tokenizers.base import EOS


class BidirectionalModel(LSTMModel):
    """What stands at a place, given all before it and the rest of its sentence after it.

    One LSTM reads all that is before; its state is carried on. The other begins at the end of
    the sentence, its ``<EOS>``, or where less of it is known at the last token that is, and reads
    back to the place. A layer puts the two together. After ``<EOS>`` there is nothing of the
    sentence, and where nothing after a place is known the second has read nothing.

    So what is beside a sentence in a batch, and how it is padded, changes nothing. A text in
    document context is read in windows, each with as much again after it: in a sentence that is
    longer the rest may be cut, nowhere nearer than that.
    """

    is_causal = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.backward_layers = self.stack()
        self.join = nn.Linear(2 * self._sizes[-1], self._sizes[-1])

    @classmethod
    def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        assert config.hidden_size is not None
        shapes, units = super().shapes(config), config.hidden_size[-1]
        backward = {f"backward_{n}": shapes[n] for n in shapes if n.startswith("layers.")}
        return shapes | backward | {"join.weight": (units, 2 * units), "join.bias": (units,)}

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        super().initialize(generator)
        self.draw_layers(self.backward_layers, generator)
        nn.init.xavier_uniform_(self.join.weight, generator=generator)
        self.join.bias.zero_()

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, HiddenState]:
        """Where nothing is known of what comes after any of the tokens."""
        before, state = super().hidden_states(ids, state, dropout)
        return self._joined(before, torch.zeros_like(before)), state

    def hidden_states_in_context(
        self, ids: Tensor, targets: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, HiddenState]:
        before, state = super().hidden_states(ids, state, dropout)
        return self._joined(before, self._after(targets, dropout)[: len(ids)].to(before)), state

    def _joined(self, before: Tensor, after: Tensor) -> Tensor:
        return torch.tanh(self.join(torch.cat([before, after], -1)))

    def _after(self, targets: Tensor, dropout: Dropout | None) -> Tensor:
        """What the second LSTM has read after each of the targets: (time, batch, units)."""
        rests = Rests.of(targets)
        # Nothing was read where nothing is after: a row of zeros before all others.
        read = [torch.zeros(1, self._sizes[-1], dtype=self.dtype, device=self.device)]
        for ids in rests.ids:
            start = self.start(ids.shape[1])
            hidden, _ = self.read_through(self.backward_layers, ids, start, dropout)
            read.append(hidden.flatten(0, 1).to(read[0]))
        return torch.cat(read)[rests.places]

    def stepper(self, *, fast: bool = False) -> Stepper:
        return Model.stepper(self)


@dataclass(frozen=True)
class Rests:
    """The rest of its sentence after each token, the sentences side by side and backwards.

    ids: (length, sentences) of each group of like length: the sentences from their ends, without
    their first tokens, and padded. places: (time, batch), how far each token's rest reaches into
    all ids, flattened, after a place for none.
    """

    ids: tuple[Tensor, ...]
    places: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Self:
        """targets: (time, batch), with ``NOTHING`` where the text has ended."""
        flat = targets.T.flatten()  # row after row
        every = torch.arange(len(flat), device=flat.device)
        nothing = flat == NOTHING
        row_ends = every % len(targets) == len(targets) - 1
        ends = (flat == EOS) | row_ends | nothing | nothing.roll(-1)
        last = ends.nonzero().flatten()  # (sentences,) the place of the last token of each
        lengths = last.diff(prepend=last.new_full((1,), -1)) - 1
        octaves = lengths.float().log2().ceil()  # of no tokens -inf
        begin, width = torch.zeros_like(last), torch.zeros_like(last)
        ids, taken = [], 1
        for octave in sorted(set(octaves.tolist())):
            if math.isfinite(octave):
                some = (octaves == octave).nonzero().flatten()
                back = torch.arange(int(lengths[some].max()), device=flat.device).unsqueeze(1)
                ids.append(flat[(last[some] - back).clamp(min=0)].clamp(min=0))
                begin[some] = torch.arange(taken, taken + len(some), device=flat.device)
                width[some] = len(some)
                taken += ids[-1].numel()
        sentence = ends.cumsum(0) - ends.long()  # (tokens,) which one each is of
        rest = last[sentence] - every  # tokens after each
        places = torch.where(rest > 0, begin[sentence] + (rest - 1) * width[sentence], 0)
        return cls(tuple(ids), places.view(-1, len(targets)).T)
