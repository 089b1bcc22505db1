"""The site has every page, and its references have every command and option."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import commands
import pytest
import typer

from textgen.cli.app import COMMANDS, app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference" / "commands.md"


def spellings(command: Any = None, name: str = "textgen") -> dict[str, set[str]]:
    """Of each command and subcommand the options that its help shows, as they are typed."""
    command = command or typer.main.get_command(app)
    context = typer.Context(command, info_name=name)
    shown = [each for each in command.get_params(context) if not getattr(each, "hidden", False)]
    found = {name: {word for each in shown for word in each.opts if word.startswith("-")}}
    for below in getattr(command, "commands", {}):
        found |= spellings(command.get_command(context, below), f"{name} {below}")
    return found


SPELLINGS = spellings()


def test_every_page_is_in_the_navigation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = settings.partition("\nnav:\n")[2].partition("\ntheme:")[0]
    listed = re.findall(r"- (?:[^:\n]*: )?(\S+\.md)$", navigation, re.MULTILINE)
    hooks = (DOCS / "_tools" / "hooks.py").read_text(encoding="utf-8")
    outside = set(re.findall(r'^    "[^"]*\.md": "([^"]*)"', hooks, re.MULTILINE))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages | outside


def test_every_command_has_its_section_and_its_row_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)\n\n<!-- options of \1 -->$", text, re.MULTILINE) == [*COMMANDS]
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_of_a_command_has_every_option_of_it(name: str) -> None:
    page = commands.options_page(name)
    for command, words in SPELLINGS.items():
        if command == f"textgen {name}" or command.startswith(f"textgen {name} "):
            assert f"\n{command} " in page
            assert words and all(re.search(rf"(?<![\w-]){word}(?![\w-])", page) for word in words)


def test_the_reference_has_the_choices_and_the_default_of_an_option() -> None:
    assert "&#91;auto, cpu, cuda, mps; default: auto&#93;" in commands.options_page("train")


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="textgen trein"):
        commands.options_page("trein")


def test_the_reference_has_every_exit_code() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert codes == [*commands.exit_codes()] == [0, 1, 2, 3, 4, 5, 130]


def test_the_man_page_is_that_of_the_present_options() -> None:
    """If not: make man."""
    assert commands.MAN_PAGE.read_text(encoding="utf-8") == commands.man_page()


def test_the_man_page_has_every_command_and_option() -> None:
    sections = re.split(r"^\.SH ", commands.man_page(), flags=re.MULTILINE)
    by_title = {section.partition("\n")[0]: section for section in sections}
    for command, words in SPELLINGS.items():
        section = by_title["OPTIONS" if command == "textgen" else command.upper()]
        assert words <= set(re.findall(r"\\fB(\S+)\\fR", section.replace("\\-", "-")))


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")
def test_groff_sets_the_man_page_without_a_warning() -> None:
    command = ["groff", "-man", "-ww", "-Tutf8", "-Kutf8", str(commands.MAN_PAGE)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--checkpoint-at" in re.sub(r".\x08|\x1b\[[0-9;]*m", "", ended.stdout)


def test_a_line_of_the_man_page_that_begins_with_a_dot_is_no_request() -> None:
    assert commands._roff(".new\n-x\\") == "\\&.new\n\\-x\\e"
