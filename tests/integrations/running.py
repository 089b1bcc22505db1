"""A model and its server in a thread, for the tests that need one."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from textgen import train
from textgen.language_model import LanguageModel
from textgen.server.app import Server, http_server
from textgen.server.command import listen
from textgen.server.config import ServerConfig

STORIES = Path(__file__).parents[2] / "corpora" / "stories.txt"


def trained(folder: Path) -> Path:
    """A small model of characters."""
    text = folder / "stories.txt"
    text.write_text(STORIES.read_text(encoding="utf-8")[:200_000], encoding="utf-8")
    train(text, out=folder / "mine", hidden_size=24, steps=20, batch_size=8)
    return folder / "mine"


@dataclass
class Service:
    """A server that runs. port: where."""

    port: int
    model: LanguageModel

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, fields: Any = None, *, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer; POST if there is a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            data = body if fields is None else json.dumps(fields).encode()
            connection.request("GET" if data is None else "POST", path, data, headers)
            answer = connection.getresponse()
            self.headers = dict(answer.getheaders())
            return answer.status, json.loads(answer.read())

    def text(self, **fields: Any) -> str:
        status, answer = self.ask("/v1/completions", fields)
        assert status == 200, answer
        return str(answer["choices"][0]["text"])

    @property
    def running(self) -> int:
        return int(self.ask("/health")[1]["running"])


@contextlib.contextmanager
def serving(model: LanguageModel, **options: Any) -> Iterator[Service]:
    config = ServerConfig(port=0, **options)
    listener = listen(config.host, config.port)
    server = http_server(Server(model, "mine", config).app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Service(listener.getsockname()[1], model)
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
