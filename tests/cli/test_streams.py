"""The world outside: pipes, full disks, odd locales, no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = Path("/dev/full")


# What is buffered must be met by us too, not only what Python writes at once.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "textgen", *arguments]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "caf\u00e9 \u2603.txt"
    path.write_text("the caf\u00e9 \u2603\n" * 50, encoding="utf-8")
    return path


@pytest.mark.skipif(os.name == "nt", reason="pipes break in another way")
def test_a_reader_that_leaves_is_met_in_silence(text: Path) -> None:
    for arguments in (["--help"], ["tokenize", str(text)]):
        process = subprocess.Popen(
            command(*arguments), env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
        assert err == b""
        assert process.returncode in (0, 141)


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_under_stdout_is_an_error(text: Path) -> None:
    for arguments in (["--version"], ["tokenize", str(text)]):
        with FULL.open("w") as full:
            done = subprocess.run(
                command(*arguments),
                env=BUFFERED,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.startswith("textgen: error: ")
        assert len(done.stderr.splitlines()) == 1
        assert "No space left" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the shell closes streams in another way")
def test_a_closed_stdout_is_an_error_and_a_closed_stderr_is_not() -> None:
    closed = subprocess.run(
        ["sh", "-c", '"$0" -m textgen --version >&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.returncode == 1
    assert closed.stderr == "textgen: error: cannot write (standard output): it is closed\n"
    silent = subprocess.run(["sh", "-c", '"$0" -m textgen trian 2>&-', sys.executable], check=False)
    assert silent.returncode == 2


@pytest.mark.parametrize(
    "setting",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"TERM": "dumb", "NO_COLOR": "1", "LANG": "C", "PYTHONIOENCODING": "ascii"},
    ],
)
def test_any_text_is_printed_whatever_the_environment(text: Path, setting: dict[str, str]) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    tokenize = command("tokenize", ".", "--level", "char")
    done = subprocess.run(
        tokenize,
        cwd=text.parent,
        env={**kept, **setting, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "☃" in done.stdout.decode("utf-8")
    assert b"\x1b" not in done.stdout


def test_no_color_leaves_no_colour_even_where_colour_is_forced(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")  # rich keeps the codes of a style
    assert "\x1b" not in run("--help").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[36m" in run("--help").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in run("--help").out


def test_the_module_calls_itself_textgen() -> None:
    done = subprocess.run(command("trian"), capture_output=True, text=True, check=False)
    assert done.stderr == "textgen: error: no such command: trian; did you mean train?\n"
    assert done.returncode == 2
