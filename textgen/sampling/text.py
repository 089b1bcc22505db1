"""Prompts in, samples out: the tokenizer, the generator of ids, and the constraints on text."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice

from textgen.config import SamplingConfig
from textgen.errors import UsageError, quoted
from textgen.models import Model
from textgen.results import FinishReason, Sample
from textgen.sampling.beam_search import search
from textgen.sampling.constraints import ConstrainedText, TextRules
from textgen.sampling.generator import Request, Uniforms, generate
from textgen.sampling.required import RequiredStrings, TokenDraft
from textgen.sampling.sequence import TokenSequence
from textgen.tokenizers.base import UNK, Decoder, Tokenizer

OnText = Callable[[int, str, str], None]
"""Called with the index of a sample, its prompt, and the next piece of its text."""

Accept = Callable[[Sample], bool]
"""Whether a sample is accepted; otherwise it is drawn again."""

_TOGETHER = 64


@dataclass(frozen=True)
class _Prompt:
    """A prompt as the model reads it. unknown: its unknown words or characters."""

    text: str
    ids: tuple[int, ...]
    decoder: Decoder
    unknown: tuple[str, ...] = ()


@dataclass
class _Draft:
    """An unfinished sample.

    Attributes:
        written: Its text so far.
        tokens: Its tokens so far, recorded if strings are required.
        attempt: How often it has been rejected.
        part: How often a required string has been inserted.
    """

    index: int
    prompt: _Prompt
    text: ConstrainedText
    attempt: int = 0
    part: int = 0
    written: StringIO = field(default_factory=StringIO)
    tokens: TokenDraft = field(default_factory=TokenDraft)


def check_is_causal(model: Model) -> None:
    """Raise UsageError for a model that does not predict the next token."""
    if not model.is_causal:
        raise UsageError(
            f"a {model.config.model} model cannot generate text",
            why="it predicts each token from those on both sides",
            fix='fill blanks with it: textgen predict CHECKPOINT "The ____ sat on the mat"',
        )


class TextGenerator:
    """Generates samples according to a configuration. Raises UsageError for a non-causal model."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        check_is_causal(model)
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._rules = TextRules(config, tokenizer.vocabulary_size)
        self._required = RequiredStrings(model, tokenizer, config)

    def generate(
        self,
        prompts: Iterable[str],
        on_text: OnText | None = None,
        accept: Accept | None = None,
    ) -> Iterator[Sample]:
        """The samples of each prompt, each as soon as it is finished.

        Many samples are generated side by side; one after another with ``on_text``.

        Args:
            on_text: Never called if strings are required, because the text may then change until
                it is finished.
            accept: Samples that it rejects are drawn again.
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
        new = self._drafts(prompts)
        again: deque[_Draft] = deque()  # rejected, or to be continued after an inserted string
        drafts: dict[int, _Draft] = {}

        def next_requests(count: int) -> list[Request]:
            some = [again.popleft() for _ in range(min(count, len(again)))]
            some += islice(new, count - len(some))
            drafts.update((draft.index, draft) for draft in some)
            return [self._request(draft) for draft in some]

        together = _TOGETHER if on_text is None else 1
        for drawn in generate(self._model, self._config, next_requests, together=together):
            draft = drafts[drawn.index]
            draft.written.write(drawn.text)
            if self._required:
                draft.tokens.ids.append(drawn.id)
                draft.tokens.log_probs.append(drawn.log_prob)
            if on_text is not None and drawn.text:
                on_text(draft.index, draft.prompt.text, drawn.text)
            if drawn.finished is None:
                continue
            del drafts[drawn.index]
            written = draft.written.getvalue()
            sample = self._sample(draft.index, draft.prompt, draft.text, written, drawn.finished)
            if self._required.missing(written):
                again.append(self._with_string(draft, sample))
            elif accept is None or accept(sample):
                yield sample
            else:
                again.append(self._draft(draft.index, draft.prompt, draft.attempt + 1))

    def _drafts(self, prompts: Iterable[str]) -> Iterator[_Draft]:
        indices = itertools.count()
        for text in prompts:
            prompt = self._read(text)
            for _ in range(self._config.count):
                yield self._draft(next(indices), prompt)

    def _draft(self, index: int, prompt: _Prompt, attempt: int = 0, part: int = 0) -> _Draft:
        text = ConstrainedText(self._rules, prompt.decoder, prompt.text)
        return _Draft(index, prompt, text, attempt, part)

    def _request(self, draft: _Draft) -> Request:
        ids, kept = draft.prompt.ids, tuple(draft.tokens.ids)
        size = self._tokenizer.vocabulary_size
        sequence = TokenSequence.after(ids, self._config, draft.text, size, kept)
        uniforms = Uniforms(self._config.seed, draft.index, draft.attempt, draft.part)
        return Request(draft.index, ids + kept, sequence, uniforms)

    def _with_string(self, draft: _Draft, sample: Sample) -> _Draft:
        """The beginning of a sample up to a required string that is inserted now."""
        uniforms = Uniforms(self._config.seed, draft.index, draft.attempt, draft.part, placing=True)
        ids = draft.prompt.ids
        for tokens in self._required.insertions(sample, draft.tokens, ids, uniforms):
            new = self._draft(draft.index, draft.prompt, draft.attempt, draft.part + 1)
            written = new.text.replay(tokens.ids, tokens.log_probs)
            if written is not None:
                new.written.write(written)
                new.tokens = tokens
                return new
        raise AssertionError("insertions end with an error")

    def _search(self, prompts: Iterable[str]) -> Iterator[Sample]:
        count = self._config.count
        for number, text in enumerate(prompts):
            prompt = self._read(text)
            start = ConstrainedText(self._rules, prompt.decoder, prompt.text)
            best = search(self._model, self._config, prompt.ids, start)[:count]
            for rank, found in enumerate(best):
                constraint = found.sequence.constraint
                assert isinstance(constraint, ConstrainedText) and found.finished is not None
                index = number * count + rank
                yield self._sample(index, prompt, constraint, found.text, found.finished)

    def _read(self, text: str) -> _Prompt:
        """Encode a prompt; unknown characters or words are handled as configured."""
        start = self._tokenizer.continuation(text)
        ids = tuple(start.ids.tolist())
        if UNK not in ids:
            return _Prompt(text, ids, start.decoder)
        unknown = self._tokenizer.unknown_in(text)
        if self._config.on_unknown == "error":
            raise UsageError(
                f"the model does not know {quoted(unknown)}",
                where="in the prompt",
                fix="change it, or use --on-unknown unk or skip",
            )
        if self._config.on_unknown == "skip":
            ids = tuple(id for id in ids if id != UNK)
            if not ids:
                raise UsageError(
                    f"all of the prompt is unknown to the model: {text[:40]!r}",
                    fix="change it, or use --on-unknown unk",
                )
        return _Prompt(text, ids, start.decoder, unknown)

    def _sample(
        self,
        index: int,
        prompt: _Prompt,
        text: ConstrainedText,
        written: str,
        finished: FinishReason,
    ) -> Sample:
        return Sample(
            index=index,
            text=written,
            prompt=prompt.text,
            log_prob=text.log_prob,
            tokens=text.tokens,
            finish_reason=finished,
            seed=self._config.seed,
            stop=text.stop,
            prompt_unknown=prompt.unknown,
        )
