"""A server under requests as they should be and as they should not."""

import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from running import Service, serving, trained, wait_until

from textgen.cli.app import main
from textgen.language_model import LanguageModel
from textgen.models import Model
from textgen.server import app
from textgen.server.command import _allow_connections


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return LanguageModel.load(folder, device="cpu")


@pytest.fixture(scope="module")
def service(model: LanguageModel) -> Iterator[Service]:
    with serving(model, max_body=2**16, max_prompt=500) as service:
        yield service


def events(port: int, **fields: Any) -> Iterator[dict[str, Any]]:
    """The events of a stream, without the last, which is [DONE]."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps(fields | {"stream": True})
    connection.request("POST", "/v1/completions", body)
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    try:
        for line in answer:
            if line.strip() == b"data: [DONE]":
                return
            if line.strip():
                assert line.startswith(b"data: ")
                yield json.loads(line[6:])
        raise AssertionError("the stream ended before [DONE]")
    finally:
        connection.close()
        answer.close()


def test_64_clients_at_once_get_the_texts_of_sample(service: Service) -> None:
    def text(seed: int) -> str:
        return service.text(prompt="Once upon", max_tokens=200, seed=seed)

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        texts = list(pool.map(text, range(64)))
    for seed in range(0, 64, 7):
        (sample,) = service.model.sample("Once upon", length=200, seed=seed)
        assert texts[seed] == sample.text


def test_a_stream_is_the_same_text_in_parts(service: Service) -> None:
    fields = {"prompt": ["A", "The"], "max_tokens": 300, "seed": 3, "n": 2, "stop": ["zzz"]}
    whole = service.ask("/v1/completions", fields | {"echo": True, "logprobs": 1})[1]
    parts = list(
        events(
            service.port,
            **fields,
            echo=True,
            logprobs=1,
            stream_options={"include_usage": True},
        )
    )
    assert parts[-1]["choices"] == [] and parts[-1]["usage"] == whole["usage"]
    assert len({part["id"] for part in parts}) == 1
    for index, choice in enumerate(whole["choices"]):
        mine = [c for part in parts for c in part["choices"] if c["index"] == index]
        assert "".join(each["text"] for each in mine) == choice["text"]
        assert [each["finish_reason"] for each in mine][-1] == "length"
        assert all(each["finish_reason"] is None for each in mine[:-1])
        for name, values in choice["logprobs"].items():
            assert [x for each in mine for x in each["logprobs"][name]] == values


def test_the_tokenizer_is_there(service: Service) -> None:
    tokenizer = service.model.tokenizer
    status, answer = service.ask("/tokenize", {"prompt": "Once\n", "add_special_tokens": False})
    assert (status, answer["tokens"]) == (200, tokenizer.encode("Once\n").tolist())
    status, back = service.ask("/detokenize", {"tokens": answer["tokens"]})
    assert (status, back["prompt"]) == (200, "Once\n")
    assert service.ask("/tokenizer_info")[1]["vocab_size"] == tokenizer.vocabulary_size
    assert service.ask("/detokenize", {"tokens": [10**9]})[0] == 400
    assert service.ask("/v1/models/mine")[1]["id"] == "mine"
    assert service.ask("/v1/models/other")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", b"{", 400),
        ("/v1/completions", b'{"prompt": "\xff"}', 400),
        ("/v1/completions", b'{"temperature": NaN}', 400),
        ("/v1/completions", b'{"max_tokens": ' + b"9" * 5000 + b"}", 400),
        ("/v1/completions", b'{"unknown": 1}', 400),
        ("/v1/completions", b'{"prompt": "' + b"a" * 600 + b'"}', 400),
        ("/v1/completions", b'"' + b"a" * 2**17 + b'"', 413),
        ("/v1/completions", None, 405),
        ("/v1/chat/completions", b"{}", 404),
        ("/tokenize", b'{"prompt": 3}', 400),
        ("/nothing", None, 404),
    ],
)
def test_what_cannot_be_answered_gets_an_error_object_and_the_server_goes_on(
    service: Service, path: str, body: bytes | None, status: int
) -> None:
    found, answer = service.ask(path, body=body)
    assert found == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert service.ask("/health")[0] == 200


def test_what_is_not_http_gets_an_error_object(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


def test_only_this_machine_and_pages_of_this_server_may_use_it(service: Service) -> None:
    assert service.ask("/health", Host="localhost")[0] == 200
    status, answer = service.ask("/health", Host="evil.example")
    assert (status, answer["error"]["type"]) == (403, "permission_error")
    own = f"127.0.0.1:{service.port}"
    assert service.ask("/health", Host=own, Origin=f"http://{own}")[0] == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert service.ask("/health", Host=own, Origin=origin)[0] == 403
        assert "access-control-allow-origin" not in service.headers


def test_an_origin_and_a_key_can_be_allowed(model: LanguageModel) -> None:
    origin = "https://example.org"
    with serving(model, allow_origin=(origin,), api_key="sécret") as service:
        assert service.ask("/health", Origin=origin)[0] == 200
        assert service.headers["access-control-allow-origin"] == origin
        assert service.ask("/health", Origin="https://evil.example")[0] == 403
        assert service.ask("/v1/models")[0] == 401
        for wrong in ("Bearer wrong", "Bearer", "Basic s", "sécret"):
            status, answer = service.ask(
                "/v1/models", Authorization=wrong.encode().decode("latin-1")
            )
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        key = "Bearer sécret".encode().decode("latin-1")
        assert service.ask("/v1/models", Authorization=key)[0] == 200


def test_a_client_that_goes_away_frees_its_rows(service: Service) -> None:
    fields = {"prompt": [""] * 8, "max_tokens": 16384}
    stream = events(service.port, **fields)
    next(stream)
    assert service.running == 8
    stream.close()
    wait_until(lambda: service.running == 0)
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("POST", "/v1/completions", json.dumps(fields))
    wait_until(lambda: service.running == 8)
    connection.close()
    wait_until(lambda: service.running == 0)


def test_too_many_texts_are_refused_and_too_long_a_request_ends(model: LanguageModel) -> None:
    with serving(model, max_waiting=2, max_seconds=2) as service:
        stream = events(service.port, prompt=[""] * 65, max_tokens=16384)
        next(stream)
        status, answer = service.ask("/v1/completions", {"prompt": ["a", "b"]})
        assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
        assert service.headers["retry-after"] == "1"
        parts: list[dict[str, Any]] = []
        with pytest.raises(AssertionError, match="before"):
            parts.extend(stream)
        assert parts[-1]["error"]["type"] == "timeout_error"
        wait_until(lambda: service.running == 0)
        fields = {"prompt": [""] * 64, "max_tokens": 16384}
        status, answer = service.ask("/v1/completions", fields)
        assert (status, answer["error"]["type"]) == (504, "timeout_error")
        assert service.text(prompt="a")


def test_slow_heads_and_bodies_end_and_others_are_served(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_HEAD_SECONDS", 0.5)
    monkeypatch.setattr(app, "_BODY_SECONDS", 0.5)
    with serving(model) as service:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        for sent, expected in (
            (b"", b""),
            (head, b""),
            (head + b"Content-Length: 9\r\n\r\n{", b"408"),
        ):
            with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
                client.sendall(sent)
                assert service.text(prompt="a")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert expected in answer[:20]
            assert bool(expected) == bool(answer)


def test_a_thousand_connections_leave_room_for_a_request(service: Service) -> None:
    _allow_connections()
    clients = []
    try:
        for number in range(1000):
            client = socket.create_connection(("127.0.0.1", service.port), timeout=60)
            client.sendall(b"GET /health HTTP/1.1\r\n"[: number % 24])
            clients.append(client)
        assert service.text(prompt="a")
    finally:
        for client in clients:
            client.close()
    assert service.text(prompt="a")


def test_the_page_is_there(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("content-type", "").startswith("text/html")
    assert "A language model of stories.txt" in answer.read().decode("utf-16")
    connection.close()


def test_a_model_that_cannot_generate_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "is_causal", False)
    assert main(["serve", str(folder)]) == 2
    assert "cannot generate text" in capsys.readouterr().err


def test_ctrl_c_finishes_what_runs_and_ends(folder: Path) -> None:
    command = [sys.executable, "-m", "textgen", "serve", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        port = next(int(found[1]) for line in lines if (found := re.search(r":(\d+);", line)))
        stream = events(port, prompt=[""] * 32, max_tokens=2000, seed=1)
        texts = [next(stream)["choices"][0]["text"]]
        server.send_signal(signal.SIGINT)
        texts += [c["text"] for part in stream for c in part["choices"] if c["index"] == 0]
        (expected,) = LanguageModel.load(folder, device="cpu").sample("", length=2000, seed=1)
        assert "".join(texts) == expected.text
        assert server.wait(60) == 130
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert server.stderr.read() == ""
    finally:
        server.kill()
        server.communicate()
