"""Completions of a model: prompts read and scored, tokens put into the words of the protocol."""

import dataclasses
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from textgen.errors import TextgenError, not_finite
from textgen.inference.likelihood import Alternatives, TokenStatistics
from textgen.language_model import LanguageModel
from textgen.results import FinishReason
from textgen.sampling.generator import Drawn
from textgen.sampling.text import Prompt, TextGenerator
from textgen.scoring.scorer import SentenceReader
from textgen.server.config import ServerConfig
from textgen.server.protocol import CompletionRequest, LogProbs, ProtocolError
from textgen.server.worker import Notify, Row
from textgen.tokenizers.base import EOS, UNK, Decoder, Ids, Tokenizer

_TOKENS_AT_ONCE = 2**13  # scored while others wait
_LEAST = -9999.0  # for -inf, which is not JSON, as in the protocol
_FINISH_REASONS: dict[FinishReason, str] = {
    "length": "length",
    "eos": "stop",
    "stop": "stop",
    "blocked": "content_filter",  # the rules excluded every token
}


class TokenNames:
    """The texts of tokens as they come, for the lists of log-probabilities."""

    def __init__(self, tokenizer: Tokenizer, decoder: Decoder, offset: int) -> None:
        self._decoder, self._offset = decoder.copy(), offset
        self._special = {UNK: "<UNK>", EOS: tokenizer.terminator or "<EOS>"}

    def of(self, id: int) -> str:
        """The text that a token would have here; of a part of a character its bytes."""
        if id in self._special:
            return self._special[id]
        spelling = self._decoder.next_bytes()[id]
        try:
            return spelling.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling)

    def alternatives(self, pairs: Sequence[tuple[int, float]]) -> dict[str, float]:
        """The ln p of ids by their text; of several with one text that of the most probable."""
        named: dict[str, float] = {}
        for id, log_prob in pairs:
            named.setdefault(self.of(id), max(log_prob, _LEAST))
        return named

    def append(self, id: int, characters: int | None = None) -> int:
        """Go on to the next token; the place of this one in the text.

        Args:
            characters: Its length, where it is not that of its text.
        """
        offset, text = self._offset, self._decoder.feed(id)
        self._offset += len(text) if characters is None else characters
        return offset


@dataclass
class Choice:
    """A text of a completion while it is written.

    Attributes:
        tokens: How many have come.
    """

    index: int
    row: Row | None
    names: TokenNames | None
    echoed: tuple[str, LogProbs | None] | None
    finish_reason: str | None = None
    tokens: int = 0

    def take(self) -> tuple[str, LogProbs | None]:
        """What is new: text and log-probabilities, those of the prompt first if it is echoed."""
        text, found = self.echoed or ("", None)
        self.echoed = None
        if self.row is None:
            return text, found
        pieces = [text]
        if found is None and self.names is not None:
            found = LogProbs([], [], [] if self.row.request.alternatives else None, [])
        for drawn in self.row.take():
            pieces.append(drawn.text)
            if drawn.finished is not None:
                self.finish_reason = _FINISH_REASONS[drawn.finished]
            if drawn.finished != "blocked":
                self.tokens += 1
                if found is not None and self.names is not None:
                    _append(found, self.names, drawn)
        return "".join(pieces), found


def _append(found: LogProbs, names: TokenNames, drawn: Drawn) -> None:
    found.tokens.append(names.of(drawn.id))
    found.token_logprobs.append(max(drawn.log_prob, _LEAST))
    if found.top_logprobs is not None:
        found.top_logprobs.append(names.alternatives(drawn.alternatives))
    found.text_offset.append(names.append(drawn.id))


@dataclass
class Completion:
    """A request that is being answered."""

    choices: list[Choice]
    prompt_tokens: int
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def rows(self) -> list[Row]:
        return [choice.row for choice in self.choices if choice.row is not None]

    @property
    def finished(self) -> bool:
        return all(choice.finish_reason is not None for choice in self.choices)

    @property
    def ready(self) -> bool:
        """Whether every text has ended, though its tokens may not have been taken."""
        return all(choice.row is None or choice.row.ended for choice in self.choices)

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)


class Completer:
    """Makes completions of requests, of which only the prompts have been read."""

    def __init__(self, model: LanguageModel, config: ServerConfig) -> None:
        self._model, self._tokenizer, self._config = model.model, model.tokenizer, config
        self._indices = itertools.count()

    def prompts(self, request: CompletionRequest) -> tuple[TextGenerator, list[Prompt]]:
        """The prompts as the model reads them.

        Raises:
            ProtocolError: One is too long, or a value is none for this model.
        """
        prompts = []
        try:
            generator = TextGenerator(self._model, self._tokenizer, request.config)
            for given in request.prompts:
                if isinstance(given, str):
                    prompts.append(generator.read(given))
                else:
                    prompts.append(generator.read_ids(given))
        except TextgenError as error:
            raise ProtocolError(str(error)) from None
        longest = max(len(prompt.ids) for prompt in prompts)
        if longest > self._config.max_prompt:
            raise ProtocolError(
                f"a prompt has {longest} tokens, more than {self._config.max_prompt}",
                param="prompt",
                code="context_length_exceeded",
            )
        return generator, prompts

    def scoring(
        self, request: CompletionRequest, prompts: Sequence[Prompt]
    ) -> Iterator[Callable[[], list[TokenStatistics]]]:
        """The work of scoring the prompts, in parts to be done where nothing else computes.

        The parts give, for each prompt, ln p of its tokens, and of the most probable in their
        places.
        """
        together: list[Ids] = []
        for given, prompt in zip(request.prompts, prompts, strict=True):
            together.append(self._scored_ids(given, prompt))
            if sum(map(len, together)) >= _TOKENS_AT_ONCE:
                yield partial(self._scores, together, request.logprobs or 0)
                together = []
        yield partial(self._scores, together, request.logprobs or 0)

    def _scores(self, texts: Sequence[Ids], count: int) -> list[TokenStatistics]:
        reader = SentenceReader(self._model, (Alternatives(count),) if count else ())
        found = iter(reader.read([ids for ids in texts if len(ids)]))
        scores = [next(found) if len(ids) else np.empty((0, 1 + 2 * count)) for ids in texts]
        if any(np.isnan(each).any() for each in scores):
            raise not_finite()
        return scores

    def begin(
        self,
        request: CompletionRequest,
        generator: TextGenerator,
        prompts: Sequence[Prompt],
        scores: Sequence[TokenStatistics] | None,
        notify: Notify,
    ) -> Completion:
        """The completion, whose rows are then to be submitted.

        Args:
            scores: Of the prompts, where their log-probabilities are asked for.
            notify: As of ``Row``.
        """
        choices = []
        for place, given in enumerate(request.prompts):
            prompt, score = prompts[place], None if scores is None else scores[place]
            for number in range(request.config.count):
                index = place * request.config.count + number
                echoed = None
                if request.echo:
                    log_probs = None if score is None else self._of_prompt(given, prompt, score)
                    echoed = prompt.text, log_probs
                names = None
                if request.logprobs is not None:
                    names = TokenNames(self._tokenizer, prompt.start.decoder, len(prompt.text))
                row = None
                if request.max_tokens:
                    made = dataclasses.replace(
                        generator.request(prompt, index),
                        index=next(self._indices),
                        alternatives=request.logprobs or 0,
                    )
                    row = Row(made, notify, every_token=request.stream)
                finish_reason = None if row else "length"
                choices.append(Choice(index, row, names, echoed, finish_reason))
        prompt_tokens = sum(
            len(prompt.ids) + self._starts_with_eos(given)
            for given, prompt in zip(request.prompts, prompts, strict=True)
        )
        return Completion(choices, prompt_tokens)

    def _scored_ids(self, given: str | tuple[int, ...], prompt: Prompt) -> Ids:
        """The ids of a prompt as ``score`` reads it: a space at its end is a token's own."""
        if isinstance(given, str):
            return self._tokenizer.encode(given)
        return np.array(prompt.ids, np.uint32)

    @staticmethod
    def _starts_with_eos(given: str | tuple[int, ...]) -> bool:
        return not isinstance(given, str) and given[:1] == (EOS,)

    def _of_prompt(
        self, given: str | tuple[int, ...], prompt: Prompt, score: TokenStatistics
    ) -> LogProbs:
        """The log-probabilities of a prompt. That of an ``<EOS>`` which begins it is null."""
        names = TokenNames(self._tokenizer, self._tokenizer.decoder(), 0)
        count = (score.shape[1] - 1) // 2
        found = LogProbs([], [], [] if count else None, [])
        if self._starts_with_eos(given):
            found.tokens.append(names.of(EOS))
            found.token_logprobs.append(None)
            found.text_offset.append(0)
            if found.top_logprobs is not None:
                found.top_logprobs.append(None)
        texts = self._tokenizer.token_texts(given) if isinstance(given, str) else None
        ids_read = self._scored_ids(given, prompt).tolist()
        for place, (id, values) in enumerate(zip(ids_read, score.tolist(), strict=True)):
            if found.top_logprobs is not None:
                ids, log_probs = values[1 : count + 1], values[count + 1 :]
                pairs = [(int(each), x) for each, x in zip(ids, log_probs, strict=True)]
                found.top_logprobs.append(names.alternatives(pairs))
            found.tokens.append(texts[place] if texts and texts[place] else names.of(id))
            found.token_logprobs.append(max(values[0], _LEAST))
            found.text_offset.append(names.append(id, len(texts[place]) if texts else None))
        return found


def describe(model: LanguageModel) -> dict[str, Any]:
    """What clients need to know of the tokenizer."""
    tokenizer = model.tokenizer
    return {
        "tokenizer_class": type(tokenizer).__name__,
        "level": tokenizer.level,
        "unit": tokenizer.config.unit,
        "vocab_size": tokenizer.vocabulary_size,
        "bos_token": None,
        "eos_token": tokenizer.terminator or None,
        "unk_token": "<UNK>",
        "pad_token": None,
        "chat_template": None,
    }
