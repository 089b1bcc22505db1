"""Two LSTMs that read towards each token from both sides, and never the token itself.

As in ELMo (Peters et al. 2018) and context2vec (Melamud et al. 2016), the two directions are
separate in all layers. If they were mixed below the last layer, each would see the target through
the other.
"""

import math

import torch
from torch import Tensor, nn

from textgen.config import RecurrentConfig
from textgen.models.base import NOTHING, Dropout, State
from textgen.models.lstm import LSTMModel
from textgen.models.recurrent import RecurrentState
from textgen.tokenizers.base import EOS


class BidirectionalModel(LSTMModel):
    """Predicts a token from all tokens before it and the rest of its sentence after it.

    The forward LSTM reads everything before; its state is carried over. The backward LSTM starts
    at the end of the sentence, or at the last token that is known, and reads back to the token
    after the predicted one; where none is known, its hidden state is zero. A layer joins the two.
    In document context, one window of text after each is known; the rest of a sentence is cut.
    """

    is_causal = False

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        units = config.hidden_size[-1]
        self.backward_layers = self.make_layers()
        self.join = nn.Linear(2 * units, units)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        super().initialize(generator)
        self.initialize_layers(self.backward_layers, generator)
        nn.init.xavier_uniform_(self.join.weight, generator=generator)
        self.join.bias.zero_()

    @property
    def has_fixed_shapes(self) -> bool:
        return False

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Without context after any of the tokens."""
        forward, state = super().hidden_states(ids, state, dropout)
        return self._joined(forward, torch.zeros_like(forward)), state

    def hidden_states_in_context(
        self, ids: Tensor, targets: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, RecurrentState]:
        forward, state = super().hidden_states(ids, state, dropout)
        backward = self._backward(targets, dropout)[: len(ids)]
        return self._joined(forward, backward.to(forward)), state

    def _joined(self, forward: Tensor, backward: Tensor) -> Tensor:
        return torch.tanh(self.join(torch.cat([forward, backward], -1)))

    def _backward(self, targets: Tensor, dropout: Dropout | None) -> Tensor:
        """The backward hidden state after each target, (time, batch, units)."""
        # On the CPU, because shapes depend on the ids: a GPU would wait for each of them.
        suffixes, places = sentence_suffixes(targets.cpu())
        # A row of zeros for targets after which there is nothing, before all others.
        units = self.config.hidden_size[-1]
        rows = [torch.zeros(1, units, dtype=self.dtype, device=self.device)]
        for ids in (each.to(self.device) for each in suffixes):
            start = self.start(ids.shape[1])
            hidden, _ = self.run_layers(self.backward_layers, ids, start, dropout)
            rows.append(hidden.flatten(0, 1).to(rows[0]))
        return torch.cat(rows)[places.to(self.device)]


def sentence_suffixes(targets: Tensor) -> tuple[list[Tensor], Tensor]:
    """The rest of its sentence after each target, reversed, in groups of similar length.

    targets: (time, batch), with ``NOTHING`` after the end of the text.

    Returns the ids of each group (length, sentences), the sentences from their ends without their
    first tokens, padded; and for each target the row of all flattened ids at which its rest ends
    (time, batch), 0 where there is none, rows being counted from 1.
    """
    flat = targets.T.flatten()  # row after row
    positions = torch.arange(len(flat), device=flat.device)
    nothing = flat == NOTHING
    row_ends = positions % len(targets) == len(targets) - 1
    ends = (flat == EOS) | row_ends | nothing | nothing.roll(-1)
    last = ends.nonzero().flatten()  # (sentences,) the position of each sentence's last token
    lengths = last.diff(prepend=last.new_full((1,), -1)) - 1
    octaves = lengths.float().log2().ceil()  # -inf for no tokens
    first_row, width = torch.zeros_like(last), torch.zeros_like(last)
    ids, rows = [], 1
    for octave in sorted(set(octaves.tolist())):
        if math.isfinite(octave):
            group = (octaves == octave).nonzero().flatten()
            back = torch.arange(int(lengths[group].max()), device=flat.device).unsqueeze(1)
            ids.append(flat[(last[group] - back).clamp(min=0)].clamp(min=0))
            first_row[group] = torch.arange(rows, rows + len(group), device=flat.device)
            width[group] = len(group)
            rows += ids[-1].numel()
    sentence = ends.cumsum(0) - ends.long()  # (tokens,) the sentence of each
    rest = last[sentence] - positions  # the number of tokens after each
    row = torch.where(rest > 0, first_row[sentence] + (rest - 1) * width[sentence], 0)
    return ids, row.view(-1, len(targets)).T
