"""Sampling of ids, one sequence or many side by side, with keyed randomness; independent of text.

Every draw is a function of (seed, index of the sample, step), so nothing else influences it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.inference import native
from textgen.inference.native import Network, Numbers
from textgen.inference.steppers import make_stepper, read_prompt
from textgen.models import Model, State
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.sequence import NOTHING, LogitMasks, TokenHistory, TokenSequence
from textgen.tokenizers.base import EOS

_DRAWS_AHEAD = 256
_PROMPTS_KEPT = 64
_MOST_AHEAD, _SECONDS_AHEAD = 64, 0.002


class Uniforms:
    """Uniform draws in [0, 1), keyed by (seed, index, attempt, part).

    Args:
        index: The number of the sample.
        attempt: How often the sample has been rejected.
        part: How often a required string has been inserted into it.
        placing: For the places of required strings, instead of tokens.
    """

    def __init__(
        self, seed: int, index: int, attempt: int = 0, part: int = 0, *, placing: bool = False
    ) -> None:
        philox = np.random.Philox(key=[seed, index], counter=[0, int(placing), attempt, part])
        self._random = np.random.Generator(philox)
        self._set_block(np.empty(0))

    def ahead(self, count: int) -> Numbers:
        """The next draws (count,), which remain the next until ``use``."""
        if self._used + count > len(self._block):
            more = self._random.random(max(count, _DRAWS_AHEAD))
            self._set_block(np.concatenate([self._block[self._used :], more]))
        return self._block[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Remove the next draws."""
        self._used += count

    def next(self) -> float:
        if self._used == len(self._block):
            self.ahead(1)
        draw = self._numbers[self._used]
        self._used += 1
        return draw

    def _set_block(self, block: Numbers) -> None:
        self._block, self._used = block, 0
        self._numbers: list[float] = block.tolist()  # faster to index than an array


@dataclass(slots=True)
class Drawn:
    """One token of one sample.

    Attributes:
        id: ``NOTHING`` if every id was excluded.
        log_prob: Natural, of the model without any rule.
        text: What is complete with this token.
        finished: Why the sample ends with it.
    """

    index: int
    id: int
    log_prob: float
    text: str
    finished: FinishReason | None


@dataclass(frozen=True, slots=True)
class Request:
    """A sample to be generated.

    Attributes:
        index: The number of the sample.
        read: The ids that the model reads first: the prompt, and tokens of the sample.
    """

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

    Each begins in the start state, and the model reads ``<EOS>`` and ``Request.read``. A sample
    depends on its request alone, not on the samples beside it.

    Args:
        next_requests: Returns at most as many requests as its argument; it is called
            whenever samples have ended.
        together: The most samples side by side.
    """
    with torch.inference_mode():
        batch = _Batch(model, config)
        batch.begin(next_requests(together))
    while batch.rows:
        with torch.inference_mode():
            drawn = batch.draw()
        yield from drawn
        requests = next_requests(len(batch.ended)) if batch.ended else []
        with torch.inference_mode():
            batch.step(requests)


class _Batch:
    """Samples side by side: for each a row of the logits and of the state.

    Attributes:
        ended: The rows of the samples that ended with the last draw.
    """

    def __init__(self, model: Model, config: SamplingConfig) -> None:
        self._model, self._config, self._device = model, config, model.device
        self._stepper = make_stepper(model, fast=config.fast)
        self._after_prompts: dict[tuple[int, ...], tuple[Tensor, State]] = {}
        self._masks = LogitMasks(decoding.float64_device(model.device))
        self._filters = decoding.filters(config)
        penalties = (config.repetition_penalty, config.frequency_penalty)
        self._only_temperature = not self._filters and penalties == (None, None)
        self._can_draw_ahead = self._only_temperature and config.no_repeat_ngram is None
        self._ahead = 1
        self.rows: list[Request] = []
        self.ended: list[int] = []

    def begin(self, requests: Sequence[Request]) -> None:
        if requests:
            size, device = self._model.config.vocabulary_size, self._device
            self.rows = list(requests)
            self._logits = torch.zeros(len(requests), size, dtype=self._model.dtype, device=device)
            self._stepper.state = self._model.start(len(requests))
            self._read_prompts(range(len(requests)))

    def draw(self) -> Iterator[Drawn]:
        """One token for every row, or several for the only one.

        All of them must be taken before the next step.
        """
        if len(self.rows) == 1 and self._can_draw_ahead and (network := self._stepper.network):
            return self._draw_ahead(network)
        uniforms = np.array([row.uniforms.next() for row in self.rows])
        self._ids, log_probs = self._draw_ids(uniforms)
        pairs = zip(self._ids.tolist(), log_probs.tolist(), strict=True)
        drawn = [row.append(*pair) for row, pair in zip(self.rows, pairs, strict=True)]
        self.ended = [row for row, each in enumerate(drawn) if each.finished is not None]
        self._ids.clamp_(min=0)  # the model reads an id in every row
        return iter(drawn)

    def _draw_ahead(self, network: Network) -> Iterator[Drawn]:
        """Tokens for the only row, as many as come before its logit mask changes.

        They are drawn as if the mask stayed the same. Each time that it does, the next call
        draws more of them, up to a limit.
        """
        (row,) = self.rows
        count = min(self._ahead, self._config.length - row.sequence.tokens)
        before, start_time = self._stepper.state, time.perf_counter()
        network.logits.copy_(self._logits)
        ids, log_probs = network.sample(
            self._masks.mask([row.sequence]),
            np.array(row.sequence.temperatures(count), np.float64),
            row.uniforms.ahead(count),
        )
        if time.perf_counter() - start_time < _SECONDS_AHEAD:
            self._ahead = min(2 * count, _MOST_AHEAD)
        return self._take_ahead(row, network, before, ids, log_probs)

    def _take_ahead(
        self, row: Request, network: Network, before: State, ids: list[int], log_probs: list[float]
    ) -> Iterator[Drawn]:
        """The tokens up to a change of the mask; the state is as if no others had been drawn."""
        constraint = row.sequence.constraint
        key = constraint.allowed().key
        taken = 0
        self.ended = []
        while taken < len(ids) and not self.ended:
            if taken and constraint.allowed().key != key:
                with torch.inference_mode():
                    self._stepper.state = before
                    network.read(torch.tensor(ids[: taken - 1], dtype=torch.long).view(-1, 1))
                self._ahead = taken
                break
            drawn = row.append(ids[taken], log_probs[taken])
            taken += 1
            if drawn.finished is not None:
                self.ended = [0]
            yield drawn
        row.uniforms.use(taken)
        self._ids = torch.tensor([max(0, ids[taken - 1])])

    def _draw_ids(self, uniforms: Numbers) -> tuple[Tensor, Tensor]:
        """Ids (batch,), ``NOTHING`` where all are excluded; their ln p (batch,) without rules."""
        sequences = [row.sequence for row in self.rows]
        mask = self._masks.mask(sequences)
        if len(self._config.temperature) == 1:
            temperatures = np.full(len(sequences), self._config.temperature[0], np.float64)
        else:
            given = [sequence.temperatures(1)[0] for sequence in sequences]
            temperatures = np.array(given, np.float64)
        only = self._only_temperature
        library = native.library(self._device, self._logits.dtype) if only else None
        if library is not None:
            return native.draw(library, self._logits, mask, temperatures, uniforms)
        raw = decoding.in_float64(self._logits)
        nothing = (mask == -torch.inf).all(-1)
        logits = self._penalized(raw) + mask.masked_fill(nothing.unsqueeze(-1), 0.0)
        logits = decoding.temper_rows(logits, temperatures.tolist())
        for rule in self._filters:
            logits = rule(logits)
        ids = decoding.draw(logits.softmax(-1), torch.from_numpy(uniforms).to(logits.device))
        log_probs = raw.log_softmax(-1).gather(-1, ids.unsqueeze(1)).squeeze(1)
        return ids.masked_fill_(nothing, NOTHING), log_probs

    def _penalized(self, logits: Tensor) -> Tensor:
        """The logits (batch, vocabulary) after the penalties."""

        def of_histories(value: Callable[[TokenHistory], npt.NDArray[Any]]) -> Tensor:
            histories = [row.sequence.history for row in self.rows]
            rows = np.stack([value(each) for each in histories if each is not None])
            return torch.from_numpy(rows).to(logits.device)

        if (penalty := self._config.repetition_penalty) is not None:
            seen = of_histories(lambda history: history.seen)
            logits = decoding.penalize_repetition(logits, seen, penalty)
        if (penalty := self._config.frequency_penalty) is not None:
            counts = of_histories(lambda history: history.counts)
            logits = decoding.penalize_frequency(logits, counts, penalty)
        return logits

    def step(self, requests: Sequence[Request]) -> None:
        """Read the tokens that were drawn; rows that ended are given to the new requests."""
        ended = self.ended
        if not ended:
            self._logits = self._stepper.step(self._ids.to(self._device))
            return
        remaining = sorted(set(range(len(self.rows))) - set(ended[len(requests) :]))
        replaced = [remaining.index(row) for row in ended[: len(requests)]]
        if len(remaining) < len(self.rows):
            self.rows = [self.rows[row] for row in remaining]
            rows = torch.tensor(remaining, dtype=torch.long, device=self._device)
            self._ids = self._ids[rows.to(self._ids.device)]
            if remaining:
                self._stepper.state = self._stepper.state.select(rows)
        if len(replaced) < len(self.rows):
            self._logits = self._stepper.step(self._ids.to(self._device))
        else:
            self._logits = self._logits[: len(replaced)]
        for row, request in zip(replaced, requests, strict=True):
            self.rows[row] = request
        self._read_prompts(replaced)

    def _read_prompts(self, rows: Sequence[int]) -> None:
        """Set the logits and the states of these rows to those after their prompts."""
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            by_prompt.setdefault(self.rows[row].read, []).append(row)
        if not by_prompt:
            return
        state = self._stepper.state
        for prompt, its_rows in by_prompt.items():
            if prompt not in self._after_prompts:
                if len(self._after_prompts) >= _PROMPTS_KEPT:
                    self._after_prompts.clear()
                self._after_prompts[prompt] = read_prompt(self._model, [EOS, *prompt])
            logits, after = self._after_prompts[prompt]
            places = torch.tensor(its_rows, device=self._device)
            copies = torch.zeros_like(places)
            self._logits = self._logits.index_copy(0, places, logits[copies])
            state = state.replace(places, after.select(copies))
        self._stepper.state = state
