"""Writing by turns, through a terminal that a person might sit at."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from textgen.cli.app import main

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)
import pty
import select

from textgen import train

TEXTGEN = Path(sys.executable).with_name("textgen")
PROMPT = "› "


class Terminal:
    """A person at a terminal."""

    def __init__(self, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONUTF8": "1"}
        self._descriptor = ours
        self.process = subprocess.Popen(
            [TEXTGEN, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, end: str, seconds: float = 60) -> str:
        """What the terminal shows, up to where ``end`` is the last of it."""
        seen, limit = b"", time.monotonic() + seconds
        while not self._plain(seen).endswith(end):
            if time.monotonic() > limit:
                raise AssertionError(f"no {end!r} in {self._plain(seen)!r}")
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    seen += os.read(self._descriptor, 65536)
                except OSError:  # the other side is gone
                    break
        return self._plain(seen)

    def type(self, line: str) -> str:
        """Type a line, and read what comes until the next prompt."""
        os.write(self._descriptor, line.encode() + b"\n")
        return self.read_until(PROMPT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._descriptor)

    @staticmethod
    def _plain(seen: bytes) -> str:
        text = seen.decode("utf-8", "replace").replace("\r\n", "\n")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interactive")
    text = folder / "text.txt"
    text.write_text("the cats sat down.\nthe dogs slept.\n" * 60)
    train(text, out=folder / "run", steps=150, hidden_size=32, batch_size=4, learning_rate=0.02)
    return folder / "run"


@pytest.fixture
def terminal(model: Path) -> Iterator[Terminal]:
    terminal = Terminal("sample", str(model), "-i", "--sentences", "1", "--length", "40")
    terminal.read_until(PROMPT)
    yield terminal
    terminal.close()


def test_a_person_and_the_model_write_by_turns(terminal: Terminal) -> None:
    seen = terminal.type("the ca")
    assert seen.startswith("the ca\n")  # the terminal's own echo
    written = seen.removeprefix("the ca\n").removesuffix(PROMPT)
    assert written.strip()
    text = terminal.type("/text").removeprefix("/text\n").removesuffix(PROMPT)
    assert text.startswith("the ca" + written.rstrip("\n"))
    more = terminal.type("")
    assert len(more.strip()) > len(PROMPT)


def test_commands_change_take_back_and_choose(terminal: Terminal) -> None:
    terminal.type("/temperature 0")
    terminal.type("/length 3")
    first = terminal.type("the ")
    assert "took back" in terminal.type("/back")
    assert terminal.type("/text") == "/text\nthe \n" + PROMPT
    again = terminal.type("")
    assert again.strip("\n› ") == first.removeprefix("the \n").strip("\n› ")
    terminal.type("/new")
    terminal.type("/length 1")
    terminal.type("/back")  # nothing is there: an error, and the program goes on
    shown = terminal.type("/choose 3")
    assert re.findall(r"^ +[123]  ", shown, re.M)
    chosen = re.search(r"^ +2  (\S+)", shown, re.M)
    assert chosen is not None
    after = terminal.type("2")
    assert chosen[1].replace("␣", " ") in after
    terminal.type("")


def test_what_is_wrong_is_one_line_and_ends_nothing(terminal: Terminal) -> None:
    for line, said in [
        ("/temperatur 1", "did you mean /temperature?"),
        ("/temperature hot", "not a temperature: 'hot'"),
        ("/length x", "/length needs a whole number"),
        ("/back", "there is nothing to take back"),
        ("/choose some", "/choose must be a whole number, got 'some'"),
        ("/choose 0", "/choose must be at least 1"),
        ("/help", "/choose [N]"),
    ]:
        assert said in terminal.type(line)
    assert terminal.process.poll() is None


def test_ctrl_c_stops_the_model_and_not_the_program(model: Path) -> None:
    terminal = Terminal("sample", str(model), "-i", "--length", "1000000")
    try:
        terminal.read_until(PROMPT)
        os.write(terminal._descriptor, b"the\n")
        terminal.read_until("\n")
        time.sleep(0.5)
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.read_until(PROMPT)
        assert len(terminal.type("/text")) > 20
    finally:
        terminal.close()


@pytest.mark.parametrize("leave", [b"/quit\n", b"\x04"])
def test_a_person_leaves_without_an_error(terminal: Terminal, leave: bytes) -> None:
    os.write(terminal._descriptor, leave)
    assert terminal.process.wait(timeout=30) == 0


def test_what_cannot_be_interactive_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (
        *(["--count", "3"], ["--format", "json"], ["--prompt", "-"], ["--beams", "3"]),
        *(["--novelty"], ["--min-novelty", "0.5"], ["--corpus", "x"]),
    ):
        assert main(["sample", str(model), "-i", *options]) == 2
        assert "error:" in capsys.readouterr().err
