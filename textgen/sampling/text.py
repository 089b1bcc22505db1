"""Prompts in, samples out: the tokenizer, the generator of ids, and the constraints on text."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from textgen.sampling.repetitions import Breakers
from textgen.sampling.required import RequiredStrings, TokenDraft
from textgen.sampling.sequence import NOTHING, TokenSequence
from textgen.tokenizers.base import EOS, UNK, Tokenizer

OnText = Callable[[int, str, str], None]
"""Called with the index of a sample, its prompt, and the next piece of its text."""

Accept = Callable[[Sample], bool]
"""Whether a sample is accepted; otherwise it is drawn again."""

_TOGETHER = 64


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it. start: The text after it. unknown: What it does not know."""

    text: str
    ids: tuple[int, ...]
    start: ConstrainedText
    unknown: tuple[str, ...] = ()


@dataclass
class _Draft:
    """An unfinished sample; attempt and part as of ``Uniforms``.

    tokens: Those so far.
    """

    index: int
    prompt: Prompt
    attempt: int = 0
    part: int = 0
    text: ConstrainedText = field(init=False)
    written: StringIO = field(default_factory=StringIO)
    tokens: TokenDraft = field(default_factory=TokenDraft)

    def __post_init__(self) -> None:
        self.text = self.prompt.start.copy()


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
        self._breakers: Breakers | None = None
        if config.dry_multiplier is not None:
            spellings = tokenizer.decoder().next_bytes()
            self._breakers = Breakers(config.dry_sequence_breaker, spellings)
        last = max((id for id, _ in config.logit_bias), default=0)
        if last >= tokenizer.vocabulary_size:
            raise UsageError(
                f"--logit-bias names the id {last}",
                why=f"the ids of the model go from 0 to {tokenizer.vocabulary_size - 1}",
            )

    def generate(
        self,
        prompts: Iterable[str],
        on_text: OnText | None = None,
        accept: Accept | None = None,
    ) -> Iterator[Sample]:
        """The samples of each prompt as they are finished, side by side or, with on_text, in turn.

        ``on_text`` is never called if strings are required: the text may then still change.
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
        drawing = generate(self._model, next_requests, fast=self._config.fast, together=together)
        for drawn in drawing:
            draft = drafts[drawn.index]
            draft.written.write(drawn.text)
            draft.tokens.ids.append(drawn.id)
            draft.tokens.log_probs.append(drawn.log_prob)
            if on_text is not None and drawn.text:
                on_text(draft.index, draft.prompt.text, drawn.text)
            if drawn.finished is None:
                continue
            del drafts[drawn.index]
            sample = self._sample(draft, drawn.finished)
            if self._required.missing(sample.text):
                again.append(self._with_string(draft, sample))
            elif accept is None or accept(sample):
                yield sample
            else:
                again.append(_Draft(draft.index, draft.prompt, draft.attempt + 1))

    def _drafts(self, prompts: Iterable[str]) -> Iterator[_Draft]:
        indices = itertools.count()
        for text in prompts:
            prompt = self.read(text)
            for _ in range(self._config.count):
                yield _Draft(next(indices), prompt)

    def request(self, prompt: Prompt, index: int) -> Request:
        """The request for the sample of this index, as ``generate`` makes it."""
        return self._request(_Draft(index, prompt))

    def _request(self, draft: _Draft) -> Request:
        ids, kept = draft.prompt.ids, tuple(draft.tokens.ids)
        size = self._tokenizer.vocabulary_size
        sequence = TokenSequence(ids, self._config, draft.text, size, kept, self._breakers)
        key = (self._config.seed, draft.index, draft.attempt, draft.part)
        uniforms, chances = Uniforms(*key), Uniforms(*key, "chances")
        return Request(draft.index, ids + kept, sequence, uniforms, chances)

    def _with_string(self, draft: _Draft, sample: Sample) -> _Draft:
        """The beginning of a sample up to a required string that is inserted now."""
        uniforms = Uniforms(self._config.seed, draft.index, draft.attempt, draft.part, "places")
        ids = draft.prompt.ids
        for tokens in self._required.insertions(sample, draft.tokens, ids, uniforms):
            new = _Draft(draft.index, draft.prompt, draft.attempt, draft.part + 1)
            written = new.text.replay(tokens.ids, tokens.log_probs)
            if written is not None:
                new.written.write(written)
                new.tokens = tokens
                return new
        raise AssertionError("insertions end with an error")

    def _search(self, prompts: Iterable[str]) -> Iterator[Sample]:
        count = self._config.count
        for number, text in enumerate(prompts):
            prompt = self.read(text)
            best = search(self._model, self._config, prompt.ids, prompt.start)[:count]
            for rank, found in enumerate(best):
                draft = _Draft(number * count + rank, prompt)
                assert isinstance(found.sequence.constraint, ConstrainedText) and found.finished
                draft.text = found.sequence.constraint
                draft.written.write(found.text)
                draft.tokens.ids.extend(found.ids)
                yield self._sample(draft, found.finished)

    def read_ids(self, ids: Sequence[int]) -> Prompt:
        """A prompt that is encoded already; an ``<EOS>`` in front stands for the start."""
        ids = tuple(ids[1:] if ids and ids[0] == EOS else ids)
        decoder = self._tokenizer.decoder()
        text = "".join(map(decoder.feed, ids))
        return Prompt(text, ids, ConstrainedText(self._rules, decoder, text))

    def read(self, text: str) -> Prompt:
        """Encode a prompt; unknown characters or words are handled as configured."""
        continuation = self._tokenizer.continuation(text)
        ids = tuple(continuation.ids.tolist())
        start = ConstrainedText(self._rules, continuation.decoder, text)
        if UNK not in ids:
            return Prompt(text, ids, start)
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
        return Prompt(text, ids, start, unknown)

    def _sample(self, draft: _Draft, finished: FinishReason) -> Sample:
        return Sample(
            index=draft.index,
            text=draft.written.getvalue(),
            prompt=draft.prompt.text,
            log_prob=draft.text.log_prob,
            tokens=draft.text.tokens,
            finish_reason=finished,
            seed=self._config.seed,
            stop=draft.text.stop,
            prompt_unknown=draft.prompt.unknown,
            ids=tuple(id for id in draft.tokens.ids if id != NOTHING),
        )
