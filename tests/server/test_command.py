"""The command where it cannot serve."""

import socket
import sys

import pytest

from textgen.cli.app import main
from textgen.errors import ResourceError, UsageError
from textgen.server.command import listen


def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("uvicorn", "starlette", "h11"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "textgen.server.app", raising=False)
    assert main(["serve", "checkpoints/mine"]) == 2
    said = capsys.readouterr().err
    assert "needs the package starlette" in said and "serve]" in said


def test_a_port_in_use_and_an_address_of_another_machine_are_errors() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match="the port is in use"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot listen"):
        listen("192.0.2.1", 0)
    with listen("127.0.0.1", 0) as free:
        assert free.family == socket.AF_INET
