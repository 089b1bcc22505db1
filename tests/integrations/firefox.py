"""A headless Firefox, driven by its own protocol, Marionette: JSON over a socket, no package."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")
SECONDS = 180


class Firefox:
    """A context manager. profile: an empty folder."""

    def __init__(self, profile: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        setting = f'user_pref("marionette.port", {self._port});\n'
        (profile / "user.js").write_text(setting)
        self._profile, self._messages = profile, 0

    def __enter__(self) -> Self:
        flags = ("--headless", "--marionette", "--no-remote", "--profile", str(self._profile))
        null = subprocess.DEVNULL
        self._process = subprocess.Popen([str(PROGRAM), *flags], stdout=null, stderr=null)
        self._connection = self._connected()
        self._stream = self._connection.makefile("rwb")
        self._receive()
        self.command("WebDriver:NewSession", capabilities={})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _connected(self) -> socket.socket:
        end = time.monotonic() + SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def command(self, name: str, **arguments: Any) -> Any:
        """The result of a command, such as ``WebDriver:Navigate``."""
        self._messages += 1
        message = json.dumps([0, self._messages, name, arguments]).encode()
        self._stream.write(b"%d:%s" % (len(message), message))
        self._stream.flush()
        _, _, error, result = self._receive()
        assert error is None, error
        return result

    def _receive(self) -> Any:
        length = b""
        while (character := self._stream.read(1)) != b":":
            assert character, "Firefox has ended"
            length += character
        return json.loads(self._stream.read(int(length)))

    def run(self, script: str) -> Any:
        """What a script on the page returns."""
        return self.command("WebDriver:ExecuteScript", script=script, args=[])["value"]

    def until(self, script: str) -> Any:
        """What a script returns once it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < end, script
            time.sleep(0.1)
        return value
