"""The options of every command, read from the command line itself.

    python docs/_tools/commands.py    writes the man page, docs/reference/textgen.1

``hooks.py`` puts ``options_page`` into the page on the commands when the site is built.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import typer

from textgen import __version__, errors
from textgen.cli.app import HelpEntry, app, help_panels, usage_line

MAN_PAGE = Path(__file__).resolve().parents[1] / "reference" / "textgen.1"
INTERRUPTED = 130


@dataclass(frozen=True)
class Described:
    """A command as its help page shows it.

    Attributes:
        name: As it is typed, such as ``textgen plot loss``.
        panels: Its arguments, subcommands and options, by the title of their panel.
        examples: Pairs of what an example does, and its command line.
    """

    name: str
    usage: str
    prose: str
    panels: dict[str, list[HelpEntry]]
    examples: list[tuple[str, str]]


def described(command: Any = None, context: Any = None) -> Iterator[Described]:
    """The program, then each of its commands, then theirs."""
    command = command or typer.main.get_command(app)
    context = context or typer.Context(command, info_name="textgen")
    lines = [line.strip() for line in (command.epilog or "").strip().splitlines()]
    yield Described(
        context.command_path,
        usage_line(command, context),
        command.help or "",
        help_panels(command, context),
        list(_examples(lines)),
    )
    for name in getattr(command, "commands", {}):
        each = command.get_command(context, name)
        yield from described(each, typer.Context(each, info_name=name, parent=context))


def _examples(lines: list[str]) -> Iterator[tuple[str, str]]:
    purpose = ""
    for is_command, group in groupby(lines, lambda line: "textgen " in line):
        if is_command:
            yield purpose, "\n".join(group)
        else:
            purpose = " ".join(group)


def paragraphs(prose: str) -> Iterator[tuple[str, bool]]:
    """The paragraphs of a help text, and whether the lines of each stay as they are."""
    for paragraph in prose.strip("\n").split("\n\n"):
        kept = paragraph.startswith("  ")
        yield paragraph if kept else " ".join(paragraph.split()), kept


# Markdown


def options_page(name: str) -> str:
    """What the site says of a command, given without ``textgen``, and of its own commands."""
    full = f"textgen {name}"
    commands = [
        each for each in described() if each.name == full or each.name.startswith(f"{full} ")
    ]
    if not commands:
        raise ValueError(f"there is no command {full}")
    return "\n\n".join(part for each in commands for part in _markdown(each, each.name != full))


def _markdown(command: Described, is_subcommand: bool) -> Iterator[str]:
    identity = command.name.removeprefix("textgen ").replace(" ", "-")
    level = "####" if is_subcommand else "###"
    if is_subcommand:
        yield f"### {command.name.removeprefix('textgen ')} {{ #{identity} }}"
    yield f"```text\n{command.usage}\n```"
    for paragraph, kept in paragraphs(command.prose):
        yield f"```text\n{paragraph}\n```" if kept else _inline(paragraph)
    for purpose, lines in command.examples:
        yield f"{_inline(purpose)}\n\n```sh\n{lines}\n```"
    for title, entries in command.panels.items():
        yield f"{level} {title} {{ #{identity}-{title.lower().replace(' ', '-')} }}"
        for entry in entries:
            remark = f" [{entry.remark}]" if entry.remark else ""
            name = entry.names[-1].strip("-[].").lower()
            label = f"`{', '.join(entry.names)}{' ' * bool(entry.value)}{entry.value}`"
            is_command = entry.names[0].isalpha() and entry.names[0].islower()
            term = (
                f"[{label}](#{identity}-{name})"
                if is_command
                else f"{label}{{ #{identity}--{name} }}"
            )
            yield f"{term}\n:   {_inline(entry.text + remark)}"


def _inline(text: str) -> str:
    """Plain text as Markdown, in which the names of options are code."""
    plain = re.sub(r"[\\`*_{}\[\]<>#|$&~^]", lambda match: f"&#{ord(match[0])};", text)
    return re.sub(r"(?<![\w-])--[a-z][a-z-]*", r"`\g<0>`", plain)


# The man page


def man_page() -> str:
    """The source of ``textgen.1``."""
    program, *commands = described()
    summary = program.prose.split(". ")[0].split("; ")[0]
    lines = [
        f'.TH TEXTGEN 1 "" "textgen {__version__}" "User Commands"',
        *(".SH NAME", f"textgen \\- {_roff(' '.join(summary.split()))}"),
        *(".SH SYNOPSIS", f".B {_roff(program.usage)}"),
        *(".SH DESCRIPTION", *_prose(program)),
    ]
    for title, entries in program.panels.items():
        lines += [f".SH {title.upper()}", *_entries(entries)]
    for command in commands:
        lines += [f".SH {command.name.upper()}", ".PP", f".B {_roff(command.usage)}"]
        lines += _prose(command)
        for title, entries in command.panels.items():
            lines += [f".SS {title}", *_entries(entries)]
    lines += [".SH EXIT STATUS"]
    for code, meaning in exit_codes().items():
        lines += [".TP", f".B {code}", _roff(meaning)]
    return "\n".join(lines) + "\n"


def exit_codes() -> dict[int, str]:
    """What each exit code of the program means."""
    classes = errors.TextgenError.__subclasses__()
    own = {each.exit_code: each.__doc__ or "" for each in classes if "exit_code" in vars(each)}
    return {0: "Success.", **dict(sorted(own.items())), INTERRUPTED: "Interrupted; a run is saved."}


def _prose(command: Described) -> Iterator[str]:
    for paragraph, kept in paragraphs(command.prose):
        yield from (".PP", *([".nf", _roff(paragraph), ".fi"] if kept else [_roff(paragraph)]))
    for purpose, lines in command.examples:
        yield from (".PP", _roff(purpose), ".PP", ".RS 4", ".nf", _roff(lines), ".fi", ".RE")


def _entries(entries: list[HelpEntry]) -> Iterator[str]:
    for entry in entries:
        names = ", ".join(rf"\fB{_roff(name)}\fR" for name in entry.names)
        value = rf" \fI{_roff(entry.value)}\fR" if entry.value else ""
        remark = f" [{entry.remark}]" if entry.remark else ""
        yield from (".TP", names + value, _roff(entry.text + remark))


def _roff(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


if __name__ == "__main__":
    MAN_PAGE.write_text(man_page(), encoding="utf-8")
