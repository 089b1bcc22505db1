"""The program as a whole: help, version, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from textgen import __version__
from textgen.cli.app import COMMANDS
from textgen.errors import CheckpointError, DivergedError, LockedError, ResourceError

CONFIGS = ("model", "options", "sampling", "scoring", "tokenizer", "training")
FIRST = ["tokenize", "train", "sample", "score"]


def test_help_shows_the_four_commands_first_and_what_surrounds_them_in_a_second_panel(
    run: Any,
) -> None:
    shown = run("--help")
    assert shown.code == 0
    assert shown.err == ""
    found = re.findall(r"╭─ ([A-Z][a-z ]+) ─|^│ ([a-z]+) ", shown.out, re.MULTILINE)
    assert [panel or name for panel, name in found] == [
        "Commands",
        *FIRST,
        "Around them",
        *(name for name in COMMANDS if name not in FIRST),
        "Options",
    ]


@pytest.mark.parametrize("arguments", [(), ("-h",)])
def test_no_arguments_and_h_show_the_help(run: Any, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).out == run("--help").out


def test_version_is_one_line(run: Any) -> None:
    shown = run("--version")
    assert (shown.code, shown.out, shown.err) == (0, f"textgen {__version__}\n", "")


def test_the_first_page_says_of_each_command_what_its_own_page_says() -> None:
    for name, command in COMMANDS.items():
        assert command.load(name).get_short_help_str(200) == command.summary


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_command_s_help_has_examples_and_fits_its_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run(command, "-h")
    assert shown.code == 0
    assert f"textgen {command}" in shown.out.partition("Examples")[2]
    assert max(map(len, shown.out.splitlines())) <= min(width, 100)


@pytest.mark.parametrize("command", COMMANDS)
def test_at_80_columns_no_example_is_broken_in_two(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    examples = run(command, "--help").out.partition("Examples\n")[2]
    commands = [line for line in examples.splitlines() if line.startswith("     ")]
    assert commands
    assert all("textgen " in line for line in commands)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"torch", "numpy", "pydantic"}),
        (["train", "--help"], {"torch", "numpy"}),
        (["compare", "--help"], {"torch", "numpy"}),
        (["tokenize", "a.txt", "--format", "json"], {"torch"}),
        (["train", "a.txt", "--out", "x", "--dropout", "2"], {"torch", "numpy"}),
        (["score", "x", "a.txt", "--text", "a"], {"torch", "numpy"}),
        (["info", "x"], {"torch"}),
    ],
)
def test_a_command_imports_no_more_than_it_needs(
    tmp_path: Any, arguments: list[str], unwanted: set[str]
) -> None:
    (tmp_path / "a.txt").write_text("a line\n" * 30, encoding="utf-8")
    program = (
        "import sys; from textgen.cli.app import main;"
        f"main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert unwanted.isdisjoint(done.stderr.split())


def test_the_first_help_page_imports_no_command() -> None:
    program = (
        "import sys; from textgen.cli.app import main; main(['--help']);"
        "print(*(m for m in sys.modules if m.startswith('textgen')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set(done.stderr.split()) == {
        "textgen",
        "textgen.cli",
        "textgen.cli.app",
        "textgen.cli.failures",
        "textgen.config",
        "textgen.errors",
        "textgen.presentation",
        "textgen.presentation.console",
        "textgen.presentation.help",
        *(f"textgen.config.{name}" for name in CONFIGS),
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "no such command: trian; did you mean train?"),
        (["train", "--learning-rat", "1"], "did you mean --learning-rate?"),
        (["sample", "x", "--temp", "1"], "did you mean --temperature?"),
        (["sample", "x", "-length", "5"], "no such option: -length; did you mean --length?"),
        (["train", "-rnn_size", "5"], "no such option: -rnn_size; did you mean --hidden-size?"),
        (["train", "--nlayers=2"], "did you mean --hidden-size N,N?"),
        (["sample", "x", "--start", "a"], "did you mean --prompt?"),
        (["train", "--out", "x", "--level", "wrod"], "did you mean word?"),
        (["--versoin"], "did you mean --version?"),
    ],
)
def test_a_typo_gets_a_suggestion(run: Any, arguments: list[str], said: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.lines) == 1
    assert ended.err.startswith("textgen: error: ")
    assert said in ended.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train"], "--out"),
        (["train", "--out"], "--out needs a value"),
        (["sample"], "CHECKPOINT"),
        (["score", "x", "a", "b"], "unexpected argument: b"),
        (["info", "x", "y\nz"], "y\\x0az"),
        (["train", "--out", "NEW", "--tie=3"], "--tie"),
        (["train", "--out", "NEW", "--steps", "many"], "--steps must be a whole number"),
        (["train", "--out", "NEW", "--batch-size", "1e309"], "--batch-size"),
        (["train", "--out", "NEW", "--batch-size", "0"], "--batch-size"),
        (["train", "--out", "NEW", "--batch-size", "9" * 5000], "--batch-size"),
        (["train", "--out", "NEW", "--learning-rate", "nan"], "--learning-rate"),
        (["train", "--out", "NEW", "--learning-rate", "1e309"], "--learning-rate"),
        (["train", "--out", "NEW", "--learning-rate", "-1"], "--learning-rate"),
        (["train", "--out", "NEW", "--dropout", "1"], "--dropout"),
        (["train", "--out", "NEW", "--budget", "soon"], "--budget"),
        (["train", "--out", "NEW", "--hidden-size", "5,x"], "--hidden-size"),
        (["train", "--out", "NEW", "--threads", "0"], "--threads"),
        (["train", "--out", "NEW", "--sample-every", "x"], "--sample-every"),
        (["sample", "x", "--temperature", "-1"], "--temperature"),
        (["sample", "x", "--top-p", "0"], "--top-p"),
        (["sample", "x", "--top-p", "nan"], "--top-p"),
        (["sample", "x", "--top-k", "0"], "--top-k"),
        (["score", "x", "--log-base", "1"], "--log-base must be e or a number above 1"),
        (["score", "x", "--log-base", "-2"], "--log-base"),
        (["score", "x", "--log-base", "nan"], "--log-base"),
        (["score", "x", "--log-base", "inf"], "--log-base"),
        (["score", "x", "--log-base", "1e309"], "--log-base"),
        (["score", "x", "--log-base", "pi"], "--log-base"),
        (["score", "x", "--format", "kenl"], "did you mean kenlm?"),
        (
            ["score", "x", "--format", "lm-zoo", "--level", "sentence"],
            "it has token, word, character",
        ),
        (["score", "x", "--format", "heatmap", "--level", "sentence"], "--level sentence"),
    ],
)
def test_an_argument_that_cannot_be_is_named_in_one_line_and_nothing_is_created(
    run: Any,
    library: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.lines) == 1
    assert named in ended.err
    assert len(ended.err) < 200
    assert library.calls == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        (["train", "--out", "x", "--steps", "3", "--epochs", "3"], ("--steps", "--epochs")),
        (["train", "--out", "x", "--resume", "--overwrite"], ("--resume", "--overwrite")),
        (["score", "x", "a.txt", "--text", "a"], ("FILE", "--text")),
        (["tokenize", "--tokenizer", "x", "--out", "y"], ("--tokenizer", "--out")),
        (["tokenize", "--tokenizer", "x", "--level", "word"], ("--tokenizer", "--level")),
        (["tokenize", "--print", "ids"], ("--print", "--tokenizer")),
    ],
)
def test_options_in_conflict_are_both_named(
    run: Any, library: Any, arguments: list[str], both: tuple[str, str]
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert all(name in ended.err for name in both)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ResourceError("cannot read", where="a b", why="gone"), 1),
        (CheckpointError("damaged"), 3),
        (DivergedError("diverged"), 4),
        (LockedError("in use"), 5),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
        (OSError(28, "No space left on device", "x/y"), 1),
        (ValueError("surprise"), 1),
    ],
)
def test_every_end_has_its_exit_code_and_at_most_one_line(
    run: Any, library: Any, error: BaseException, code: int
) -> None:
    library.fail = error
    ended = run("sample", "x")
    assert (ended.code, ended.out) == (code, "")
    assert len(ended.lines) == (0 if code == 130 else 1)


def test_out_of_memory_names_the_settings_to_lower(run: Any, library: Any) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    for error in (
        MemoryError(),
        OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        RuntimeError("std::bad_alloc"),
    ):
        library.fail = error
        ended = run("train", "a", "--out", "x")
        assert ended.code == 1
        for setting in ("--batch-size", "--hidden-size", "--sequence-length"):
            assert setting in ended.err


def test_an_unexpected_error_shows_its_traceback_only_with_debug(run: Any, library: Any) -> None:
    library.fail = ZeroDivisionError("surprise")
    quiet = run("sample", "x")
    assert "Traceback" not in quiet.err
    assert "--debug" in quiet.err
    loud = run("sample", "x", "--debug")
    assert "Traceback" in loud.err
    assert loud.lines[-1].startswith("textgen: error: ")
    assert loud.code == quiet.code == 1


def test_what_comes_after_two_dashes_is_no_option(run: Any, library: Any) -> None:
    library.fail = ZeroDivisionError("surprise")
    assert "Traceback" not in run("sample", "--", "--debug").err
    assert library.calls["load"]["path"] == "--debug"


def test_escape_codes_in_an_error_are_shown_escaped(run: Any) -> None:
    ended = run("info", "no\x1b[31msuch")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert r"no\x1b[31msuch" in ended.err
