"""Ids out, one stream or many side by side; knows nothing of text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.models import Model, State
from textgen.results import FinishReason
from textgen.sampling import decoding
from textgen.sampling.stream import Barrier, Guide, Stream
from textgen.sampling.uniforms import Uniforms
from textgen.tokenizers.base import EOS

NOTHING = -1
"""The id of a token that could not be drawn, as nothing was left to draw from."""

_PROMPTS_KEPT = 64


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


@dataclass(frozen=True)
class _Row:
    """What writes one row of a batch."""

    request: Request
    stream: Stream
    uniforms: Uniforms


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
            tokens = batch.draw()
        yield from tokens
        ended = [row for row, drawn in enumerate(tokens) if drawn.finished is not None]
        following = list(islice(waiting, len(ended))) if ended else []
        with torch.inference_mode():
            batch.step(ended, following)


class _Batch:
    """Streams side by side: a row of logits and of the state for each."""

    def __init__(self, model: Model, config: SamplingConfig) -> None:
        self._model, self._config, self._device = model, config, model.device
        self._stepper = model.stepper()
        self._prompts: dict[tuple[int, ...], tuple[Tensor, State]] = {}
        self._barrier, self._filters = Barrier(), decoding.filters(config)
        self.rows: list[_Row] = []

    def begin(self, requests: Sequence[Request]) -> None:
        if requests:
            size, device = self._model.config.vocabulary_size, self._device
            self.rows = [self._row(request) for request in requests]
            self._uniforms = np.empty(len(requests))
            self._logits = torch.zeros(len(requests), size, dtype=self._model.dtype, device=device)
            self._stepper.state = self._model.start(len(requests))
            self._place(range(len(requests)))

    def draw(self) -> list[Drawn]:
        """One token for every row."""
        logits = decoding.in_float64(self._logits)
        decided, blocked = self._decided(logits)
        shares = decoding.distribution(decided)
        for place, row in enumerate(self.rows):
            self._uniforms[place] = row.uniforms.next()
        uniforms = torch.from_numpy(self._uniforms[: len(self.rows)])
        self._ids = decoding.draw(shares, uniforms.to(shares.device))
        log_probs = logits.log_softmax(-1).gather(-1, self._ids.unsqueeze(1)).squeeze(1)
        drawn = []
        pairs = zip(self._ids.tolist(), log_probs.tolist(), strict=True)
        for place, (id, log_prob) in enumerate(pairs):
            row = self.rows[place]
            index = row.request.index
            if place in blocked:
                drawn.append(Drawn(index, NOTHING, 0.0, "blocked"))
            else:
                drawn.append(Drawn(index, id, log_prob, row.stream.take(id)))
        return drawn

    def step(self, ended: Sequence[int], requests: Sequence[Request]) -> None:
        """Go on with the token that was drawn; the rows that ended go to new requests."""
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

    def _decided(self, logits: Tensor) -> tuple[Tensor, frozenset[int]]:
        """The logits (batch, vocabulary) after every rule, and which rows have nothing left."""
        config, streams = self._config, [row.stream for row in self.rows]
        if (penalty := config.repetition_penalty) is not None:
            logits = decoding.penalize_repetition(
                logits, self._of_histories("seen", logits.device), penalty
            )
        if (penalty := config.frequency_penalty) is not None:
            logits = decoding.penalize_frequency(
                logits, self._of_histories("counts", logits.device), penalty
            )
        logits = logits + self._barrier.before(streams, logits.device)
        blocked: frozenset[int] = frozenset()
        if config.ban or config.no_repeat_ngram is not None:
            nothing = (logits == -torch.inf).all(-1, keepdim=True)
            logits = logits.masked_fill(nothing, 0.0)
            blocked = frozenset(nothing.squeeze(1).nonzero().flatten().tolist())
        temperatures = [stream.temperature for stream in streams]
        return self._filters(decoding.temper_rows(logits, temperatures)), blocked

    def _of_histories(self, name: str, device: torch.device) -> Tensor:
        rows = np.stack([getattr(row.stream.history, name) for row in self.rows])
        return torch.from_numpy(rows).to(device)
