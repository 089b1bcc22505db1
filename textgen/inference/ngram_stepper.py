"""N-gram predictions one token at a time, without compiled code.

For a single row, the n-grams after a context are a slice of the table. NumPy reads it in a few
microseconds, where batched PyTorch operations take a millisecond.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.inference.stepper import Stepper
from textgen.models.ngram import NgramModel, NgramState
from textgen.models.ngram_tables import UNSEEN, NgramTables
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
