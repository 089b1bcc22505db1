"""The stepper of each model: logits one token per row at a time, with weights prepared once.

One step of one text on a CPU against the alternative (``benchmarks/steps.py``, ``cells.py``):

| stepper                 | model                         | alternative       | times as fast |
|-------------------------|-------------------------------|-------------------|---------------|
| TorchStepper            | LSTM, 512 units               | nn.LSTM           | 7.1           |
| CompiledStepper         | LSTM, 512 units               | TorchStepper      | 3.3           |
| CompiledStepper, 8 bits | LSTM, 1150 + 1150 + 400 units | CompiledStepper   | 3.4           |
| CellStepper             | GRU and RNN, 512 units        | nn.GRU and nn.RNN | 1.6 and 2.2   |
| NgramStepper            | 7-grams                       | the model         | 15            |
| MixtureStepper          | LSTM, 512 units, and 8-grams  | the model         | 18            |
| HiddenMarkovStepper     | 512 states                    | the model         | 170           |

Other models have the PlainStepper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from textgen.config import Activation
from textgen.inference.lstm_stepper import LARGEST_TABLE, LSTMStepper
from textgen.inference.native import Network, Ngrams
from textgen.inference.stepper import PlainStepper, Stepper
from textgen.models.base import Model, State, TensorState
from textgen.models.gru import GRUModel
from textgen.models.hmm import Emissions, HiddenMarkovModel, forward_beliefs
from textgen.models.lstm import LSTMModel, LSTMState
from textgen.models.mixture import MixtureModel
from textgen.models.ngram import UNSEEN, NgramModel, NgramState, NgramTables
from textgen.models.recurrent import ACTIVATIONS, RecurrentModel, RecurrentState, gru_gates
from textgen.models.rnn import RNNModel
from textgen.tokenizers.base import EOS

_Ids = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

NgramStep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(ids (rows,), contexts before them (rows, order - 1)) -> probabilities of the next token
(rows, vocabulary), float64, and the contexts after them."""


def ngram_step(tables: NgramTables) -> NgramStep:
    """The faster way to take a step with these tables."""
    if tables.counts_1.device.type == "cpu":
        return _ArrayTables(tables).step

    def step(ids: Tensor, contexts: Tensor) -> tuple[Tensor, Tensor]:
        (after,) = tables.ngram_ids(ids.unsqueeze(0), contexts)
        return tables.distributions(after), after

    return step


class NgramStepper(Stepper):
    """Reads slices of the tables, row by row."""

    def __init__(self, model: NgramModel) -> None:
        self._model, self._step = model, ngram_step(model.tables)
        self.state = model.start(1)

    def step(self, ids: Tensor) -> Tensor:
        contexts = cast(NgramState, self.state).named["ngram_ids"]
        probabilities, contexts = self._step(ids, contexts)
        self.state = NgramState({"ngram_ids": contexts})
        return self._model.log(probabilities)


class _ArrayTables:
    """The tables on the CPU as NumPy arrays, which share their memory."""

    def __init__(self, tables: NgramTables) -> None:
        self._unigrams: _Floats = tables.unigrams.numpy()
        self._orders: list[tuple[_Ids, _Ids, _Floats, _Floats]] = [
            (
                order.offsets.numpy(),
                order.tokens.numpy(),
                order.probability.numpy(),
                order.backoff.numpy(),
            )
            for order in tables.orders[1:]
        ]

    def step(self, ids: Tensor, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """An ``NgramStep``."""
        after = contexts.clone()
        rows = zip(after.numpy(), ids.tolist(), strict=True)
        return torch.from_numpy(np.stack([self._step(row, id) for row, id in rows])), after

    def _step(self, context: _Ids, id: int) -> _Floats:
        """p of each token (vocabulary,) after ``id``; updates the context (order - 1,)."""
        starts_text = id == EOS and len(context) > 0 and context[0] == UNSEEN
        for place in range(len(context) - 1, 0, -1):
            context[place] = self._longer(place - 1, context[place - 1], id)
        context[:1] = len(self._unigrams) if starts_text else id
        result = self._unigrams.copy()
        for order, ngram in zip(self._orders, context.tolist(), strict=True):
            if ngram == UNSEEN:
                break  # longer contexts are unseen, too
            offsets, tokens, probability, backoff = order
            result *= backoff[ngram]
            following = slice(offsets[ngram], offsets[ngram + 1])
            result[tokens[following]] += probability[following]
        return result

    def _longer(self, place: int, ngram: int, id: int) -> int:
        """The id of an n-gram followed by a token."""
        if ngram == UNSEEN:
            return UNSEEN
        offsets, tokens, _, _ = self._orders[place]
        following = tokens[offsets[ngram] : offsets[ngram + 1]]
        at = int(np.searchsorted(following, id))
        return int(offsets[ngram]) + at if at < len(following) and following[at] == id else UNSEEN


_PROMPT_TOKENS_AT_ONCE = 4096


def make_stepper(model: Model, *, fast: bool = False) -> Stepper:
    """The fastest stepper for this model, with its current weights.

    fast: accept slightly less exact logits where that is faster.
    """
    make = _STEPPERS.get(type(model))
    return PlainStepper(model) if make is None else make(model, fast)


def read_prompt(model: Model, ids: Sequence[int]) -> tuple[Tensor, State]:
    """Logits (1, vocabulary) and state after these ids, at least one, from the start of a text.

    They are read in parts, so that memory is bounded.
    """
    state = model.start(1)
    for begin in range(0, len(ids), _PROMPT_TOKENS_AT_ONCE):
        part = torch.tensor(ids[begin : begin + _PROMPT_TOKENS_AT_ONCE], device=model.device)
        hidden, state = model.hidden_states(part.unsqueeze(1), state)
    return model.logits(hidden[-1]), state


@dataclass(frozen=True)
class CellWeights:
    """The weights of a layer, transposed; a unit has a column for each gate.

    bias_ih: (columns,), or with the first layer's products for each token (vocabulary, columns);
    then weight_ih is None. weight_ih: (inputs, columns). weight_hh: (units, columns).
    bias_hh: (columns,).
    """

    bias_ih: Tensor
    weight_ih: Tensor | None
    weight_hh: Tensor
    bias_hh: Tensor


Cell = Callable[[CellWeights, Tensor, Tensor], Tensor]
"""(weights, gate inputs (batch, columns), state (batch, units)) -> next state (batch, units)."""


def _gru_cell(weights: CellWeights, gate_inputs: Tensor, before: Tensor) -> Tensor:
    product = torch.addmm(weights.bias_hh, before, weights.weight_hh)
    candidate, update = gru_gates(gate_inputs, product, torch.empty_like(product))
    return torch.lerp(candidate, before, update)


def _rnn_cell(activation: Activation) -> Cell:
    activate = ACTIVATIONS[activation]

    def cell(weights: CellWeights, gate_inputs: Tensor, before: Tensor) -> Tensor:
        return activate(torch.addmm(gate_inputs + weights.bias_hh, before, weights.weight_hh))

    return cell


class CellStepper(Stepper):
    """Steps of a GRU or a plain recurrent network, on views of the model's weights."""

    @torch.no_grad()
    def __init__(self, model: RecurrentModel, cell: Cell) -> None:
        self._cell, self._logits = cell, model.logits
        self._embedding, self._state_type = model.embedding, model.state_type
        self._layers = [_cell_weights(layer) for layer in model.layers]
        first, vocabulary = self._layers[0], model.config.vocabulary_size
        embedding = model.embedding.weight
        if embedding is None or vocabulary * len(first.bias_ih) <= LARGEST_TABLE:
            # Few tokens: their products with the first layer's weights are computed once.
            assert first.weight_ih is not None
            products = first.weight_ih if embedding is None else embedding @ first.weight_ih
            table = products + first.bias_ih
            self._layers[0] = CellWeights(table, None, first.weight_hh, first.bias_hh)
        self.state = model.start(1)

    @property
    def state(self) -> RecurrentState:
        return self._state_type.of((hidden,) for hidden in self._hidden)

    @state.setter
    def state(self, state: State) -> None:
        self._hidden = [hidden for (hidden,) in cast(RecurrentState, state).layers]

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        output = ids
        for index, weights in enumerate(self._layers):
            if weights.weight_ih is None:
                gate_inputs = weights.bias_ih[ids]
            else:
                inputs = output if index else self._embedding(ids)
                gate_inputs = torch.addmm(weights.bias_ih, inputs, weights.weight_ih)
            output = self._hidden[index] = self._cell(weights, gate_inputs, self._hidden[index])
        return self._logits(output)


def _cell_weights(layer: nn.Module) -> CellWeights:
    weight_ih, weight_hh, bias_ih, bias_hh = (each.detach() for each in layer.parameters())
    return CellWeights(bias_ih, weight_ih.T, weight_hh.T, bias_hh)


class HiddenMarkovStepper(Stepper):
    """Computes the distributions from the weights once."""

    @torch.no_grad()
    def __init__(self, model: HiddenMarkovModel) -> None:
        self._model = model
        self._normalizers = model.log_normalizers()
        self._emission = model.emission.weight - self._normalizers
        self._transition = model.transition.softmax(-1)
        self._emissions = Emissions(model.emission.weight.detach(), model.emission.bias.detach())
        self.state = model.start(1)

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        emission = self._emission[ids].unsqueeze(0)
        (belief,) = forward_beliefs(self._model.belief(self.state), self._transition, emission)
        self.state = TensorState({"belief": belief})
        return self._emissions.log_probs(belief - self._normalizers)


class MixtureStepper(Stepper):
    """Mixes the LSTM's stepper with n-gram predictions; compiled code does both at once."""

    def __init__(self, model: MixtureModel, *, fast: bool = False) -> None:
        self._model, self._lstm = model, LSTMStepper(model.network, fast=fast)
        self._ngram_step = ngram_step(model.ngrams.tables)
        self.state = model.start(1)

    @property
    def state(self) -> State:
        lstm_state = cast(TensorState, self._lstm.state).named
        return self._model.restore({**lstm_state, "ngram_ids": self._ngram_ids.clone()})

    @state.setter
    def state(self, state: State) -> None:
        named = dict(cast(TensorState, state).named)
        self._ngram_ids = named.pop("ngram_ids").clone()
        self._lstm.state = LSTMState(named)
        self._mixing: Network | None = None

    @property
    def network(self) -> Network | None:
        network = self._lstm.network
        if network is not None and network is not self._mixing:
            tables, gate = self._model.ngrams.tables, self._model.gate
            network.mix(Ngrams(tables, gate, self._ngram_ids, network.threads))
            self._mixing = network
        return network

    def step(self, ids: Tensor) -> Tensor:
        network = self.network
        if network is not None:
            network.read(ids.unsqueeze(0))
            return network.logits
        logits = self._lstm.step(ids)
        probabilities, self._ngram_ids = self._ngram_step(ids, self._ngram_ids)
        ngrams = self._model.ngrams.log(probabilities)
        return self._model.mixed(logits, ngrams, self._ngram_ids)


_STEPPERS: dict[type[Model], Callable[[Any, bool], Stepper]] = {
    LSTMModel: lambda model, fast: LSTMStepper(model, fast=fast),
    MixtureModel: lambda model, fast: MixtureStepper(model, fast=fast),
    GRUModel: lambda model, fast: CellStepper(model, _gru_cell),
    RNNModel: lambda model, fast: CellStepper(model, _rnn_cell(model.config.activation)),
    NgramModel: lambda model, fast: NgramStepper(model),
    HiddenMarkovModel: lambda model, fast: HiddenMarkovStepper(model),
}
"""By the exact class of a model, because a subclass may compute something else."""
