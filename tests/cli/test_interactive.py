"""Writing by turns: the commands through a terminal, and the session behind them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.cli.sample import Session
from textgen.config import SamplingConfig
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS

TEXTGEN = Path(sys.executable).with_name("textgen")
PROMPT = "› "


class Terminal:
    """A person at a terminal, in which ``textgen sample --interactive`` runs."""

    def __init__(self, checkpoint: Path) -> None:
        import pty

        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONUTF8": "1"}
        self._descriptor = ours
        self.process = subprocess.Popen(
            [TEXTGEN, "sample", checkpoint, "--interactive"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.read_until(PROMPT)

    def read_until(self, end: str, seconds: float = 60) -> str:
        """What the terminal shows, up to where ``end`` is the last of it."""
        import select

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

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def type(self, line: str) -> str:
        """Type a line, and read what comes until the next prompt."""
        self.press(line + "\n")
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
def process(trained: Path) -> Iterator[Terminal]:
    """One process for all tests: its start is what takes time."""
    if sys.platform == "win32":
        pytest.skip("there are no pseudo-terminals")
    terminal = Terminal(trained)
    yield terminal
    if terminal.process.poll() is None:
        terminal.press("/quit\n")
        assert terminal.process.wait(timeout=30) == 0
    terminal.close()


@pytest.fixture
def terminal(process: Terminal) -> Terminal:
    """With a new text, and lines of at most 40 tokens."""
    for line in ("/new", "/temperature", "/length 40"):
        process.type(line)
    return process


def test_a_person_and_the_model_write_by_turns(terminal: Terminal) -> None:
    seen = terminal.type("The ki")
    assert seen.startswith("The ki\n")  # the terminal's own echo
    written = seen.removeprefix("The ki\n").removesuffix(PROMPT)
    assert written.strip()
    text = terminal.type("/text").removeprefix("/text\n").removesuffix(PROMPT)
    assert text.startswith("The ki" + written.rstrip("\n"))
    more = terminal.type("")
    assert len(more.strip()) > len(PROMPT)


def test_commands_change_take_back_and_choose(terminal: Terminal) -> None:
    terminal.type("/temperature 0")
    terminal.type("/length 3")
    first = terminal.type("The ")
    assert "took back" in terminal.type("/back")
    assert terminal.type("/text") == "/text\nThe \n" + PROMPT
    again = terminal.type("")
    assert again.strip("\n› ") == first.removeprefix("The \n").strip("\n› ")
    terminal.type("/new")
    terminal.type("/length 1")
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


def test_the_key_up_brings_the_line_before_back(terminal: Terminal) -> None:
    terminal.type("/length x")
    assert "/length needs a whole number" in terminal.type("\x1b[A")


def test_ctrl_c_stops_the_model_and_not_the_program(terminal: Terminal) -> None:
    terminal.type("/length 1000000")
    terminal.press("the\n")
    terminal.read_until("\n")
    time.sleep(0.2)
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.read_until(PROMPT)
    assert len(terminal.type("/text")) > 20


def test_the_end_of_the_input_ends_it_without_an_error(trained: Path, typed: Any) -> None:
    shown = typed("sample", trained, "-i", "--length", "3", stdin="The \n")
    assert shown.out.count(PROMPT) == 2


@pytest.fixture(scope="module")
def model(trained: Path) -> LanguageModel:
    return LanguageModel.load(trained)


@pytest.fixture
def session(model: LanguageModel) -> Session:
    return Session(model, SamplingConfig(length=12, seed=3))


def test_a_turn_is_what_the_model_would_write_there(model: LanguageModel, session: Session) -> None:
    session.add("The king")
    heard: list[str] = []
    sample = session.generate(heard.append)
    assert "".join(heard) == sample.text
    assert sample == model.sample("The king", length=12, seed=3)[0]
    assert session.text == "The king" + sample.text
    second = session.generate(heard.append)
    assert second == model.sample(session.text.removesuffix(second.text), length=12, seed=4)[0]


def test_a_turn_that_was_taken_back_comes_otherwise(session: Session) -> None:
    session.add("the")
    first = session.generate(lambda piece: None)
    session.turns.pop()
    assert session.generate(lambda piece: None).text != first.text


def test_an_interrupted_turn_is_kept_as_far_as_it_came(session: Session) -> None:
    heard: list[str] = []

    def interrupt(piece: str) -> None:
        heard.append(piece)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.generate(interrupt)
    assert session.text == "".join(heard)


@pytest.mark.parametrize(("options", "end"), [({"sentences": 1}, "\n"), ({"stop": ("e",)}, "e")])
def test_what_ended_a_turn_is_part_of_the_text(
    session: Session, options: dict[str, Any], end: str
) -> None:
    session.set(**options, length=10_000)
    session.generate(lambda piece: None)
    assert session.text.endswith(end)
    assert session.text.count(end) == 1


def test_where_a_paragraph_is_the_unit_it_ends_as_paragraphs_do(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cats\nsat down.\n\nthe dogs\nslept.\n\n" * 20)
    train(text, out=tmp_path / "run", steps=2, hidden_size=8, batch_size=2, unit="paragraph")
    session = Session(LanguageModel.load(tmp_path / "run"), SamplingConfig())
    session.set(sentences=1, length=10_000)
    session.generate(lambda piece: None)
    assert session.text.endswith("\n\n")
    session.turns.clear()
    end = next(each for each in session.model.predict(words=40).choices if each.id == EOS)
    session.choose(end)
    assert session.text == "\n\n"


def test_a_setting_holds_from_then_on_and_a_bad_one_changes_nothing(session: Session) -> None:
    session.set(temperature="0.5")
    with pytest.raises(UsageError):
        session.set(temperature="hot")
    with pytest.raises(UsageError):
        session.set(length=0)
    assert session.config.temperature == (0.5,)
    assert session.config.length == 12
