"""Sampling of ids, one sequence or many side by side, with keyed randomness; independent of text.

Every draw is a function of (seed, index of the sample, step), so nothing else influences it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
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

Purpose = Literal["tokens", "places", "chances"]
"""What draws are for: tokens, the places of required strings, or whether XTC applies."""

_PROMPTS_KEPT = 64
_MOST_AHEAD, _SECONDS_AHEAD = 64, 0.002


class Uniforms:
    """Uniform draws in [0, 1), keyed by (seed, index, attempt, part, purpose).

    Args:
        attempt: How often the sample has been rejected.
        part: How often a required string has been inserted into it.
    """

    def __init__(
        self, seed: int, index: int, attempt: int = 0, part: int = 0, purpose: Purpose = "tokens"
    ) -> None:
        counter = [0, get_args(Purpose).index(purpose), attempt, part]
        self._random = np.random.Generator(np.random.Philox(key=[seed, index], counter=counter))
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
        alternatives: The most probable ids of the model in its place and their ln p, where asked.
    """

    index: int
    id: int
    log_prob: float
    text: str
    finished: FinishReason | None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A sample to be generated.

    Attributes:
        read: The ids that the model reads after ``<EOS>``.
        chances: Draws that decide where XTC applies; needed for XTC alone.
        alternatives: How many of the most probable ids come with each token.
    """

    index: int
    read: tuple[int, ...]
    sequence: TokenSequence
    uniforms: Uniforms
    chances: Uniforms | None = None
    alternatives: int = 0

    @property
    def config(self) -> SamplingConfig:
        return self.sequence.config

    @property
    def can_draw_ahead(self) -> bool:
        """Whether no rule needs the logits or the tokens before the next draw."""
        config = self.config
        rules = config.logit_rules is not None or config.no_repeat_ngram is not None
        return not rules and not self.alternatives

    def append(
        self, id: int, log_prob: float, alternatives: tuple[tuple[int, float], ...] = ()
    ) -> Drawn:
        if id == NOTHING:
            log_prob = 0.0
        return Drawn(self.index, id, log_prob, *self.sequence.append(id, log_prob), alternatives)


def generate(
    model: Model,
    next_requests: Callable[[int], Sequence[Request]],
    *,
    fast: bool = False,
    together: int = 64,
) -> Iterator[Drawn]:
    """Generate samples side by side, each in the place of one that ended; token by token.

    A sample depends on its request alone, not on the samples beside it.

    Args:
        next_requests: Returns at most as many requests as its argument; it is called
            whenever samples have ended.
        fast: Whether steps use 8-bit weights.
        together: The most samples side by side.
    """
    if not (requests := next_requests(together)):
        return
    batch = Batch(model, fast=fast)
    batch.step(requests)
    while batch.rows:
        yield from batch.draw()
        batch.step(next_requests(len(batch.ended)) if batch.ended else [])


class Batch:
    """Samples side by side, a row of the logits and of the state each; at first none.

    Attributes:
        rows: The requests of the samples.
        ended: The rows of the samples that ended with the last draw, in ascending order.
    """

    def __init__(self, model: Model, *, fast: bool = False) -> None:
        self._model, self._device = model, model.device
        self._after_prompt = lru_cache(_PROMPTS_KEPT)(partial(read_prompt, model))
        self._masks = LogitMasks(decoding.float64_device(model.device))
        self._ahead = 1
        self._stepper = make_stepper(model, fast=fast)
        self.rows: list[Request] = []
        self.ended: list[int] = []

    @torch.inference_mode()
    def draw(self) -> list[Drawn]:
        """One token for every row, or several for the only one."""
        network = self._stepper.network if len(self.rows) == 1 else None
        if network is not None and self.rows[0].can_draw_ahead:
            return self._draw_ahead(self.rows[0], network)
        self._ids, log_probs = self._draw_ids()
        tokens = list(zip(self.rows, self._ids.tolist(), log_probs.tolist(), strict=True))
        failed = any(id == NOTHING or math.isnan(log_prob) for _, id, log_prob in tokens)
        if failed:
            decoding.check_finite(self._logits)
        alternatives = self._alternatives()
        drawn = [
            row.append(id, log_prob, alternatives.get(place, ()))
            for place, (row, id, log_prob) in enumerate(tokens)
        ]
        self.ended = [row for row, each in enumerate(drawn) if each.finished is not None]
        self._ids.clamp_(min=0)  # the model reads an id in every row
        return drawn

    def _draw_ahead(self, row: Request, network: Network) -> list[Drawn]:
        """Tokens for the only row, as many as come before its logit mask changes.

        They are drawn as if the mask stayed the same. Each time that it does, the next call
        draws more of them, up to a limit. The state is as if no others had been drawn.
        """
        tokens, constraint = row.sequence.tokens, row.sequence.constraint
        count = min(self._ahead, row.config.length - tokens)
        before, start_time = self._stepper.state, time.perf_counter()
        network.logits.copy_(self._logits)
        ids, log_probs = network.sample(
            self._masks.mask([row.sequence]),
            _numbers(row.config.temperature_at(tokens + at) for at in range(count)),
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

    def _draw_ids(self) -> tuple[Tensor, Tensor]:
        """Ids (batch,), ``NOTHING`` where all are excluded; their ln p (batch,) without rules."""
        by_rules: dict[tuple[Any, ...] | None, list[int]] = {}
        for place, row in enumerate(self.rows):
            by_rules.setdefault(row.config.logit_rules, []).append(place)
        if len(by_rules) == 1:
            return self._draw_alike(self.rows, self._logits)
        ids = torch.empty(len(self.rows), dtype=torch.long)
        log_probs = torch.empty(len(self.rows), dtype=torch.float64)
        for places in by_rules.values():
            at = torch.tensor(places)
            rows = [self.rows[place] for place in places]
            ids[at], log_probs[at] = self._draw_alike(rows, self._logits[at.to(self._device)])
        return ids, log_probs

    def _draw_alike(self, rows: Sequence[Request], logits: Tensor) -> tuple[Tensor, Tensor]:
        """As ``_draw_ids``, for rows with the same rules and their logits (rows, vocabulary)."""
        mask = self._masks.mask([row.sequence for row in rows])
        temperatures = _numbers(row.config.temperature_at(row.sequence.tokens) for row in rows)
        uniforms = _numbers(row.uniforms.next() for row in rows)
        if rows[0].config.logit_rules is None:
            library = kernels.library(self._device, logits.dtype)
            if library is not None:
                return kernels.draw(library, logits, mask, temperatures, uniforms)
        raw = decoding.in_float64(logits)
        nothing = (mask == -torch.inf).all(-1)
        logits = _penalized(raw, rows) + mask.masked_fill(nothing.unsqueeze(-1), 0.0)
        logits = decoding.temper_rows(logits, temperatures.tolist())
        for rule, value in decoding.filters(rows[0].config):
            logits = rule(logits, value)
        if (share := rows[0].config.xtc_probability) is not None:
            chances = [row.chances.next() for row in rows if row.chances is not None]
            chosen = torch.tensor([chance < share for chance in chances], device=logits.device)
            logits = decoding.exclude_top_choices(logits, rows[0].config.xtc_threshold, chosen)
        ids = decoding.draw(logits.softmax(-1), torch.from_numpy(uniforms).to(logits.device))
        log_probs = raw.log_softmax(-1).gather(-1, ids.unsqueeze(1)).squeeze(1)
        return _on_cpu(ids.masked_fill_(nothing, NOTHING), log_probs)

    def _alternatives(self) -> dict[int, tuple[tuple[int, float], ...]]:
        """The most probable ids and their ln p, by the rows that ask for them."""
        asking = [place for place, row in enumerate(self.rows) if row.alternatives]
        if not asking:
            return {}
        raw = decoding.in_float64(self._logits[torch.tensor(asking, device=self._device)])
        most = min(max(self.rows[place].alternatives for place in asking), raw.shape[1])
        values, ids = raw.log_softmax(-1).topk(most)
        rows = zip(asking, ids.tolist(), values.tolist(), strict=True)
        return {
            place: tuple(zip(ids, log_probs, strict=True))[: self.rows[place].alternatives]
            for place, ids, log_probs in rows
        }

    def end(self, index: int) -> None:
        """End the sample with this index: with the next step its row is another's."""
        places = [place for place, row in enumerate(self.rows) if row.index == index]
        self.ended = sorted({*self.ended, *places})

    def clear(self) -> None:
        """Remove all samples, as after an error."""
        self.rows, self.ended = [], []

    @torch.inference_mode()
    def step(self, requests: Sequence[Request] = ()) -> None:
        """Read the tokens that were drawn; rows that ended are given to the new requests.

        Where there are more requests, rows are added; where there are fewer, rows are removed.
        """
        before, replaced = len(self.rows), self.ended[: len(requests)]
        for row, request in zip(replaced, requests, strict=False):
            self.rows[row] = request
        removed = set(self.ended[len(requests) :])  # all after the replaced rows, which so stay
        kept = [row for row in range(before) if row not in removed]
        self.rows = [self.rows[row] for row in kept] + list(requests[len(replaced) :])
        new = [*replaced, *range(len(kept), len(self.rows))]
        self.ended = []
        if not self.rows:
            return
        if len(new) == len(self.rows):
            self._stepper.state = self._model.start(len(new))
            size, dtype = self._model.config.vocabulary_size, self._model.dtype
            self._logits = torch.zeros(len(new), size, dtype=dtype, device=self._device)
        else:
            if len(self.rows) != before or removed:
                copies = [0] * (len(self.rows) - len(kept))  # in the place of the new ones
                rows = torch.tensor([*kept, *copies])
                self._ids = self._ids[rows]
                self._stepper.state = self._stepper.state.select(rows.to(self._device))
            self._logits = self._stepper.step(self._ids.to(self._device))
        self._read_prompts(new)

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


def _numbers(values: Iterable[float]) -> Numbers:
    return np.fromiter(values, np.float64)


def _penalized(logits: Tensor, rows: Sequence[Request]) -> Tensor:
    """The logits (batch, vocabulary) after bias and penalties, for rows with the same rules."""
    config, device = rows[0].config, logits.device
    histories = [row.sequence.history for row in rows if row.sequence.history is not None]

    def stacked(arrays: Iterable[npt.NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays))).to(device)

    if config.logit_bias:
        logits = decoding.add_bias(logits, config.logit_bias)
    if (penalty := config.repetition_penalty) is not None:
        seen = stacked(history.seen for history in histories)
        logits = decoding.penalize_repetition(logits, seen, penalty)
    if (penalty := config.frequency_penalty) is not None:
        counts = stacked(history.counts for history in histories)
        logits = decoding.penalize_frequency(logits, counts, penalty)
    if (penalty := config.presence_penalty) is not None:
        counts = stacked(history.counts for history in histories)
        logits = decoding.penalize_presence(logits, counts, penalty)
    if (multiplier := config.dry_multiplier) is not None:
        length, texts = config.dry_allowed_length, [each.repetitions for each in histories]
        repeated = stacked(each.lengths(length) for each in texts if each is not None)
        logits = decoding.penalize_dry(logits, repeated, multiplier, config.dry_base, length)
    return logits


def _on_cpu(ids: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Both (batch,) on the CPU, in one transfer, because each waits for the device."""
    if ids.device.type == "cpu":
        return ids, log_probs
    both = torch.stack([ids.double(), log_probs]).cpu()  # float64 holds every id exactly
    return both[0].long(), both[1]
