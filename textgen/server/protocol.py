"""The completions protocol of OpenAI: requests parsed and checked, answers and errors made.

https://platform.openai.com/docs/api-reference/completions; what vLLM and llama.cpp add to it for
tokenizers is at https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from textgen.config import SamplingConfig, flag, shortened
from textgen.errors import UsageError
from textgen.server.config import ServerConfig
from textgen.tokenizers.base import is_text

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "timeout_error",
    "server_error",
]
_DEFAULT_TOKENS = 16  # of the protocol
_MOST_LOGPROBS = 100
_MOST_TEXTS = 1024


class ProtocolError(Exception):
    """An error that a client gets, as the error object of the protocol."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: ErrorType = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.type = message, status, type
        self.param, self.code = param, code

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.type}
        return {"error": error | {"param": self.param, "code": self.code}}


@dataclass(frozen=True)
class CompletionRequest:
    """A request for completions, checked.

    Attributes:
        prompts: Texts, or the ids of texts.
        config: ``count`` choices per prompt; ``length`` is at least 1 though ``max_tokens`` may
            be 0.
        logprobs: How many of the most probable tokens come with each; None: no log-probabilities.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    config: SamplingConfig
    max_tokens: int
    logprobs: int | None = None
    echo: bool = False
    stream: bool = False
    include_usage: bool = False


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        ProtocolError: It is not UTF-8, not JSON, not an object, or has NaN or lone surrogates.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ProtocolError(f"the body is not JSON in UTF-8: {why[:200]}") from None
    if not isinstance(found, dict):
        raise ProtocolError("the body must be a JSON object")
    return found


class Fields:
    """The fields of a request, each taken once; what is left is refused."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._left = dict(fields)

    def take(self, name: str, default: Any = None) -> Any:
        """The value; the default where it is missing or null."""
        value = self._left.pop(name, None)
        return default if value is None else value

    def text(self, name: str, default: str = "") -> str:
        value = self.take(name, default)
        if not is_text(value):
            raise ProtocolError(f"{name} must be text, got {_shown(value)}", param=name)
        return str(value)

    def texts(self, name: str, most: int = _MOST_TEXTS) -> tuple[str, ...]:
        """One text or several, none of them empty."""
        value = self.take(name, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(is_text(each) and each for each in texts):
            raise ProtocolError(f"{name} must be a text or a list of texts", param=name)
        if len(texts) > most:
            raise ProtocolError(f"{name} has more than {most} texts", param=name)
        return tuple(texts)

    def truth(self, name: str) -> bool:
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise ProtocolError(f"{name} must be true or false, got {_shown(value)}", param=name)
        return value

    def whole(self, name: str, default: int | None, low: int, high: int) -> Any:
        value = self.take(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ProtocolError(
                f"{name} must be a whole number from {low} to {high}, got {_shown(value)}",
                param=name,
            )
        return value

    def number(self, name: str, default: float | None = None) -> Any:
        value = self.take(name, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ProtocolError(f"{name} must be a number, got {_shown(value)}", param=name)
        return value

    def end(self) -> None:
        """Refuse what has not been taken."""
        for name, value in self._left.items():
            if value is not None:
                raise ProtocolError(
                    f"unknown or unsupported field: {shortened(name)}",
                    param=name[:100],
                    code="unsupported_parameter",
                )


def parse_completion(
    body: bytes, config: ServerConfig, model: str, vocabulary_size: int
) -> CompletionRequest:
    """The request in a body.

    Args:
        model: The name of the model that is served.

    Raises:
        ProtocolError: A field is not as the protocol, the limits or the model demand.
    """
    fields = Fields(parse_json(body))
    check_model(fields, model)
    prompts = _prompts(fields.take("prompt", ""), vocabulary_size)
    max_tokens = fields.whole("max_tokens", _DEFAULT_TOKENS, 0, config.max_tokens)
    choices = fields.whole("n", 1, 1, config.max_choices)
    if len(prompts) * choices > config.max_choices:
        raise ProtocolError(
            f"{len(prompts)} prompts with n = {choices} are more than {config.max_choices} texts",
            param="n",
        )
    fields.text("user")  # of no consequence here
    if fields.take("suffix"):
        raise _unsupported("suffix", "the model reads from left to right")
    if fields.take("best_of", choices) != choices:
        raise _unsupported("best_of", "other than n")
    stream = fields.truth("stream")
    stream_options = fields.take("stream_options", {})
    if stream_options and not (isinstance(stream_options, dict) and stream):
        raise ProtocolError("stream_options need stream", param="stream_options")
    of_stream = Fields(stream_options)
    include_usage = of_stream.truth("include_usage")
    of_stream.end()
    request = {
        "logprobs": fields.whole("logprobs", None, 0, min(_MOST_LOGPROBS, vocabulary_size)),
        "echo": fields.truth("echo"),
        "stream": stream,
        "include_usage": include_usage,
    }
    sampling = {"length": max(1, max_tokens), "count": choices} | _sampling(fields, vocabulary_size)
    fields.end()
    try:
        made = SamplingConfig.from_options(sampling)
    except UsageError as error:
        raise _of_option(error, sampling) from None
    return CompletionRequest(prompts, made, max_tokens, **request)


def check_model(fields: Fields, model: str) -> None:
    """Refuse another model than the one that is served; none stands for it."""
    wanted = fields.text("model", model)
    if wanted != model:
        raise ProtocolError(
            f"the model {shortened(wanted)} does not exist; this server has {model!r}",
            status=404,
            type="not_found_error",
            param="model",
            code="model_not_found",
        )


def parse_ids(value: Any, name: str, vocabulary_size: int) -> tuple[int, ...]:
    """The ids of a text."""
    for id in value if isinstance(value, list) else [value]:
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < vocabulary_size:
            ids = f"the ids of the model go from 0 to {vocabulary_size - 1}"
            raise ProtocolError(f"{name}: {ids}, got {_shown(id)}", param=name)
    return tuple(value)


def _prompts(given: Any, vocabulary_size: int) -> tuple[str | tuple[int, ...], ...]:
    """Prompts from a text, ids, or a list of one of these."""
    several = given if isinstance(given, list) else [given]
    if isinstance(given, list) and given and isinstance(given[0], int):
        several = [given]
    prompts: list[str | tuple[int, ...]] = []
    for each in several:
        if isinstance(each, list):
            prompts.append(parse_ids(each, "prompt", vocabulary_size))
        elif is_text(each):
            prompts.append(each)
        else:
            raise ProtocolError(
                "prompt must be a text, a list of texts, ids, or a list of lists of ids",
                param="prompt",
            )
    if not prompts:
        raise ProtocolError("prompt is an empty list", param="prompt")
    return tuple(prompts)


_NUMBERS = ("min_p", "typical", "repetition_penalty", "dry_multiplier", "dry_base")
_MORE_NUMBERS = ("xtc_probability", "xtc_threshold")
_WHOLE = ("top_k", "no_repeat_ngram", "sentences", "dry_allowed_length")
_TEXTS = ("stop", "end_on", "ban", "dry_sequence_breaker")
_INACTIVE = {"top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "dry_multiplier": 0}
"""Values that clients send and that change nothing; without the rule, draws are faster."""


def _sampling(fields: Fields, vocabulary_size: int) -> dict[str, Any]:
    """The options of ``SamplingConfig`` in a request: the protocol's, and ours by their names."""
    options = {
        "temperature": fields.number("temperature", 1.0),
        "seed": fields.whole("seed", secrets.randbelow(2**63), 0, 2**63 - 1),
        "allow_unk": fields.truth("allow_unk"),
        "logit_bias": _biases(fields.take("logit_bias", {}), vocabulary_size),
    }
    for name in ("top_p", "frequency_penalty", "presence_penalty", *_NUMBERS, *_MORE_NUMBERS):
        options[name] = fields.number(name)
    for name in _WHOLE:
        options[name] = fields.whole(name, None, 1, 2**31)
    for name in _TEXTS:
        if found := fields.texts(name):
            options[name] = found
    return {name: x for name, x in options.items() if x is not None and _INACTIVE.get(name) != x}


def _biases(value: Any, vocabulary_size: int) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, dict):
        raise ProtocolError("logit_bias must be an object of ids and numbers", param="logit_bias")
    biases = []
    for key, bias in value.items():
        id = int(key) if re.fullmatch("[0-9]{1,9}", key) else vocabulary_size
        if id >= vocabulary_size:
            raise ProtocolError(
                f"logit_bias: {shortened(key)} is no id; the ids of the model go from 0 to"
                f" {vocabulary_size - 1}",
                param="logit_bias",
            )
        biases.append((id, bias))
    return tuple(biases)


def _unsupported(name: str, why: str) -> ProtocolError:
    message = f"{name} is not supported: {why}"
    return ProtocolError(message, param=name, code="unsupported_parameter")


def _of_option(error: UsageError, options: Mapping[str, Any]) -> ProtocolError:
    """The error of an option as that of the field with its name."""
    message = str(error)
    param = next((name for name in options if re.search(flag(name) + r"\b", message)), None)
    message = re.sub("--([a-z-]+)", lambda found: found[1].replace("-", "_"), message)
    return ProtocolError(message, param=param)


def _shown(value: object) -> str:
    shown: str = shortened(value if isinstance(value, str | int | float) else str(value))
    return shown


@dataclass
class LogProbs:
    """The log-probabilities of some tokens of a choice, as the protocol lists them."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


def choice(
    index: int, text: str, finish_reason: str | None, log_probs: LogProbs | None
) -> dict[str, Any]:
    found = None if log_probs is None else dict(vars(log_probs))
    return {"text": text, "index": index, "logprobs": found, "finish_reason": finish_reason}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def completion(
    id: str, created: int, model: str, choices: Sequence[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """A completion object; of a stream, a part of one."""
    made = {"id": id, "object": "text_completion", "created": created, "model": model}
    return made | {"choices": list(choices)} | more


def event(data: object) -> bytes:
    """A server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return f"data: {_encode(data)}\n\n".encode()


_encode = json.JSONEncoder(allow_nan=False).encode


LAST_EVENT = b"data: [DONE]\n\n"
