"""What may reach a terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from textgen.errors import ResourceError
from textgen.presentation import console
from textgen.presentation.tables import quoted, visible


def test_control_characters_are_shown_as_escapes() -> None:
    assert console.shown("a\x1b]0;title\x07\u202eb\n") == "a\\x1b]0;title\\x07\\u202eb\\n"
    assert console.shown("a\tb\n", keep="\n") == "a\\tb\n"
    assert console.shown("é 漢 👩‍👩‍👧") == "é 漢 👩‍👩‍👧"


def test_visible_tokens_can_be_told_from_one_another() -> None:
    tokens = [" ", "␣", "\\␣", "\n", "\\n", "\\", "\u2028", "\xa0", "<EOS>", "a b", "a␣b"]
    assert len({visible(token, 9) for token in tokens}) == len(tokens)
    assert not any(each.isspace() for token in tokens for each in visible(token, 9))
    assert visible("<EOS>", 9) != visible("<EOS>", 1) == "<EOS>"


@pytest.mark.parametrize(
    ("path", "typed"),
    [
        ("checkpoints/x", "checkpoints/x"),
        ("my models/x", "'my models/x'"),
        ("it's", "'it'\"'\"'s'"),
        ("-x", "./-x"),
        ("a\nb", r"$'a\nb'"),
    ],
)
def test_a_path_is_quoted_as_a_shell_takes_it(path: str, typed: str) -> None:
    assert quoted(path) == typed


def test_a_refused_write_is_a_resource_error_and_a_lost_reader_a_broken_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing:
        def __init__(self, error: OSError) -> None:
            self.error = error

        def write(self, text: str) -> None:
            raise self.error

    monkeypatch.setattr("sys.stdout", Refusing(OSError(28, "No space left on device")))
    with pytest.raises(ResourceError, match="standard output"):
        console.emit("x")
    monkeypatch.setattr("sys.stdout", Refusing(BrokenPipeError(32, "Broken pipe")))
    with pytest.raises(BrokenPipeError):
        console.emit("x")


def test_a_note_wraps_between_words_for_a_person_and_is_one_line_in_a_log(
    monkeypatch: pytest.MonkeyPatch, terminal: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    message = "training on the bundled stories"
    watched, log = terminal("stderr"), io.StringIO()
    console.note(message)
    monkeypatch.setattr("sys.stderr", log)
    console.note(message)
    plain = re.sub(r"\x1b\[[\d;]*m", "", watched.getvalue())
    wrapped = [line.rstrip() for line in plain.splitlines()]
    assert wrapped == ["note: training on the", "bundled stories"]
    assert log.getvalue().splitlines() == [f"note: {message}"]
