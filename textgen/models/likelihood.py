"""What a model gives each token of a text: the one pass that validation and scoring share."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from textgen.models.base import Model, State

IdArray = npt.NDArray[np.integer[Any]]
LogProbs = npt.NDArray[np.float64]

_WINDOW = 64
_LARGEST_LOGITS = 2**22
_MOST_LOGITS = 2**25  # 128 MB of float32; their gradient is as large
_SEGMENTS_ON_CPU, _SEGMENTS = 16, 128  # on a CPU more cost more second readings than they save
_BLOCK_TOKENS = 2**18
_TOLERANCES = {torch.bfloat16: 2e-2, torch.float32: 1e-6, torch.float64: 1e-14}


def target_log_probs(model: Model, features: Tensor, targets: Tensor) -> Tensor:
    """ln p of each target: features (time, batch, units), targets (time, batch) -> (time, batch).

    The logits of a few rows at a time, so that a large vocabulary fits in memory.
    """
    rows = max(1, _LARGEST_LOGITS // model.config.vocabulary_size)
    pieces = []
    flat_targets = targets.flatten()
    for begin in range(0, len(flat_targets), rows):
        logits = model.logits(features.flatten(0, 1)[begin : begin + rows])
        if logits.dtype != torch.float64:
            logits = logits.float()
        losses = functional.cross_entropy(
            logits, flat_targets[begin : begin + rows], reduction="none"
        )
        pieces.append(-losses)
    return torch.cat(pieces).view(targets.shape)


def mean_cross_entropy(model: Model, features: Tensor, targets: Tensor) -> Tensor:
    """The loss to learn from, in nats a token.

    features: (time, batch, units), targets: (time, batch). Where the logits of a whole window
    would be too large, those of some rows at a time are made, and made again for the gradient
    (checkpointing; Chen et al. 2016), so that no more than ``_MOST_LOGITS`` are ever held: a
    third more work in the output layer for bounded memory.
    """
    flat, ids = features.flatten(0, 1), targets.flatten()
    rows = max(1, _MOST_LOGITS // model.config.vocabulary_size)

    def loss_sum(some: Tensor, of: Tensor) -> Tensor:
        return functional.cross_entropy(model.logits(some).float(), of, reduction="sum")

    if len(ids) <= rows:
        return loss_sum(flat, ids) / len(ids)
    losses = [
        checkpoint(loss_sum, some, of, use_reentrant=False, preserve_rng_state=False)
        for some, of in zip(torch.split(flat, rows), torch.split(ids, rows), strict=True)
    ]
    return torch.stack(losses).sum() / len(ids)


class Document:
    """A text read from its start in parts, the state carried from the first token to the last.

    A recurrent network cannot skip ahead, yet it forgets: so each part is cut into segments
    read side by side, all but the first from a guessed state, and then read again from the
    state in which the segment before truly ended, until the two readings meet (their states
    differ by no more than rounding). Where they do not meet, the reading goes on to the
    segment's end and the next segment is read again: always exact, mostly one pass.
    """

    def __init__(self, model: Model, first: int, *, segments: int | None = None) -> None:
        """The text starts from the start state, having read the token ``first``.

        segments: how many are read side by side; None leaves it to the device.
        """
        self.model, self._previous = model, first
        by_device = _SEGMENTS_ON_CPU if model.device.type == "cpu" else _SEGMENTS
        self.segments = segments or by_device
        self.tolerance = _TOLERANCES[model.dtype]
        self.state = model.start(1)

    @torch.inference_mode()
    def read(self, ids: IdArray) -> LogProbs:
        """ln p of each of the next tokens, given all before it."""
        pieces = []
        for begin in range(0, len(ids), _BLOCK_TOKENS):
            block = torch.as_tensor(
                np.asarray(ids[begin : begin + _BLOCK_TOKENS], np.int64), device=self.model.device
            )
            inputs = torch.cat([block.new_tensor([self._previous]), block[:-1]])
            reading = _Reading(self, inputs, block)
            log_probs, self.state = reading.log_probs()
            self._previous = int(block[-1])
            pieces.append(log_probs.cpu().double().numpy())
        return np.concatenate(pieces) if pieces else np.empty(0)


class _Reading:
    """One block of a text, read in segments side by side."""

    def __init__(self, document: Document, inputs: Tensor, targets: Tensor) -> None:
        model, self._state = document.model, document.state
        self._model, self._tolerance = model, document.tolerance
        count = max(1, min(document.segments, len(targets) // (4 * _WINDOW)))
        length = len(targets) // count
        whole = count * length
        self._inputs = inputs[:whole].view(count, length).T  # (time, segment)
        self._targets = targets[:whole].view(count, length).T
        self._rest = (inputs[whole:].unsqueeze(1), targets[whole:].unsqueeze(1))
        dtype = torch.promote_types(model.dtype, torch.float32)
        self._log_probs = torch.empty(self._targets.shape, dtype=dtype, device=targets.device)
        self._edges: list[State] = []  # the state after each window, rows being segments

    def log_probs(self) -> tuple[Tensor, State]:
        """ln p of each token of the block (tokens,), and the state after the last."""
        segments = self._targets.shape[1]
        every = torch.arange(segments, device=self._targets.device)
        guess = self._model.start(segments).replace(every[:1], self._state)
        self._read(every, guess)
        doubtful = every[1:]
        while len(doubtful):
            changed = self._read_again(doubtful)
            doubtful = changed[changed < segments - 1] + 1
        last = self._edges[-1].select(every[-1:])
        flat = self._log_probs.T.flatten()
        inputs, targets = self._rest
        if len(inputs):
            features, last = self._model.features(inputs, last)
            rest = target_log_probs(self._model, features, targets).flatten()
            flat = torch.cat([flat, rest.to(flat.dtype)])
        return flat, last

    def _read(self, rows: Tensor, state: State) -> None:
        for window in range(0, len(self._targets), _WINDOW):
            state = self._read_window(window, rows, state)
            self._edges.append(state)

    def _read_window(self, window: int, rows: Tensor, state: State) -> State:
        inputs = self._inputs[window : window + _WINDOW, rows]
        targets = self._targets[window : window + _WINDOW, rows]
        features, state = self._model.features(inputs, state)
        log_probs = target_log_probs(self._model, features, targets)
        self._log_probs[window : window + _WINDOW, rows] = log_probs.to(self._log_probs.dtype)
        return state

    def _read_again(self, rows: Tensor) -> Tensor:
        """Read segments from where the ones before ended; returns those that never met."""
        state = self._edges[-1].select(rows - 1)
        for edge, window in enumerate(range(0, len(self._targets), _WINDOW)):
            state = self._read_window(window, rows, state)
            met = state.close_to(self._edges[edge].select(rows), self._tolerance)
            self._edges[edge] = self._edges[edge].replace(rows, state)
            rows, state = rows[~met], state.select((~met).nonzero().flatten())
            if not len(rows):
                break
        return rows


def batch_log_probs(
    model: Model, inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]
) -> LogProbs:
    """ln p of each target from the start state; inputs, targets, result (time, batch)."""
    with torch.inference_mode():
        device = model.device
        features, _ = model.features(
            torch.as_tensor(inputs, device=device), model.start(inputs.shape[1])
        )
        log_probs = target_log_probs(model, features, torch.as_tensor(targets, device=device))
        return log_probs.cpu().double().numpy()
