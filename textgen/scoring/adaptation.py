"""Dynamic evaluation (Krause et al. 2018): the model learns from the text that it has scored.

Its figures are not those of the trained weights: repeated text and recurring names become more
probable in the course of the text.
"""

import copy
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from textgen.config import AdaptationConfig
from textgen.data.batching import IdArray
from textgen.errors import UsageError
from textgen.inference.likelihood import (
    TokenStatistic,
    TokenStatistics,
    mean_cross_entropy,
    token_statistics,
)
from textgen.models import Model
from textgen.scoring.scorer import Reader
from textgen.tokenizers.base import EOS

BLOCK, LEARNED = 1024, 512
"""Tokens that are scored before an update, and how many of them, the last, it learns from.

Learning from all of them increases the gain by half, but costs more than four static passes:
reading in order takes twice as long as in parallel segments, and a gradient three times as long as
a forward pass.
"""

WINDOW, CONTEXT = 64, 8
"""Tokens of back-propagation, and tokens at the start of a window that are only context."""

_CLIP = 1.0
_DEFAULT = AdaptationConfig(adapt=True)


class AdaptingReader(Reader):
    """Reads sentences one after another with a copy of a model that learns from each block.

    A sentence is complete when all its blocks are; at most a block of tokens waits.

    Raises:
        UsageError: The model has no weights, or their precision is too low to learn.
    """

    def __init__(
        self,
        model: Model,
        statistics: Sequence[TokenStatistic] = (),
        *,
        config: AdaptationConfig = _DEFAULT,
    ) -> None:
        if model.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                "a model cannot adapt in this precision",
                where="--adapt",
                why="its updates are lost in rounding",
                fix="use --precision float32",
            )
        if not any(True for _ in model.parameters()):
            raise UsageError(
                f"--model {model.config.model} cannot adapt",
                where="--adapt",
                why="it learns by counting, and has no weights to update",
                fix="leave --adapt out",
            )
        # A copy's weights are in one piece again, as cuDNN needs them, once they are "moved".
        self._model = copy.deepcopy(model).requires_grad_().to(model.device)
        self._statistics = statistics
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=config.adapt_rate)
        self._state = model.start(1)
        self._previous = EOS
        self._to_learn: tuple[Tensor, Tensor] | None = None
        self._lengths: deque[int] = deque()  # of the sentences that are not complete
        self._waiting: IdArray = np.empty(0, np.uint32)  # less than a block
        self._read: list[TokenStatistics] = []  # of sentences that are not complete

    def read(self, sentences: Sequence[IdArray]) -> list[TokenStatistics]:
        self._lengths.extend(map(len, sentences))
        text = np.concatenate([self._waiting, *sentences])
        whole = len(text) - len(text) % BLOCK
        for begin in range(0, whole, BLOCK):
            self._read.append(self._read_block(text[begin : begin + BLOCK]))
        self._waiting = text[whole:]
        return self._complete()

    def finish(self) -> list[TokenStatistics]:
        if len(self._waiting):
            self._read.append(self._read_block(self._waiting))
            self._waiting = self._waiting[:0]
        return self._complete()

    def _complete(self) -> list[TokenStatistics]:
        if not self._read:
            return []
        read, results, begin = np.concatenate(self._read), [], 0
        while self._lengths and begin + self._lengths[0] <= len(read):
            end = begin + self._lengths.popleft()
            results.append(read[begin:end])
            begin = end
        self._read = [read[begin:]]
        return results

    @torch.no_grad()
    def _read_block(self, block: IdArray) -> TokenStatistics:
        """The statistics of the next tokens, after the block before is learned."""
        if self._to_learn is not None:
            self._learn(*self._to_learn)
        ids = np.append(np.int64(self._previous), block.astype(np.int64))
        read_ids = torch.from_numpy(ids).to(self._model.device).unsqueeze(1)
        inputs, targets = read_ids[:-1], read_ids[1:]
        # One call per block, because nn.LSTM packs its weights in every call.
        hidden, self._state = self._model.hidden_states_in_context(inputs, targets, self._state)
        read = token_statistics(self._model, hidden, inputs, targets, self._statistics)
        self._previous = int(block[-1])
        last = inputs[-LEARNED:, 0], targets[-LEARNED:, 0]
        self._to_learn = last if len(block) == BLOCK else None  # a shorter block is the last
        return read[:, 0].cpu().double().numpy()

    @torch.enable_grad()
    def _learn(self, inputs: Tensor, targets: Tensor) -> None:
        """One update on the last tokens, in windows side by side.

        Each window begins in the start state. Its first tokens have no loss: the model should not
        learn from predictions that lack context.
        """
        inputs, targets = inputs.view(-1, WINDOW).T, targets.view(-1, WINDOW).T
        start = self._model.start(inputs.shape[1])
        hidden, _ = self._model.hidden_states_in_context(inputs, targets, start)
        loss = mean_cross_entropy(self._model, hidden[CONTEXT:], targets[CONTEXT:])
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), _CLIP)
        if norm.isfinite():
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
