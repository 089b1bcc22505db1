"""What may reach a terminal."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import pytest

from textgen.errors import TextgenWarning
from textgen.presentation import console
from textgen.presentation.tables import quoted, visible


def test_control_characters_are_shown_as_escapes() -> None:
    assert console.shown("a\x1b]0;title\x07\u202eb\n") == "a\\x1b]0;title\\x07\\u202eb\\n"
    assert console.shown("a\tb\n", keep="\n") == "a\\tb\n"
    assert console.shown("é 漢 👩‍👩‍👧") == "é 漢 👩‍👩‍👧"
    assert console.shown("a\u200b\ufeff") == "a\\u200b\\ufeff", "they have no width"


def test_visible_tokens_can_be_told_from_one_another() -> None:
    tokens = [" ", "␣", "\\␣", "\n", "\\n", "\\", "\u2028", "\xa0", "<EOS>", "a b", "a␣b", "ab"]
    tokens += ["a\u200bb", "a\u200d", "\xad", "\u2064"]
    assert len({visible(token, 9) for token in tokens}) == len(tokens)
    assert not any(each.isspace() for token in tokens for each in visible(token, 9))
    assert all(visible(token, 9).isprintable() for token in tokens)
    assert visible("<EOS>", 9) != visible("<EOS>", 1) == "<EOS>"
    assert visible("نمی\u200cخواهم👩\u200d👧") == "نمی\u200cخواهم👩\u200d👧", "as it is spelled"


def test_a_path_is_quoted_as_a_shell_takes_it() -> None:
    assert quoted("checkpoints/x") == "checkpoints/x"
    assert quoted("my models/x") == "'my models/x'"
    assert quoted("-x") == "./-x"
    assert quoted("a\nb") == r"$'a\nb'"
    assert quoted("a\x9b\udcff\u202e") == r"$'a\xc2\x9b\xff\xe2\x80\xae'", "as bytes"


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


def test_warnings_of_textgen_are_notes_each_time_and_others_stay_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.warns(DeprecationWarning, match="of another"), console.warnings_as_notes():
        for _ in range(2):
            warnings.warn("of \x1bours", TextgenWarning, stacklevel=1)
        warnings.warn("of another", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == "note: of \\x1bours\n" * 2
