"""``textgen``: the registry of commands, their help pages, and how the program ends."""

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from textgen import __version__
from textgen.cli import failures
from textgen.presentation import console

MAIN, FURTHER = "Commands", "Further commands"


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands, that is imported when it is called.

    Attributes:
        place: Its module and function, or its module alone for a group: the module then has
            ``HELP`` and ``COMMANDS``, pairs of a function and its examples.
        summary: The first sentence of its help, for the first help page.
        panel: Where the first help page lists it.
    """

    place: str
    summary: str
    panel: str = FURTHER

    def load(self, name: str) -> Any:
        """The command itself, as Typer makes it from the function."""
        module_name, _, function = self.place.partition(":")
        module = importlib.import_module(module_name)
        made = typer.Typer(cls=_PagedGroup, add_completion=False, invoke_without_command=True)
        if function:
            made.command(name, cls=_PagedCommand, epilog=module.EXAMPLES)(getattr(module, function))
        else:
            made.callback(help=module.HELP, epilog=module.EXAMPLES)(_show_group_help)
            for subcommand, examples in module.COMMANDS:
                made.command(subcommand.__name__, cls=_PagedCommand, epilog=examples)(subcommand)
        return typer.main.get_command(made)


COMMANDS = {
    "tokenize": Command(
        "textgen.cli.tokenize:tokenize",
        "Learn a tokenizer from text, and show its vocabulary.",
        MAIN,
    ),
    "train": Command("textgen.cli.train:train", "Train a recurrent language model on text.", MAIN),
    "sample": Command("textgen.cli.sample:sample", "Generate text with a trained model.", MAIN),
    "score": Command("textgen.cli.score:score", "Compute the probability of sentences.", MAIN),
    "predict": Command(
        "textgen.cli.predict:predict",
        "Show the most probable next tokens or words, or what fits into a blank (____).",
    ),
    "info": Command(
        "textgen.cli.info:info", "Show what a checkpoint contains and how it was trained."
    ),
    "serve": Command(
        "textgen.server.command:serve",
        "Answer requests for texts of a model, by the completions protocol of OpenAI.",
    ),
    "export": Command(
        "textgen.exports.command:export",
        "Write a model in the format of another program.",
    ),
    "compare": Command(
        "textgen.studies.compare.command:compare",
        "Train several models on the same text, and compare their losses.",
    ),
    "plot": Command(
        "textgen.studies.plots.command",
        "Plot the loss, gradients, memory, embeddings and single units of models.",
    ),
    "rerank": Command(
        "textgen.studies.rerank.command:rerank", "Rerank the hypotheses of n-best lists."
    ),
    "pairs": Command(
        "textgen.studies.pairs.command:pairs",
        "Count the minimal pairs whose good sentence is the more probable one.",
    ),
}
"""The commands by name, in the order of the first help page."""

_WIDEST = 100
_NARROW = 64
_LEFT_SHARE = 0.42


@dataclass(frozen=True)
class HelpEntry:
    """An argument, a command or an option, as help pages show it.

    Attributes:
        names: Its spellings, the shortest first.
        value: What stands for its value, such as ``FILE``; empty for a switch.
        text: What it means.
        remark: Its choices, its range and its default.
    """

    names: tuple[str, ...]
    value: str
    text: str
    remark: str = ""

    @property
    def label(self) -> Text:
        value = f" {self.value}" if self.value else ""
        return Text.assemble((", ".join(self.names), "accent"), (value, "label"))

    @property
    def meaning(self) -> Text:
        return Text.assemble(self.text, (f" [{self.remark}]" if self.remark else "", "faint"))


def _show_help(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the help page of a Typer command or group to stdout, at most 100 columns wide."""
    width = min(console.out_console().width, _WIDEST)
    panels = help_panels(command, ctx)
    longest = max(each.label.cell_len for entries in panels.values() for each in entries)
    left = min(longest, int(width * _LEFT_SHARE))
    parts: list[RenderableType] = [
        Padding(
            Text.assemble(("Usage: ", "label"), (usage_line(command, ctx), "heading")), (1, 1, 1, 1)
        ),
        Padding(_prose(command.help or ""), (0, 1)),
        Text(),
    ]
    for title, entries in panels.items():
        body = _stacked(entries) if width < _NARROW else _side_by_side(entries, left)
        panel = Panel(body, box.ROUNDED, title=title, title_align="left", border_style="faint")
        parts.append(panel)
    examples: list[RenderableType] = []
    if command.epilog:  # purposes and commands, which alternate line by line
        examples.append(Text(" Examples", style="heading"))
        for line in command.epilog.strip().splitlines():
            if "textgen " in line:  # never wrapped, so that it can be copied
                examples.append(Text(f"     {line.strip()}", style="accent", no_wrap=True))
            else:
                examples.append(Padding(Text(line.strip(), style="label"), (0, 1, 0, 3)))
    console.show(Group(*parts), *examples, widest=_WIDEST)


def usage_line(command: Any, ctx: Any) -> str:
    """How a command is typed, in one line."""
    return f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"


def help_panels(command: Any, ctx: Any) -> dict[str, list[HelpEntry]]:
    """The entries of each panel of a help page by its title: arguments, commands, then options."""
    panels: dict[str, list[HelpEntry]] = {"Arguments": []}
    for name, each in getattr(command, "commands", {}).items():
        entry = HelpEntry((name,), "", each.get_short_help_str(200))
        panels.setdefault(each.rich_help_panel or MAIN, []).append(entry)
    for param in command.get_params(ctx):
        if getattr(param, "hidden", False):
            continue
        if param.param_type_name == "argument":
            panels["Arguments"].append(HelpEntry((param.metavar,), "", param.help or ""))
        else:
            panels.setdefault(param.rich_help_panel or "Options", []).append(_option(param))
    return {title: entries for title, entries in panels.items() if entries}


def _option(param: Any) -> HelpEntry:
    # --no-... is shown only for switches with a default that the help describes.
    remark = param.show_default if isinstance(param.show_default, str) else ""
    names = (*sorted(param.opts, key=len), *(param.secondary_opts if remark else ()))
    return HelpEntry(names, "" if param.is_flag else param.metavar or "", param.help or "", remark)


def _prose(text: str) -> RenderableType:
    """Paragraphs, filled to the width; an indented one is kept line by line."""
    blocks: list[RenderableType] = []
    for paragraph in text.strip().split("\n\n"):
        kept = paragraph.startswith("  ")
        blocks += [Text(), Text(paragraph if kept else " ".join(paragraph.split()))]
    return Group(*blocks[1:])


def _side_by_side(entries: list[HelpEntry], left: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=left)
    table.add_column(ratio=1)
    for each in entries:
        table.add_row(each.label, each.meaning)
    return table


def _stacked(entries: list[HelpEntry]) -> RenderableType:
    parts = ((each.label, Padding(each.meaning, (0, 0, 0, 4))) for each in entries)
    return Group(*(part for pair in parts for part in pair))


class _Parsed:
    """The conversion of a parameter by its own parser; without one it is text, or a switch.

    Typer would convert all by Pydantic, whose import takes a third of the time from Enter to the
    first line. A Typer that has another place for the conversion ignores this one.
    """

    def __init__(self, param: Any) -> None:
        self._parse = param.type_descriptor.parameter_info.parser or (lambda value: value)
        self._is_list = param.multiple or param.nargs == -1

    def coerce(self, value: Any, **_: Any) -> Any:
        if value is None:
            return () if self._is_list else None
        return [self._parse(each) for each in value] if self._is_list else self._parse(value)


class _Paged:
    """A command or group with a help page of ours, and parameters that are ``_Parsed``."""

    format_help = _show_help

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in params:
            if getattr(each, "_runtime_param", ...) is None:
                each._runtime_param = _Parsed(each)
        return params


class _PagedGroup(_Paged, typer.core.TyperGroup):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["COMMAND", "[OPTIONS]"]


class _Registry(_PagedGroup):
    """The group of all commands, each of which is loaded when it is called."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return COMMANDS[cmd_name].load(cmd_name) if cmd_name in COMMANDS else None


class _PagedCommand(_Paged, typer.core.TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        params = self.get_params(ctx)
        arguments = [each.metavar or "" for each in params if each.param_type_name == "argument"]
        required = [
            f"{each.opts[0]} {each.metavar}"
            for each in params
            if each.param_type_name == "option" and each.required
        ]
        return [*arguments, *required, "[OPTIONS]"]


def _show_group_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app = typer.Typer(
    cls=_Registry,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.emit(f"textgen {__version__}\n")
        raise typer.Exit


@app.callback(
    epilog="""
    Train for ten minutes on your own text, then generate:
    textgen train mytext.txt --out checkpoints/mine
    textgen sample checkpoints/mine --prompt "Once upon a time"
    """
)
def textgen(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Train a recurrent language model on your own text, on your own machine; generate text with
    it, and compute the probability of sentences.
    """
    _show_group_help(ctx)


for _name, _command in COMMANDS.items():
    # A placeholder: the first help page imports no command.
    app.command(_name, help=_command.summary, rich_help_panel=_command.panel)(lambda: None)


def main(arguments: list[str] | None = None) -> int:
    """The console script. Returns the exit code; no error ends in a traceback without --debug."""
    # torch's threads wait for each other by spinning. If another program occupies one of the
    # cores, training can become many times slower. A short spin costs little on an idle
    # machine. torch reads the variable when it is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    command = typer.main.get_command(app)
    try:
        console.prepare_streams()
        if "_TEXTGEN_COMPLETE" in os.environ:
            command.main(arguments, "textgen")
        code = 0
        try:
            with (
                failures.cleaning_up(),
                console.warnings_as_notes(),
                command.make_context("textgen", list(arguments)) as ctx,
            ):
                command.invoke(ctx)
        except typer.Exit as end:  # as --help, --version and an interrupted run end
            code = end.exit_code
        console.finish_output()
        return code
    except BaseException as error:
        return failures.report(error, arguments, command)
    finally:
        failures.exit_quietly()
