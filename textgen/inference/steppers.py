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
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import Activation
from textgen.inference.lstm_stepper import LARGEST_TABLE, LSTMStepper
from textgen.inference.native.kernels import Network
from textgen.inference.stepper import PlainStepper, Stepper
from textgen.models.base import Model, State
from textgen.models.gru import GRUModel, gru_gates
from textgen.models.hmm import Emissions, HiddenMarkovModel, forward_beliefs
from textgen.models.lstm import LSTMModel, LSTMState
from textgen.models.mixture import MixtureHiddenStates, MixtureModel
from textgen.models.ngram import UNSEEN, NgramModel, NgramState, NgramTables
from textgen.models.recurrent import RecurrentModel, RecurrentState
from textgen.models.rnn import ACTIVATIONS, RNNModel
from textgen.tokenizers.base import EOS

_Ids = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class NgramStepper(Stepper):
    """Reads slices of the tables, row by row."""

    def __init__(self, model: NgramModel) -> None:
        self._model, self._contexts = model, _NgramContexts(model.tables)
        self.state = model.start(1)

    @property
    def state(self) -> State:
        return NgramState({"ngram_ids": self._contexts.ids.clone().to(self._model.device)})

    @state.setter
    def state(self, state: State) -> None:
        self._contexts.ids = state.named["ngram_ids"].cpu().clone()

    def step(self, ids: Tensor) -> Tensor:
        return self._model.log(self._contexts.step(ids).to(self._model.device))


class _NgramContexts:
    """The contexts of some rows, (rows, order - 1) ids, and the probabilities after them.

    On the CPU whatever the device: a step is many look-ups, of which a GPU would wait for most.
    """

    ids: Tensor

    def __init__(self, tables: NgramTables) -> None:
        self._unigrams: _Floats = tables.unigrams.cpu().numpy()
        self._orders: list[tuple[_Ids, _Ids, _Floats, _Floats]] = [
            (o.offsets.numpy(), o.tokens.numpy(), o.probability.numpy(), o.backoff.numpy())
            for o in tables.cpu_orders[1:]
        ]

    def step(self, ids: Tensor) -> Tensor:
        """Read an id in each row (rows,) -> p of each token after it (rows, vocabulary)."""
        rows = zip(self.ids.numpy(), ids.tolist(), strict=True)
        return torch.from_numpy(np.stack([self._read(row, id) for row, id in rows]))

    def _read(self, context: _Ids, id: int) -> _Floats:
        """p of each token (vocabulary,) after ``id``; updates the context (order - 1,)."""
        starts_text = id == EOS and len(context) > 0 and context[0] == UNSEEN
        for place in range(len(context) - 1, 0, -1):
            shorter, context[place] = context[place - 1], UNSEEN
            if shorter != UNSEEN:
                offsets, tokens, _, _ = self._orders[place - 1]
                following = tokens[offsets[shorter] : offsets[shorter + 1]]
                at = int(np.searchsorted(following, id))
                if at < len(following) and following[at] == id:
                    context[place] = offsets[shorter] + at
        context[:1] = len(self._unigrams) if starts_text else id
        result = self._unigrams.copy()
        for order, ngram in zip(self._orders, context.tolist(), strict=True):
            if ngram == UNSEEN:
                break  # longer contexts are unseen, too
            offsets, tokens, probability, backoff = order
            result *= backoff[ngram]
            entries = slice(offsets[ngram], offsets[ngram + 1])
            result[tokens[entries]] += probability[entries]
        return result


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


Cell = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(gate inputs (batch, columns), state (batch, units), weight_hh (units, columns),
bias_hh (columns,)) -> next state (batch, units); a unit has a column for each gate."""


def _gru_cell(gate_inputs: Tensor, before: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> Tensor:
    product = torch.addmm(bias_hh, before, weight_hh)
    candidate, update = gru_gates(gate_inputs, product, torch.empty_like(product))
    return torch.lerp(candidate, before, update)


def _rnn_cell(activation: Activation) -> Cell:
    activate = ACTIVATIONS[activation]

    def cell(gate_inputs: Tensor, before: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> Tensor:
        return activate(torch.addmm(gate_inputs + bias_hh, before, weight_hh))

    return cell


class CellStepper(Stepper):
    """Steps of a GRU or a plain recurrent network, on views of the model's weights."""

    @torch.no_grad()
    def __init__(self, model: RecurrentModel, cell: Cell) -> None:
        self._model, self._cell = model, cell
        self._layers = []
        for layer in model.layers:
            weight_ih, weight_hh, bias_ih, bias_hh = (each.detach() for each in layer.parameters())
            self._layers.append((weight_ih.T, bias_ih, weight_hh.T, bias_hh))
        weight_ih, bias_ih, _, _ = self._layers[0]
        embedding = model.embedding.weight
        self._table: Tensor | None = None
        if embedding is None or model.config.vocabulary_size * len(bias_ih) <= LARGEST_TABLE:
            # Few tokens: their products with the first layer's weights are computed once.
            self._table = (weight_ih if embedding is None else embedding @ weight_ih) + bias_ih
        self.state = model.start(1)

    @property
    def state(self) -> State:
        return self._model.state_type.of((hidden,) for hidden in self._hidden)

    @state.setter
    def state(self, state: State) -> None:
        self._hidden = [hidden for (hidden,) in cast(RecurrentState, state).layers]

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        output = ids
        for index, (weight_ih, bias_ih, weight_hh, bias_hh) in enumerate(self._layers):
            if index == 0 and self._table is not None:
                gate_inputs = self._table[ids]
            else:
                inputs = output if index else self._model.embedding(ids)
                gate_inputs = torch.addmm(bias_ih, inputs, weight_ih)
            output = self._cell(gate_inputs, self._hidden[index], weight_hh, bias_hh)
            self._hidden[index] = output
        return self._model.logits(output)


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
        self.state = State({"belief": belief})
        return self._emissions.log_probs(belief - self._normalizers)


class MixtureStepper(Stepper):
    """Mixes the LSTM's stepper with n-gram predictions; compiled code does both at once."""

    def __init__(self, model: MixtureModel, *, fast: bool = False) -> None:
        self._model, self._lstm = model, LSTMStepper(model.network, fast=fast)
        self._contexts = _NgramContexts(model.ngrams.tables)
        self.state = model.start(1)

    @property
    def state(self) -> State:
        lstm_state = self._lstm.state.named
        return self._model.restore({**lstm_state, "ngram_ids": self._ngram_ids()})

    @state.setter
    def state(self, state: State) -> None:
        named = dict(state.named)
        self._contexts.ids = named.pop("ngram_ids").cpu().clone()
        self._lstm.state = LSTMState(named)
        self._mixing: Network | None = None

    @property
    def network(self) -> Network | None:
        network = self._lstm.network
        if network is not None and network is not self._mixing:
            network.mix(self._model.ngrams.tables, self._model.gate, self._contexts.ids)
            self._mixing = network
        return network

    def step(self, ids: Tensor) -> Tensor:
        network = self.network
        if network is not None:
            network.read(ids.unsqueeze(0))
            return network.logits
        logits = self._lstm.step(ids)
        ngrams = self._model.ngrams.log(self._contexts.step(ids).to(self._model.device))
        hidden, _ = cast(LSTMState, self._lstm.state).layers[-1]
        return self._model.mixed(logits, ngrams, MixtureHiddenStates(hidden, self._ngram_ids()))

    def _ngram_ids(self) -> Tensor:
        return self._contexts.ids.clone().to(self._model.device)


_STEPPERS: dict[type[Model], Callable[[Any, bool], Stepper]] = {
    LSTMModel: lambda model, fast: LSTMStepper(model, fast=fast),
    MixtureModel: lambda model, fast: MixtureStepper(model, fast=fast),
    GRUModel: lambda model, fast: CellStepper(model, _gru_cell),
    RNNModel: lambda model, fast: CellStepper(model, _rnn_cell(model.config.activation)),
    NgramModel: lambda model, fast: NgramStepper(model),
    HiddenMarkovModel: lambda model, fast: HiddenMarkovStepper(model),
}
"""By the exact class of a model, because a subclass may compute something else."""
