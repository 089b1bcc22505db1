"""Prompts in, samples out: the tokenizer and the generator put together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from textgen.config import SamplingConfig
from textgen.errors import UsageError, named
from textgen.models import Model
from textgen.results import FinishReason, Sample
from textgen.sampling.beams import Hypothesis, search
from textgen.sampling.generator import Request, generate
from textgen.sampling.writing import Rules, Writing
from textgen.tokenizers.base import UNK, Decoder, Tokenizer

OnText = Callable[[int, str, str], None]

_TOGETHER = 64


@dataclass(frozen=True)
class _Prompt:
    """A prompt as the model reads it."""

    text: str
    ids: tuple[int, ...]
    decoder: Decoder = field(repr=False)
    unknown: tuple[str, ...] = ()


class Writer:
    """Writes samples as a configuration says."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._rules = Rules(config, tokenizer.vocabulary_size)

    def write(self, prompts: Iterable[str], on_text: OnText | None) -> Iterator[Sample]:
        """The samples of each prompt, each as soon as it is finished.

        Side by side, or one after another where ``on_text`` is to see their text as it comes.
        """
        if self._config.beams is not None:
            return self._search(prompts)
        return self._draw(prompts, on_text)

    def _draw(self, prompts: Iterable[str], on_text: OnText | None) -> Iterator[Sample]:
        begun: dict[int, tuple[_Prompt, Writing]] = {}
        together = _TOGETHER if on_text is None else 1
        requests = self._requests(prompts, begun)
        for drawn in generate(self._model, self._config, requests, together=together):
            prompt, writing = begun[drawn.index]
            piece = writing.settle(drawn.log_prob, drawn.finished)
            if on_text is not None and piece:
                on_text(drawn.index, prompt.text, piece)
            if drawn.finished is not None:
                del begun[drawn.index]
                yield self._sample(drawn.index, prompt, writing, drawn.finished)

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

    def _requests(
        self, prompts: Iterable[str], begun: dict[int, tuple[_Prompt, Writing]]
    ) -> Iterator[Request]:
        index = 0
        for text in prompts:
            prompt = self._read(text)
            for _ in range(self._config.count):
                writing = Writing(self._rules, prompt.decoder, prompt.text)
                begun[index] = prompt, writing
                yield Request(index, prompt.ids, writing)
                index += 1

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
