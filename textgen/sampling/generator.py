"""Ids out, one stream or many side by side; knows nothing of text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.models import Model, State
from textgen.results import FinishReason
from textgen.sampling.decoding import distribution, draw, in_float64
from textgen.tokenizers.base import EOS, UNK

_DRAWS_AHEAD = 256


@dataclass(frozen=True)
class Drawn:
    """One token of one sample. log_prob: natural, the raw model's. finished: why it ended here."""

    index: int
    id: int
    log_prob: float
    finished: FinishReason | None


class _Uniforms:
    """Uniform draws keyed by (seed, index, step), whatever else is drawn beside them."""

    def __init__(self, seed: int, index: int) -> None:
        self._random = np.random.Generator(np.random.Philox(key=[seed, index]))
        self._block, self._used = np.empty(0), 0

    def next(self) -> float:
        if self._used == len(self._block):
            self._block, self._used = self._random.random(_DRAWS_AHEAD), 0
        self._used += 1
        return float(self._block[self._used - 1])


@dataclass
class _Stream:
    """One sample being written."""

    index: int
    uniforms: _Uniforms
    tokens: int = 0
    sentences: int = 0

    def finished(self, token: int, config: SamplingConfig) -> FinishReason | None:
        self.tokens += 1
        self.sentences += token == EOS
        if config.sentences is not None and self.sentences == config.sentences:
            return "eos"
        return "length" if self.tokens == config.length else None


@torch.inference_mode()
def generate(
    model: Model,
    prompt: Sequence[int],
    config: SamplingConfig,
    indices: Sequence[int],
    first: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Drawn]:
    """Write the samples with these indices side by side; tokens come out step by step.

    Each starts from the start state, having read ``<EOS>`` and the prompt. A sample depends
    on (seed, index) alone, not on which others are written beside it. first: (vocabulary,)
    mask of the ids that may come first, where the prompt leaves not all open.
    """
    streams = [_Stream(index, _Uniforms(config.seed, index)) for index in indices]
    banned = torch.zeros(model.config.vocabulary_size, dtype=torch.bool, device=model.device)
    banned[UNK] = not config.allow_unk
    if first is not None and not (first & ~banned.cpu().numpy()).any():
        first = None  # nothing could follow the prompt as it stands
    banned_now = banned if first is None else banned | ~torch.from_numpy(first).to(banned.device)
    logits, state = _after_prompt(model, prompt)
    rows = torch.zeros(len(streams), dtype=torch.long, device=model.device)
    logits, state = logits[rows], state.select(rows)
    while True:
        uniforms = np.array([stream.uniforms.next() for stream in streams])
        ids = draw(distribution(logits, config, banned_now), uniforms)
        banned_now = banned
        log_probs = _log_probs(logits, ids)
        going = []
        for row, (stream, token) in enumerate(zip(streams, ids.tolist(), strict=True)):
            finished = stream.finished(token, config)
            yield Drawn(stream.index, token, log_probs[row], finished)
            if finished is None:
                going.append(row)
        if not going:
            return
        if len(going) < len(streams):
            streams = [streams[row] for row in going]
            rows = torch.tensor(going, device=model.device)
            ids, state = ids[rows.to(ids.device)], state.select(rows)
        logits, state = model.step(ids.to(model.device), state)


def _after_prompt(model: Model, prompt: Sequence[int]) -> tuple[Tensor, State]:
    """Logits (1, vocabulary) and state after ``<EOS>`` and the prompt."""
    ids = torch.tensor([EOS, *prompt], device=model.device).unsqueeze(1)  # (time, 1)
    features, state = model.features(ids, model.start(1))
    return model.logits(features[-1]), state


def _log_probs(logits: Tensor, ids: Tensor) -> list[float]:
    log_probs = in_float64(logits).log_softmax(-1).gather(-1, ids.unsqueeze(1))
    values: list[float] = log_probs.squeeze(1).tolist()
    return values
