"""The commands and files named in the documentation exist and work as written."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from textgen.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [
    *(README, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "corpora" / "README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
SHORT = ["--steps", "3", "--batch-size", "2", "--sequence-length", "8", "--threads", "1"]
TEXT = "".join(f"the {who} of Zürich was {how}.\n" for who in "abcdefgh" for how in ("ill", "well"))


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: Path, program: str) -> list[list[str]]:
    """The command lines of a page that call a program, without its name."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line[1:] for line in lines if line[:1] == [program]]


def shortened(arguments: list[str]) -> list[str]:
    """The same command, but training a small network for a few steps."""
    if arguments[0] not in ("train", "compare"):
        return arguments
    short = list(arguments)
    for option in ("--budget", "--epochs", "--steps"):
        if option in short:
            place = short.index(option)
            del short[place : place + 2]
    if "--resume" in short:
        return [*short, "--steps", "4"]
    if arguments[0] == "compare":
        return [*short, *SHORT, "--models", "lstm,rnn"]
    return [*short, *SHORT, "--hidden-size", "8"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a text in it."""
    (tmp_path / "mytext.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_readme_runs(folder: Path) -> None:
    typed = commands(README, "textgen")
    assert [arguments[0] for arguments in typed] == ["train", "sample", "score"]
    for arguments in typed:
        assert app.main(shortened(arguments)) == 0, arguments


@each_page
def test_every_command_of_every_page_is_accepted_by_the_parser(page: Path) -> None:
    for arguments in commands(page, "textgen"):
        command, rest = typer.main.get_command(app.app), arguments
        context = command.make_context("textgen", [], resilient_parsing=True)
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(context, rest)
            assert name is not None and command is not None, arguments
            context = command.make_context(name, list(rest), parent=context)


def test_the_python_example_runs(folder: Path) -> None:
    (example,) = blocks(ROOT / "docs" / "reference" / "python.md", "python")
    exec(example.replace('budget="10m", hidden_size=512', "steps=3, hidden_size=8"), {})


@each_page
def test_every_make_target_of_every_page_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target, *_ in commands(page, "make"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each_page
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = r"\b(?:benchmarks|corpora|tests)/[\w/.-]*\w\.(?:py|txt|json|md)\b"
    for path in re.findall(named, text):
        assert (ROOT / path).exists(), path
    if page.name == "ARCHITECTURE.md":
        for path in re.findall(r"`([a-z_]+/[\w/]*(?:\.py|/))`", text):
            assert (ROOT / path).exists() or (ROOT / "textgen" / path).exists(), path


@each_page
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in anchors, f"{path}#{anchor}"


def test_the_readme_has_at_most_120_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120
