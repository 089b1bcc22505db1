"""The program as a whole: help, version, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from textgen import __version__
from textgen.cli.app import COMMANDS
from textgen.errors import CheckpointError, DivergedError, LockedError, ResourceError

ROOT = Path(__file__).resolve().parents[2]
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
        "Further commands",
        *(name for name in COMMANDS if name not in FIRST),
        "Options",
    ]


@pytest.mark.parametrize("arguments", [(), ("-h",)])
def test_no_arguments_and_h_show_the_help(run: Any, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).out == run("--help").out


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_one_line(run: Any, option: str) -> None:
    shown = run(option)
    assert (shown.code, shown.out, shown.err) == (0, f"textgen {__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("train",), ("plot", "loss")])
def test_help_before_a_command_is_its_help_page(run: Any, words: tuple[str, ...]) -> None:
    assert run("help", *words).out == run(*words, "--help").out != ""


def test_quiet_leaves_results_warnings_and_errors_and_verbose_names_the_checkpoint(
    run: Any, library: Any
) -> None:
    usual, quiet, verbose = (run("sample", "x", *each) for each in ([], ["-q"], ["--verbose"]))
    assert usual.out == quiet.out == verbose.out != ""
    assert usual.lines == quiet.lines == []
    assert verbose.lines == ["note: reading checkpoints/x/best"]
    assert run("sample", "x", "--prompt", "?").lines != []
    assert run("sample", "x", "--prompt", "?", "--quiet").lines == []
    assert run("train", "a", "--out", "x").lines != []
    assert run("train", "a", "--out", "x", "-q").lines == []
    assert "cannot both be given" in run("sample", "x", "-q", "-v").err
    library.fail = ResourceError("cannot read")
    assert run("sample", "x", "--quiet").lines == ["textgen: error: cannot read"]


PAUSES = {"typer": ["--help"], "torch": ["sample", "MODEL"]}


@pytest.mark.parametrize("imported", PAUSES)
def test_ctrl_c_during_an_import_ends_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: str
) -> None:
    interrupt = (
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)\n"
    )
    (tmp_path / f"{imported}.py").write_text(interrupt, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    script = "import sys; from textgen.__main__ import main; sys.exit(main())"
    for program in (["-m", "textgen"], ["-c", script]):
        command = [sys.executable, *program, *PAUSES[imported]]
        ended = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_program_is_the_module_that_survives_ctrl_c() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"textgen": "textgen.__main__:main"}


def test_the_first_page_says_of_each_command_what_its_own_page_says() -> None:
    for name, command in COMMANDS.items():
        assert command.load(name).get_short_help_str(200) == command.summary


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_command_s_help_fits_its_terminal_and_its_examples_are_never_broken(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run(command, "-h")
    assert shown.code == 0
    page, _, examples = shown.out.partition("Examples")
    assert max(map(len, page.splitlines())) <= min(width, 100)
    commands = [line for line in examples.splitlines() if line.startswith("     ")]
    assert f"textgen {command}" in commands[0]
    assert all("textgen " in line and len(line) <= 80 for line in commands)


LIGHT = [
    *(["train", "--help"], ["compare", "--help"]),
    ["train", "a.txt", "--out", "x", "--dropout", "2"],
    ["score", "x", "a.txt", "--text", "a"],
]
WITHOUT_TORCH = [["tokenize", "a.txt", "--format", "json"], ["info", "x"]]
SIZES = ["--hidden-size", "8", "--batch-size", "2", "--sequence-length", "8", "--budget", "1s"]
WITHOUT_COMPILER = [
    ["train", "a.txt", "--out", "x", *SIZES],
    ["sample", "x", "--length", "5"],
    ["score", "x", "--text", "a line"],
]


@pytest.mark.parametrize(
    ("commands", "unwanted"),
    [
        (LIGHT, {"torch", "numpy", "pydantic"}),
        (WITHOUT_TORCH, {"torch", "pydantic"}),
        (WITHOUT_COMPILER, {"torch._dynamo", "torch._inductor", "sympy", "pydantic"}),
    ],
)
def test_a_command_imports_no_more_than_it_needs(
    tmp_path: Any, commands: list[list[str]], unwanted: set[str]
) -> None:
    (tmp_path / "a.txt").write_text("a line\n" * 30, encoding="utf-8")
    for command, imported in zip(commands, _imported(tmp_path, commands), strict=True):
        assert unwanted.isdisjoint(imported), command


def _imported(folder: Path, commands: list[list[str]]) -> list[set[str]]:
    """The modules that are loaded after each of these commands in one process."""
    program = (
        "import sys; from textgen.cli.app import main\n"
        f"for each in {commands!r}: main(each); print('modules', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    return [set(line.split()[1:]) for line in lines if line.startswith("modules ")]


def test_the_first_help_page_imports_no_command(tmp_path: Path) -> None:
    (imported,) = _imported(tmp_path, [["--help"]])
    assert imported.isdisjoint({"torch", "numpy", "pydantic"})
    assert {name for name in imported if name.startswith("textgen")} == {
        "textgen",
        "textgen.cli",
        "textgen.cli.app",
        "textgen.cli.failures",
        "textgen.config",
        "textgen.errors",
        "textgen.presentation",
        "textgen.presentation.console",
        "textgen.registration",
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
        (["version"], "no such command: version; did you mean textgen --version?"),
        (["generate", "x"], "did you mean textgen sample?"),
        (["help", "trian"], "no such command: trian; did you mean train?"),
        (["sample", "x", "-p", "a"], "no such option: -p; did you mean --prompt?"),
        (["sample", "x", "-n", "5"], "no such option: -n; did you mean --length or --count?"),
        (["train", "-quiet"], "no such option: -quiet; did you mean --quiet?"),
        (["train", "--output", "x"], "did you mean --out or --format?"),
        (["train", "--seeds", "3"], "no such option: --seeds; did you mean --seed?"),
        (["info", "x", "--json"], "did you mean --format json?"),
        (["train", "-V"], "no such option: -V; textgen has -V"),
        (["train", "--tempurature", "1"], "--tempurature; textgen sample has --temperature"),
        (["train", "-p", "a"], "no such option: -p; textgen sample has --prompt"),
        (["train", "--words"], "textgen predict, textgen plot embeddings have --words"),
        (["plot", "--x", "tokens"], "no such option: --x; textgen plot loss has --x"),
    ],
)
def test_a_typo_gets_a_suggestion(run: Any, arguments: list[str], said: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.lines) == 1
    assert ended.err.startswith("textgen: error: ")
    assert said in ended.err


BASES = ["-2", "nan", "inf", "1e309", "pi"]
NOT_TYPED = [
    *(["--count", "3"], ["--format", "json"], ["--prompt", "-"]),
    *(["--novelty"], ["--min-novelty", "0.5"], ["--corpus", "x"]),
]
EMPTY = [
    *(["train", "--out"], ["train", "--init-from"], ["train", "--valid"], ["score", "x", "--html"]),
    *(
        ["sample", "x", "--prompt-file"],
        ["tokenize", "--tokenizer"],
        ["plot", "loss", "x", "--out"],
    ),
]
TRAIN, SAMPLE, SCORE = ["train", "--out", "NEW"], ["sample", "x"], ["score", "x"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "--out"),
        (["train", "--out"], "--out needs a value"),
        (["sample"], "CHECKPOINT"),
        (["info", "x", "y\nz"], "y\\x0az"),
        ([*TRAIN, "--tie=3"], "--tie"),
        ([*TRAIN, "--steps", "many"], "--steps must be a whole number"),
        ([*TRAIN, "--batch-size", "1e309"], "--batch-size"),
        ([*TRAIN, "--batch-size", "9" * 5000], "--batch-size"),
        ([*TRAIN, "--threads", "0"], "--threads"),
        ([*TRAIN, "--sample-every", "x"], "--sample-every"),
        (["tokenize", "--tokenizer", "x", "--out", "y"], "--tokenizer and --out cannot both"),
        (["tokenize", "--tokenizer", "x", "--level", "word"], "--tokenizer and --level cannot"),
        (["tokenize", "--print", "ids"], "--print needs --tokenizer"),
        ([*SAMPLE, "--temperature", "hot"], "not a temperature: 'hot'"),
        ([*SAMPLE, "--prompt-file", "y", "--prompt", "z"], "--prompt and --prompt-file cannot"),
        *(([*SAMPLE, "-i", *each], f"--interactive and {each[0]}") for each in NOT_TYPED),
        ([*SAMPLE, "-i", "--beams", "3"], "--interactive and --beams cannot both be given"),
        ([*SCORE, "a", "b"], "unexpected argument: b"),
        ([*SCORE, "a.txt", "--text", "a"], "FILE and --text cannot both be given"),
        ([*SCORE, "--pairs", "p"], "the command pairs now; textgen pairs CHECKPOINT FILE"),
        ([*SCORE, "--nbest", "n"], "the command rerank now; textgen rerank CHECKPOINT FILE"),
        ([*SCORE, "--by", "UID"], "--by applies to --words only"),
        ([*SCORE, "--log-base", "1"], "--log-base must be e or a number above 1"),
        *(([*SCORE, "--log-base", each], "--log-base") for each in BASES),
        ([*SCORE, "--format", "kenl"], "did you mean kenlm?"),
        ([*SCORE, "--format", "lm-zoo", "--level", "sentence"], "it has token, word, character"),
        ([*SCORE, "--format", "heatmap", "--level", "sentence"], "has no --level sentence"),
        ([*SCORE, "--jobs", "0"], "--jobs must be at least 1"),
        ([*SCORE, "--adapt", "--prefix", "a"], "--adapt and --prefix cannot both be given"),
        ([*SCORE, "--adapt", "--jobs", "2"], "--adapt and --jobs cannot both be given"),
        ([*SCORE, "--adapt", "--context", "sentence"], "--adapt and --context sentence cannot"),
        *(([*each, ""], f"{each[-1]} is empty") for each in EMPTY),
        (["sample", ""], "CHECKPOINT is empty"),
        ([*SAMPLE, "Hello"], "unexpected argument: Hello; did you mean --prompt?"),
        (["predict", "x", "the", "cat"], "quote a text that has spaces"),
        ([*SCORE, "a.txt", "b.txt"], "unexpected argument: b.txt"),
        ([*TRAIN, "--model", "LSTM"], "did you mean lstm?"),
        ([*TRAIN, "--device", "gpu"], "did you mean cuda?"),
        ([*TRAIN, "--precision", "fp32"], "did you mean float32?"),
        (["plot", "x"], "no such command: x; there are loss, gradient, memory"),
        (["publish", "x"], "no such command: publish; see textgen --help"),
    ],
)
def test_an_argument_that_cannot_be_is_named_in_one_line_and_nothing_is_created(
    run: Any,
    library: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.lines) == 1
    assert said in ended.err
    assert len(ended.err) < 200
    assert library.calls == {}
    assert list(tmp_path.iterdir()) == []


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


def test_a_sentence_in_the_place_of_a_file_is_told_where_to_go(run: Any, library: Any) -> None:
    ended = run("score", "x", "The dog barks.")
    assert (ended.code, library.calls) == (1, {})
    assert (
        "no such file (The dog barks.); check the path, or give a sentence after --text"
        in ended.err
    )
