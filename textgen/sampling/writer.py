"""Prompts in, samples out: the tokenizer and the generator put together."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from textgen.config import SamplingConfig
from textgen.errors import UsageError, named
from textgen.models import Model
from textgen.results import FinishReason, Sample
from textgen.sampling.beams import Hypothesis, search
from textgen.sampling.generator import Request, generate
from textgen.sampling.writing import Rules, Writing
from textgen.tokenizers.base import UNK, Decoder, Tokenizer

OnText = Callable[[int, str, str], None]
Accept = Callable[[Sample], bool]

_TOGETHER = 64


@dataclass(frozen=True)
class _Prompt:
    """A prompt as the model reads it."""

    text: str
    ids: tuple[int, ...]
    decoder: Decoder = field(repr=False)
    unknown: tuple[str, ...] = ()


class _Requests:
    """The samples to be written, and those that are to be written again.

    begun: the prompt and the text so far of those that are being written, by their index.
    """

    def __init__(self, numbered: Iterator[tuple[int, _Prompt]], rules: Rules) -> None:
        self.begun: dict[int, tuple[_Prompt, Writing]] = {}
        self._numbered, self._rules = numbered, rules
        self._again: deque[tuple[int, _Prompt]] = deque()
        self._attempts: dict[int, int] = {}

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Request:
        index, prompt = self._again.popleft() if self._again else next(self._numbered)
        writing = Writing(self._rules, prompt.decoder, prompt.text)
        self.begun[index] = prompt, writing
        return Request(index, prompt.ids, writing, self._attempts.get(index, 0))

    def done(self, index: int) -> None:
        del self.begun[index]
        self._attempts.pop(index, None)

    def again(self, index: int) -> None:
        self._attempts[index] = self._attempts.get(index, 0) + 1
        self._again.append((index, self.begun[index][0]))


class Writer:
    """Writes samples as a configuration says."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._rules = Rules(config, tokenizer.vocabulary_size)

    def write(
        self,
        prompts: Iterable[str],
        on_text: OnText | None = None,
        accept: Accept | None = None,
    ) -> Iterator[Sample]:
        """The samples of each prompt, each as soon as it is finished.

        Side by side, or one after another where ``on_text`` is to see their text as it comes.
        accept: what it refuses is drawn again.
        """
        if self._config.beams is not None:
            if accept is not None:
                raise UsageError(
                    "what beam search finds cannot be drawn again", fix="leave out --beams"
                )
            return self._search(prompts)
        return self._draw(prompts, on_text, accept)

    def _draw(
        self, prompts: Iterable[str], on_text: OnText | None, accept: Accept | None
    ) -> Iterator[Sample]:
        requests = _Requests(self._numbered(prompts), self._rules)
        together = _TOGETHER if on_text is None else 1
        for drawn in generate(self._model, self._config, requests, together=together):
            prompt, writing = requests.begun[drawn.index]
            piece = writing.settle(drawn.log_prob, drawn.finished)
            if on_text is not None and piece:
                on_text(drawn.index, prompt.text, piece)
            if drawn.finished is None:
                continue
            sample = self._sample(drawn.index, prompt, writing, drawn.finished)
            if accept is None or accept(sample):
                requests.done(drawn.index)
                yield sample
            else:
                requests.again(drawn.index)

    def _numbered(self, prompts: Iterable[str]) -> Iterator[tuple[int, _Prompt]]:
        """Each sample's index and prompt."""
        indices = itertools.count()
        for text in prompts:
            prompt = self._read(text)
            for _ in range(self._config.count):
                yield next(indices), prompt

    def _search(self, prompts: Iterable[str]) -> Iterator[Sample]:
        count = self._config.count
        for number, text in enumerate(prompts):
            prompt = self._read(text)
            start = Writing(self._rules, prompt.decoder, prompt.text)
            best = search(self._model, self._config, prompt.ids, start)[:count]
            for rank, found in enumerate(best):
                assert found.finished is not None
                writing = _rewritten(start, found)
                yield self._sample(number * count + rank, prompt, writing, found.finished)

    def _read(self, text: str) -> _Prompt:
        """The prompt for the model. Raises UsageError where what is unknown is to be an error."""
        start = self._tokenizer.continuation(text)
        ids = tuple(start.ids.tolist())
        if UNK not in ids:
            return _Prompt(text, ids, start.decoder)
        unknown = self._tokenizer.unknown_in(text)
        if self._config.on_unknown == "error":
            raise UsageError(
                f"the model does not know {named(unknown)}",
                where="in the prompt",
                fix="change it, or use --on-unknown unk or skip",
            )
        if self._config.on_unknown == "skip":
            ids = tuple(id for id in ids if id != UNK)
            if not ids:
                raise UsageError(
                    f"the model knows nothing of the prompt {text[:40]!r}",
                    fix="change it, or use --on-unknown unk",
                )
        return _Prompt(text, ids, start.decoder, unknown)

    def _sample(
        self, index: int, prompt: _Prompt, writing: Writing, finished: FinishReason
    ) -> Sample:
        return Sample(
            index=index,
            text=writing.text,
            prompt=prompt.text,
            log_prob=writing.log_prob,
            tokens=writing.tokens,
            finish_reason=finished,
            seed=self._config.seed,
            stop=writing.stop,
            prompt_unknown=prompt.unknown,
        )


def _rewritten(start: Writing, found: Hypothesis) -> Writing:
    """The text of a hypothesis."""
    writing = start.copy()
    last = len(found.ids) - 1
    for place, (id, log_prob) in enumerate(zip(found.ids, found.log_probs, strict=True)):
        finished = found.finished if place == last else None
        if finished != "eos":  # which is no part of the text
            writing.take(id)
        writing.settle(log_prob, finished)
    return writing
