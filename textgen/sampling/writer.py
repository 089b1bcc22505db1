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
from textgen.sampling.constraints import Draft, Required
from textgen.sampling.generator import Request, Uniforms, generate
from textgen.sampling.text import Rules, Writing
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


@dataclass
class _Begun:
    """A sample that is being written. draft: kept where strings are required."""

    prompt: _Prompt
    writing: Writing
    draft: Draft = field(default_factory=Draft)
    attempt: int = 0
    part: int = 0


class _Requests:
    """The samples to be written, and those that are to be written again, in whole or in part.

    begun: those that are being written, by their index.
    """

    def __init__(self, numbered: Iterator[tuple[int, _Prompt]], rules: Rules) -> None:
        self.begun: dict[int, _Begun] = {}
        self._numbered, self._rules = numbered, rules
        self._again: deque[int] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Request:
        if self._again:
            index = self._again.popleft()
        else:
            index, prompt = next(self._numbered)
            self.begun[index] = _Begun(prompt, self.writing(prompt))
        begun = self.begun[index]
        kept = tuple(begun.draft.ids)
        return Request(index, begun.prompt.ids, begun.writing, kept, begun.attempt, begun.part)

    def again(self, index: int) -> None:
        """Draw a sample otherwise."""
        begun = self.begun[index]
        writing = self.writing(begun.prompt)
        self.begun[index] = _Begun(begun.prompt, writing, attempt=begun.attempt + 1)
        self._again.append(index)

    def go_on(self, index: int, draft: Draft, writing: Writing) -> None:
        """Write a sample on from what is kept of it."""
        begun = self.begun[index]
        begun.draft, begun.writing, begun.part = draft, writing, begun.part + 1
        self._again.append(index)

    def writing(self, prompt: _Prompt) -> Writing:
        return Writing(self._rules, prompt.decoder, prompt.text)


def check_is_causal(model: Model) -> None:
    """Refuse a model that does not tell what comes next."""
    if not model.is_causal:
        raise UsageError(
            f"a {model.config.model} model cannot write from left to right",
            why="it needs what comes after, too",
            fix='fill blanks with it: textgen predict CHECKPOINT "The ____ sat on the mat"',
        )


class Writer:
    """Writes samples as a configuration says. Raises UsageError for a model that cannot write."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        check_is_causal(model)
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._rules = Rules(config, tokenizer.vocabulary_size)
        self._required = Required(model, tokenizer, config)

    def write(
        self,
        prompts: Iterable[str],
        on_text: OnText | None = None,
        accept: Accept | None = None,
    ) -> Iterator[Sample]:
        """The samples of each prompt, each as soon as it is finished.

        Side by side, or one after another where ``on_text`` is to see their text as it comes.
        accept: what it refuses is drawn again. Where strings are required a text is only known
        when it is finished: ``on_text`` then hears nothing.
        """
        if self._config.beams is not None:
            if accept is not None:
                raise UsageError(
                    "what beam search finds cannot be drawn again", fix="leave out --beams"
                )
            return self._search(prompts)
        return self._draw(prompts, None if self._required else on_text, accept)

    def _draw(
        self, prompts: Iterable[str], on_text: OnText | None, accept: Accept | None
    ) -> Iterator[Sample]:
        requests = _Requests(self._numbered(prompts), self._rules)
        together = _TOGETHER if on_text is None else 1
        for drawn in generate(self._model, self._config, requests, together=together):
            begun = requests.begun[drawn.index]
            if self._required:
                begun.draft.ids.append(drawn.id)
                begun.draft.log_probs.append(drawn.log_prob)
            piece = begun.writing.settle(drawn.log_prob, drawn.finished)
            if on_text is not None and piece:
                on_text(drawn.index, begun.prompt.text, piece)
            if drawn.finished is None:
                continue
            sample = self._sample(drawn.index, begun.prompt, begun.writing, drawn.finished)
            if self._required.lacking(sample.text):
                self._put_in(requests, sample)
            elif accept is None or accept(sample):
                del requests.begun[drawn.index]
                yield sample
            else:
                requests.again(drawn.index)

    def _put_in(self, requests: _Requests, sample: Sample) -> None:
        """Put a required string that a sample lacks into it, to be written on from there."""
        begun = requests.begun[sample.index]
        draft, writing = self._required.put_in(
            sample,
            begun.draft,
            begun.prompt.ids,
            Uniforms(self._config.seed, sample.index, begun.attempt, begun.part, placing=True),
            lambda: requests.writing(begun.prompt),
        )
        requests.go_on(sample.index, draft, writing)

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
    writing.replay(found.ids[:-1], found.log_probs[:-1])
    if found.finished != "eos":  # which is no part of the text
        writing.take(found.ids[-1])
    writing.settle(found.log_probs[-1], found.finished)
    return writing
