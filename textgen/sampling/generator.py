"""Sampling of ids, one stream or many in parallel, with keyed randomness; knows nothing of text.

Every draw is keyed by (seed, index of the sample, step), so nothing else influences it.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.inference import native
from textgen.inference.native import Network, Numbers
from textgen.models import Model, State
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.stream import Barrier, Guide, Stream
from textgen.tokenizers.base import EOS

_DRAWS_AHEAD = 256


class Uniforms:
    """Uniform draws in [0, 1), keyed by (seed, index, attempt, part), whatever else is drawn.

    attempt: which drawing of a sample, where it is drawn again. part: which part of it, where it
    is written in several. placing: for where a required string is put, and not for tokens.
    """

    def __init__(
        self, seed: int, index: int, attempt: int = 0, part: int = 0, *, placing: bool = False
    ) -> None:
        philox = np.random.Philox(key=[seed, index], counter=[0, int(placing), attempt, part])
        self._random = np.random.Generator(philox)
        self._hold(np.empty(0))

    def ahead(self, count: int) -> Numbers:
        """The next draws (count,), which stay the next until they are used."""
        if self._used + count > len(self._block):
            more = self._random.random(max(count, _DRAWS_AHEAD))
            self._hold(np.concatenate([self._block[self._used :], more]))
        return self._block[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Be done with so many of the next."""
        self._used += count

    def next(self) -> float:
        if self._used == len(self._block):
            self.ahead(1)
        draw = self._numbers[self._used]
        self._used += 1
        return draw

    def _hold(self, block: Numbers) -> None:
        self._block, self._used = block, 0
        self._numbers: list[float] = block.tolist()  # which are taken faster one by one


NOTHING = -1
"""The id of a token that could not be drawn, as nothing was left to draw from."""

_PROMPTS_KEPT = 64
_MOST_AHEAD, _SECONDS_AHEAD = 64, 0.002


@dataclass(slots=True)
class Drawn:
    """One token of one sample. log_prob: natural, the raw model's. finished: why it ended here."""

    index: int
    id: int
    log_prob: float
    finished: FinishReason | None


@dataclass(frozen=True)
class Request:
    """A sample to be written.

    prompt: the ids that it goes on from. kept: what of it is written already, and has been told
    to the guide. attempt: which of its drawings, where it is drawn again. part: which part of it.
    """

    index: int
    prompt: tuple[int, ...]
    guide: Guide
    kept: tuple[int, ...] = ()
    attempt: int = 0
    part: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """What writes one row of a batch."""

    request: Request
    stream: Stream
    uniforms: Uniforms

    def take(self, id: int, log_prob: float) -> Drawn:
        if id == NOTHING:
            return Drawn(self.request.index, NOTHING, 0.0, "blocked")
        return Drawn(self.request.index, id, log_prob, self.stream.take(id))


def generate(
    model: Model, config: SamplingConfig, requests: Iterable[Request], *, together: int = 64
) -> Iterator[Drawn]:
    """Write samples side by side, each in the place of one that ended; tokens come step by step.

    Each starts from the start state, having read ``<EOS>`` and its prompt. What it becomes
    depends on (seed, index) alone, not on which others are written beside it.
    """
    waiting = iter(requests)
    with torch.inference_mode():
        batch = _Batch(model, config)
        batch.begin(list(islice(waiting, together)))
    while batch.rows:
        with torch.inference_mode():
            drawn = batch.draw()
        yield from drawn
        following = list(islice(waiting, len(batch.ended))) if batch.ended else []
        with torch.inference_mode():
            batch.step(following)


class _Batch:
    """Streams side by side: a row of logits and of the state for each.

    ended: the rows whose samples ended with what was drawn last.
    """

    def __init__(self, model: Model, config: SamplingConfig) -> None:
        self._model, self._config, self._device = model, config, model.device
        self._stepper = model.stepper(fast=config.fast)
        self._prompts: dict[tuple[int, ...], tuple[Tensor, State]] = {}
        self._barrier, self._filters = Barrier(), decoding.filters(config)
        self._only_tempers = decoding.only_tempers(config)
        self._looks_ahead = self._only_tempers and config.no_repeat_ngram is None
        self._ahead = 1
        self.rows: list[_Row] = []
        self.ended: list[int] = []

    def begin(self, requests: Sequence[Request]) -> None:
        if requests:
            size, device = self._model.config.vocabulary_size, self._device
            self.rows = [self._row(request) for request in requests]
            self._logits = torch.zeros(len(requests), size, dtype=self._model.dtype, device=device)
            self._stepper.state = self._model.start(len(requests))
            self._place(range(len(requests)))

    def draw(self) -> Iterator[Drawn]:
        """One token for every row, or several for the only one; each guide is told as they come.

        All of them are to be taken before the next step.
        """
        if len(self.rows) == 1 and self._looks_ahead and (network := self._stepper.network):
            return self._draw_ahead(network)
        uniforms = np.array([row.uniforms.next() for row in self.rows])
        self._ids, log_probs = self._drawn(uniforms)
        pairs = zip(self._ids.tolist(), log_probs.tolist(), strict=True)
        drawn = [row.take(*pair) for row, pair in zip(self.rows, pairs, strict=True)]
        self.ended = [place for place, each in enumerate(drawn) if each.finished is not None]
        self._ids.clamp_(min=0)  # the model reads on, whatever its row has come to
        return iter(drawn)

    def _draw_ahead(self, network: Network) -> Iterator[Drawn]:
        """Tokens for the only row, as many as come before what may come next changes.

        They are drawn as if it did not, more each time that this was so, and as long as nobody
        who watches has to wait.
        """
        (row,) = self.rows
        count = min(self._ahead, self._config.length - row.stream.tokens)
        before, begun = self._stepper.state, time.perf_counter()
        network.logits.copy_(self._logits)
        ids, log_probs = network.write(
            self._barrier.before([row.stream], self._device),
            np.array(row.stream.temperatures(count), np.float64),
            row.uniforms.ahead(count),
        )
        if time.perf_counter() - begun < _SECONDS_AHEAD:
            self._ahead = min(2 * count, _MOST_AHEAD)
        return self._take_ahead(row, network, before, ids, log_probs)

    def _take_ahead(
        self, row: _Row, network: Network, before: State, ids: list[int], log_probs: list[float]
    ) -> Iterator[Drawn]:
        """Those tokens that stand; where some do not, the state is as if they had not been."""
        allowed = row.stream.guide.allowed()
        taken = 0
        self.ended = []
        while taken < len(ids) and not self.ended:
            if taken and row.stream.guide.allowed() is not allowed:
                with torch.inference_mode():
                    self._stepper.state = before
                    network.read(torch.tensor(ids[: taken - 1], dtype=torch.long).view(-1, 1))
                self._ahead = taken
                break
            drawn = row.take(ids[taken], log_probs[taken])
            taken += 1
            if drawn.finished is not None:
                self.ended = [0]
            yield drawn
        row.uniforms.use(taken)
        self._ids = torch.tensor([max(0, ids[taken - 1])])

    def _drawn(self, uniforms: Numbers) -> tuple[Tensor, Tensor]:
        """Ids (batch,), NOTHING where nothing is left; and their ln p (batch,) in the raw model."""
        streams = [row.stream for row in self.rows]
        barrier = self._barrier.before(streams, self._device)
        temperatures = np.empty(len(streams))
        if len(self._config.temperature) == 1:
            temperatures[:] = self._config.temperature
        else:
            temperatures[:] = [stream.temperatures(1)[0] for stream in streams]
        library = native.library(self._device, self._logits.dtype) if self._only_tempers else None
        if library is not None:
            return native.draw(library, self._logits, barrier, temperatures, uniforms)
        logits = decoding.in_float64(self._logits)
        nothing = (barrier == -torch.inf).all(-1)
        open_barrier = barrier.masked_fill(nothing.unsqueeze(-1), 0.0)
        shares = decoding.distribution(self._decided(logits, open_barrier, temperatures))
        ids = decoding.draw(shares, torch.from_numpy(uniforms).to(shares.device))
        log_probs = logits.log_softmax(-1).gather(-1, ids.unsqueeze(1)).squeeze(1)
        return ids.masked_fill_(nothing, NOTHING), log_probs

    def step(self, requests: Sequence[Request]) -> None:
        """Go on with the token that was drawn; the rows that ended go to new requests."""
        ended = self.ended
        if not ended:
            self._logits = self._stepper.step(self._ids.to(self._device))
            return
        going = sorted(set(range(len(self.rows))) - set(ended[len(requests) :]))
        replaced = [going.index(row) for row in ended[: len(requests)]]
        if len(going) < len(self.rows):
            self.rows = [self.rows[row] for row in going]
            rows = torch.tensor(going, dtype=torch.long, device=self._device)
            self._ids = self._ids[rows.to(self._ids.device)]
            if going:
                self._stepper.state = self._stepper.state.select(rows)
        if len(replaced) < len(self.rows):
            self._logits = self._stepper.step(self._ids.to(self._device))
        else:
            self._logits = self._logits[: len(replaced)]
        for row, request in zip(replaced, requests, strict=True):
            self.rows[row] = self._row(request)
        self._place(replaced)

    def _row(self, request: Request) -> _Row:
        size = self._model.config.vocabulary_size
        stream = Stream.begin(self._config, request.prompt, size, request.guide, request.kept)
        uniforms = Uniforms(self._config.seed, request.index, request.attempt, request.part)
        return _Row(request, stream, uniforms)

    def _place(self, rows: Sequence[int]) -> None:
        """Let rows begin where their streams' prompts end."""
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            request = self.rows[row].request
            by_prompt.setdefault(request.prompt + request.kept, []).append(row)
        if not by_prompt:
            return
        state = self._stepper.state
        for prompt, its_rows in by_prompt.items():
            logits, after = self._after(prompt)
            places = torch.tensor(its_rows, device=self._device)
            copies = torch.zeros_like(places)
            self._logits = self._logits.index_copy(0, places, logits[copies])
            state = state.replace(places, after.select(copies))
        self._stepper.state = state

    def _after(self, prompt: tuple[int, ...]) -> tuple[Tensor, State]:
        """Logits (1, vocabulary) and state after ``<EOS>`` and a prompt."""
        if prompt not in self._prompts:
            if len(self._prompts) >= _PROMPTS_KEPT:
                self._prompts.clear()
            self._prompts[prompt] = self._model.after([EOS, *prompt])
        return self._prompts[prompt]

    def _decided(self, logits: Tensor, barrier: Tensor, temperatures: Numbers) -> Tensor:
        """The logits (batch, vocabulary) after every rule."""
        config = self._config
        if (penalty := config.repetition_penalty) is not None:
            logits = decoding.penalize_repetition(
                logits, self._of_histories("seen", logits.device), penalty
            )
        if (penalty := config.frequency_penalty) is not None:
            logits = decoding.penalize_frequency(
                logits, self._of_histories("counts", logits.device), penalty
            )
        logits = decoding.temper_rows(logits + barrier, temperatures.tolist())
        return self._filters(logits)

    def _of_histories(self, name: str, device: torch.device) -> Tensor:
        rows = np.stack([getattr(row.stream.history, name) for row in self.rows])
        return torch.from_numpy(rows).to(device)
