"""Requests of the completions protocol: what is read, what is refused, and how."""

import json
from typing import Any

import pytest

from textgen.config import SamplingConfig
from textgen.errors import UsageError
from textgen.server import protocol
from textgen.server.config import ServerConfig
from textgen.server.protocol import CompletionRequest, Fields, ProtocolError, parse_completion

CONFIG = ServerConfig(max_tokens=100, max_choices=8)


def parsed(**fields: Any) -> CompletionRequest:
    return parse_completion(json.dumps(fields).encode(), CONFIG, "mine", 50)


def refused(body: bytes | dict[str, Any]) -> ProtocolError:
    given = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ProtocolError) as error:
        parse_completion(given, CONFIG, "mine", 50)
    shape = error.value.body()["error"]
    assert set(shape) == {"message", "type", "param", "code"}
    assert len(error.value.message) < 500
    json.dumps(error.value.body(), allow_nan=False).encode()
    return error.value


def test_what_is_missing_has_the_defaults_of_the_protocol() -> None:
    request = parsed(seed=3)
    assert request == CompletionRequest(("",), SamplingConfig(length=16, seed=3), 16)
    assert parsed().config.seed != parsed().config.seed
    nulls = dict.fromkeys(("max_tokens", "stop", "logprobs", "logit_bias", "suffix", "top_p"))
    assert parsed(seed=3, **nulls) == request


def test_every_field_reaches_the_configuration() -> None:
    request = parsed(
        model="mine",
        prompt=["a", "b"],
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        n=2,
        seed=5,
        stop="end",
        logprobs=3,
        echo=True,
        logit_bias={"7": -100, "49": 1.5},
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        stream=True,
        stream_options={"include_usage": True},
        user="somebody",
        best_of=2,
        top_k=4,
        min_p=0.1,
        typical=0.9,
        repetition_penalty=1.2,
        no_repeat_ngram=3,
        dry_multiplier=0.8,
        dry_base=2,
        dry_allowed_length=4,
        dry_sequence_breaker=["none"],
        xtc_probability=0.5,
        xtc_threshold=0.2,
        ban=["x"],
        end_on=["y"],
        sentences=2,
        allow_unk=True,
    )
    assert request == CompletionRequest(
        ("a", "b"),
        SamplingConfig(
            length=7,
            temperature=(0.5,),
            top_p=0.9,
            count=2,
            seed=5,
            stop=("end",),
            logit_bias=((7, -100), (49, 1.5)),
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            top_k=4,
            min_p=0.1,
            typical=0.9,
            repetition_penalty=1.2,
            no_repeat_ngram=3,
            dry_multiplier=0.8,
            dry_base=2,
            dry_allowed_length=4,
            dry_sequence_breaker=(),
            xtc_probability=0.5,
            xtc_threshold=0.2,
            ban=("x",),
            end_on=("y",),
            sentences=2,
            allow_unk=True,
        ),
        max_tokens=7,
        logprobs=3,
        echo=True,
        stream=True,
        include_usage=True,
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a text", ("a text",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3], []], ((1,), (2, 3), ())),
        ([[1], "a"], ((1,), "a")),
    ],
)
def test_a_prompt_is_a_text_ids_or_several_of_them(prompt: Any, expected: Any) -> None:
    assert parsed(prompt=prompt).prompts == expected


def test_what_changes_nothing_is_no_rule() -> None:
    request = parsed(top_p=1, frequency_penalty=0, presence_penalty=0.0, logit_bias={})
    assert request.config.logit_rules is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 7}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [50]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [10**400]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": ["a"] * 9}, "n"),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": 5, "prompt": ["a", "b"]}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**300}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": [1, 2]}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", None]}, "stop"),
        ({"logprobs": 51}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "other"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"50": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "logit_bias"),
        ({"logit_bias": {"1": 10**400}}, "logit_bias"),
        ({"presence_penalty": 1e7}, "presence_penalty"),
        ({"frequency_penalty": "a"}, "frequency_penalty"),
        ({"dry_base": 0.5}, "dry_base"),
        ({"xtc_probability": 2}, "xtc_probability"),
        ({"model": 3}, "model"),
        ({"user": 3}, "user"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"beams": 4}, "beams"),
        ({"messages": []}, "messages"),
        ({"x" * 1000: 1}, "x" * 100),
    ],
)
def test_a_value_that_cannot_be_names_its_field(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", param)


def test_unknown_and_unsupported_fields_have_their_code() -> None:
    for fields in ({"suffix": "x"}, {"best_of": 3}, {"temprature": 1}, {"require": ["x"]}):
        assert refused(fields).code == "unsupported_parameter"


def test_another_model_does_not_exist() -> None:
    error = refused({"model": "gpt-4"})
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"prompt": "a"',
        b'{"prompt": "\xff"}',
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt": "\\ud800"}',
        b"\x00\x01\x02",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert refused(body).status == 400


def test_a_value_is_taken_once_and_null_is_none() -> None:
    fields = Fields({"a": 1, "b": None})
    assert fields.take("a", 2) == 1
    assert fields.take("a", 2) == 2
    fields.end()


def test_an_event_is_one_line_of_data() -> None:
    sent = protocol.event({"text": "two\nlines \u2028 é"})
    assert sent.startswith(b"data: ") and sent.endswith(b"\n\n")
    assert sent.count(b"\n") == 2
    assert json.loads(sent[6:]) == {"text": "two\nlines \u2028 é"}


def test_an_origin_is_checked() -> None:
    assert ServerConfig(allow_origin=("*", "https://example.org")).allow_origin
    with pytest.raises(UsageError, match="no origin"):
        ServerConfig(allow_origin=("example.org",))
