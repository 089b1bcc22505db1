"""Sampling of ids, one sequence or many side by side, with keyed randomness; independent of text.

Every draw is a function of (seed, index of the sample, step), so nothing else influences it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.inference.native import kernels
from textgen.inference.native.kernels import Network, Numbers
from textgen.inference.steppers import make_stepper, read_prompt
from textgen.models import Model
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.sequence import NOTHING, LogitMasks, TokenSequence
from textgen.tokenizers.base import EOS

_PROMPTS_KEPT = 64
_MOST_AHEAD, _SECONDS_AHEAD = 64, 0.002


class Uniforms:
    """Uniform draws in [0, 1), keyed by (seed, index, attempt, part).

    Args:
        attempt: How often the sample has been rejected.
        part: How often a required string has been inserted into it.
        placing: For the places of required strings, instead of tokens.
    """

    def __init__(
        self, seed: int, index: int, attempt: int = 0, part: int = 0, *, placing: bool = False
    ) -> None:
        philox = np.random.Philox(key=[seed, index], counter=[0, int(placing), attempt, part])
        self._random = np.random.Generator(philox)
        self._waiting = np.empty(0)

    def ahead(self, count: int) -> Numbers:
        """The next draws (count,), which remain the next until ``use``."""
        if (missing := count - len(self._waiting)) > 0:
            self._waiting = np.append(self._waiting, self._random.random(missing))
        return self._waiting[:count]

    def use(self, count: int) -> None:
        """Remove the next draws."""
        self._waiting = self._waiting[count:]

    def next(self) -> float:
        if not len(self._waiting):
            return self._random.random()
        draw = float(self._waiting[0])
        self.use(1)
        return draw


@dataclass(slots=True)
class Drawn:
    """One token of the sample with this index.

    Attributes:
        id: ``NOTHING`` if every id was excluded.
        log_prob: Natural, of the model without any rule.
        text: What is complete with this token.
    """

    index: int
    id: int
    log_prob: float
    text: str
    finished: FinishReason | None


@dataclass(frozen=True, slots=True)
class Request:
    """A sample to be generated. read: The ids that the model reads after ``<EOS>``."""

    index: int
    read: tuple[int, ...]
    sequence: TokenSequence
    uniforms: Uniforms

    def append(self, id: int, log_prob: float) -> Drawn:
        if id == NOTHING:
            log_prob = 0.0
        return Drawn(self.index, id, log_prob, *self.sequence.append(id, log_prob))


def generate(
    model: Model,
    config: SamplingConfig,
    next_requests: Callable[[int], Sequence[Request]],
    *,
    together: int = 64,
) -> Iterator[Drawn]:
    """Generate samples side by side, each in the place of one that ended; token by token.

    A sample depends on its request alone, not on the samples beside it.

    Args:
        next_requests: Returns at most as many requests as its argument; it is called
            whenever samples have ended.
        together: The most samples side by side.
    """
    if not (requests := next_requests(together)):
        return
    batch = _Batch(model, config, requests)
    while batch.rows:
        yield from batch.draw()
        batch.step(next_requests(len(batch.ended)) if batch.ended else [])


class _Batch:
    """Samples side by side: for each a row of the logits and of the state.

    Attributes:
        ended: The rows of the samples that ended with the last draw, in ascending order.
    """

    @torch.inference_mode()
    def __init__(self, model: Model, config: SamplingConfig, requests: Sequence[Request]) -> None:
        self._config, self._device = config, model.device
        self._after_prompt = lru_cache(_PROMPTS_KEPT)(partial(read_prompt, model))
        self._masks = LogitMasks(decoding.float64_device(model.device))
        self._filters = decoding.filters(config)
        penalties = (config.repetition_penalty, config.frequency_penalty)
        self._only_temperature = not self._filters and penalties == (None, None)
        self._can_draw_ahead = self._only_temperature and config.no_repeat_ngram is None
        self._ahead = 1
        self.rows = list(requests)
        self.ended: list[int] = []
        size = model.config.vocabulary_size
        self._logits = torch.zeros(len(requests), size, dtype=model.dtype, device=model.device)
        self._stepper = make_stepper(model, fast=config.fast)
        self._stepper.state = model.start(len(requests))
        self._read_prompts(range(len(requests)))

    @torch.inference_mode()
    def draw(self) -> list[Drawn]:
        """One token for every row, or several for the only one."""
        if len(self.rows) == 1 and self._can_draw_ahead and (network := self._stepper.network):
            return self._draw_ahead(self.rows[0], network)
        self._ids, log_probs = _on_cpu(*self._draw_ids())
        tokens = list(zip(self.rows, self._ids.tolist(), log_probs.tolist(), strict=True))
        failed = any(id == NOTHING or math.isnan(log_prob) for _, id, log_prob in tokens)
        if failed:
            decoding.check_finite(self._logits)
        drawn = [row.append(id, log_prob) for row, id, log_prob in tokens]
        self.ended = [row for row, each in enumerate(drawn) if each.finished is not None]
        self._ids.clamp_(min=0)  # the model reads an id in every row
        return drawn

    def _draw_ahead(self, row: Request, network: Network) -> list[Drawn]:
        """Tokens for the only row, as many as come before its logit mask changes.

        They are drawn as if the mask stayed the same. Each time that it does, the next call
        draws more of them, up to a limit. The state is as if no others had been drawn.
        """
        tokens, constraint = row.sequence.tokens, row.sequence.constraint
        count = min(self._ahead, self._config.length - tokens)
        before, start_time = self._stepper.state, time.perf_counter()
        network.logits.copy_(self._logits)
        ids, log_probs = network.sample(
            self._masks.mask([row.sequence]),
            self._temperatures(range(tokens, tokens + count)),
            row.uniforms.ahead(count),
        )
        if time.perf_counter() - start_time < _SECONDS_AHEAD:
            self._ahead = min(2 * count, _MOST_AHEAD)
        if NOTHING in ids or any(map(math.isnan, log_probs)):
            decoding.check_finite(network.logits)
        key = constraint.allowed().key
        drawn: list[Drawn] = []
        self.ended = []
        for id, log_prob in zip(ids, log_probs, strict=True):
            if drawn and constraint.allowed().key != key:
                self._stepper.state = before
                read = ids[: len(drawn) - 1]
                network.read(torch.tensor(read, dtype=torch.long).view(-1, 1))
                self._ahead = len(drawn)
                break
            drawn.append(row.append(id, log_prob))
            if drawn[-1].finished is not None:
                self.ended = [0]
                break
        row.uniforms.use(len(drawn))
        self._ids = torch.tensor([max(0, drawn[-1].id)])
        return drawn

    def _temperatures(self, places: Iterable[int]) -> Numbers:
        """The temperatures of the tokens at these places of their samples."""
        given = self._config.temperature
        return np.array([given[place % len(given)] for place in places], np.float64)

    def _draw_ids(self) -> tuple[Tensor, Tensor]:
        """Ids (batch,), ``NOTHING`` where all are excluded; their ln p (batch,) without rules."""
        mask = self._masks.mask([row.sequence for row in self.rows])
        temperatures = self._temperatures(row.sequence.tokens for row in self.rows)
        uniforms = np.array([row.uniforms.next() for row in self.rows])
        if self._only_temperature:
            library = kernels.library(self._device, self._logits.dtype)
            if library is not None:
                return kernels.draw(library, self._logits, mask, temperatures, uniforms)
        raw = decoding.in_float64(self._logits)
        nothing = (mask == -torch.inf).all(-1)
        logits = self._penalized(raw) + mask.masked_fill(nothing.unsqueeze(-1), 0.0)
        logits = decoding.temper_rows(logits, temperatures.tolist())
        for rule, value in self._filters:
            logits = rule(logits, value)
        ids = decoding.draw(logits.softmax(-1), torch.from_numpy(uniforms).to(logits.device))
        log_probs = raw.log_softmax(-1).gather(-1, ids.unsqueeze(1)).squeeze(1)
        return ids.masked_fill_(nothing, NOTHING), log_probs

    def _penalized(self, logits: Tensor) -> Tensor:
        """The logits (batch, vocabulary) after the penalties."""
        histories = [row.sequence.history for row in self.rows]
        kept = [history for history in histories if history is not None]
        if (penalty := self._config.repetition_penalty) is not None:
            seen = torch.from_numpy(np.stack([history.seen for history in kept]))
            logits = decoding.penalize_repetition(logits, seen.to(logits.device), penalty)
        if (penalty := self._config.frequency_penalty) is not None:
            counts = torch.from_numpy(np.stack([history.counts for history in kept]))
            logits = decoding.penalize_frequency(logits, counts.to(logits.device), penalty)
        return logits

    @torch.inference_mode()
    def step(self, requests: Sequence[Request]) -> None:
        """Read the tokens that were drawn; rows that ended are given to the new requests."""
        replaced, removed = self.ended[: len(requests)], self.ended[len(requests) :]
        for row, request in zip(replaced, requests, strict=True):
            self.rows[row] = request
        if removed:  # all after the replaced rows, which so keep their places
            remaining = [row for row in range(len(self.rows)) if row not in removed]
            self.rows = [self.rows[row] for row in remaining]
            if not remaining:
                return
            rows = torch.tensor(remaining)
            self._ids = self._ids[rows]
            self._stepper.state = self._stepper.state.select(rows.to(self._device))
        if len(replaced) < len(self.rows):
            self._logits = self._stepper.step(self._ids.to(self._device))
        else:
            self._logits = self._logits[: len(replaced)]
        self._read_prompts(replaced)

    def _read_prompts(self, rows: Sequence[int]) -> None:
        """Set the logits and the states of these rows to those after their prompts."""
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            by_prompt.setdefault(self.rows[row].read, []).append(row)
        for prompt, its_rows in by_prompt.items():
            logits, after = self._after_prompt((EOS, *prompt))
            places = torch.tensor(its_rows, device=self._device)
            copies = torch.zeros_like(places)
            self._logits = self._logits.index_copy(0, places, logits[copies])
            self._stepper.state = self._stepper.state.replace(places, after.select(copies))


def _on_cpu(ids: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Both (batch,) on the CPU, in one transfer, because each waits for the device."""
    if ids.device.type == "cpu":
        return ids, log_probs
    both = torch.stack([ids.double(), log_probs]).cpu()  # float64 holds every id exactly
    return both[0].long(), both[1]
