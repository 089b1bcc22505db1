"""``textgen``: the registry of commands, their help pages, and how the program ends."""

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from textgen import __version__
from textgen.cli import failures
from textgen.presentation import console
from textgen.presentation.help import HelpPage, HelpRow, show_help

MAIN = "Commands"
FURTHER = "Around them"
_COMPLETING = "_TEXTGEN_COMPLETE"


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands, that is imported when it is called.

    Attributes:
        place: Its module and function, or its module alone for a group: the module then has
            ``HELP`` and ``COMMANDS``, pairs of a function and its examples.
        panel: Where the first help page lists it.
        summary: What the first help page says about it: the first sentence of its help.
    """

    place: str
    panel: str
    summary: str

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
        MAIN,
        "Learn how text becomes tokens, and see what was learned.",
    ),
    "train": Command("textgen.cli.train:train", MAIN, "Train a recurrent language model on text."),
    "sample": Command("textgen.cli.sample:sample", MAIN, "Let a trained model write text."),
    "score": Command("textgen.cli.score:score", MAIN, "Say how probable sentences are."),
    "predict": Command(
        "textgen.cli.predict:predict",
        FURTHER,
        "Show what may come next, or what may stand in a ____, and how probable it is.",
    ),
    "info": Command("textgen.cli.info:info", FURTHER, "Show what a checkpoint is."),
    "compare": Command(
        "textgen.studies.compare.command:compare",
        FURTHER,
        "Train several models alike on the same text, and compare what they reach.",
    ),
    "plot": Command(
        "textgen.studies.plots.command",
        FURTHER,
        "Plot what a model learned, and how: its loss, its gradient, its memory, its embeddings,"
        " its units.",
    ),
    "rerank": Command(
        "textgen.studies.rerank.command:rerank",
        FURTHER,
        "Rerank the hypotheses of n-best lists.",
    ),
    "pairs": Command(
        "textgen.studies.pairs.command:pairs",
        FURTHER,
        "Count the minimal pairs whose good sentence is the more probable one.",
    ),
}
"""The commands by name, in the order of the first help page. A new one is a line here."""


def _examples(epilog: str | None) -> tuple[tuple[str, str], ...]:
    """The examples of an epilog: lines that say what for, and commands in lines below them."""
    examples, purpose = [], ""
    for line in (epilog or "").strip().splitlines():
        if "textgen " in line:
            examples.append((purpose, line.strip()))
            purpose = ""
        else:
            purpose = line.strip()
    return tuple(examples)


def _help_page(command: Any, ctx: Any) -> HelpPage:
    """A command's help page from what Typer knows of it."""
    panels: dict[str, list[HelpRow]] = {}
    for name in getattr(command, "commands", {}):
        each = command.commands[name]
        row = HelpRow(name, "", each.get_short_help_str(200))
        panels.setdefault(each.rich_help_panel or MAIN, []).append(row)
    for param in command.get_params(ctx):
        if not getattr(param, "hidden", False):
            argument = param.param_type_name == "argument"
            panel = param.rich_help_panel or ("Arguments" if argument else "Options")
            panels.setdefault(panel, []).append(_argument(param) if argument else _option(param))
    arguments = panels.pop("Arguments", None)
    ordered = {"Arguments": arguments, **panels} if arguments else panels
    return HelpPage(
        usage=f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}",
        text=command.help or "",
        panels=tuple((title, tuple(rows)) for title, rows in ordered.items()),
        examples=_examples(command.epilog),
    )


def _argument(param: Any) -> HelpRow:
    return HelpRow(param.metavar, "", param.help or "")


def _option(param: Any) -> HelpRow:
    # A switch that is off shows only how to turn it on; --no-... is for the undecided ones.
    undecided = isinstance(param.show_default, str)
    names = [*sorted(param.opts, key=len), *(param.secondary_opts if undecided else [])]
    remark = param.show_default if isinstance(param.show_default, str) else ""
    value = "" if param.is_flag else (param.metavar or "")
    return HelpRow(", ".join(names), value, param.help or "", remark)


class _PagedGroup(typer.core.TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        show_help(_help_page(self, ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["COMMAND", "[OPTIONS]"]


class _Registry(_PagedGroup):
    """The group of all commands, each of which is loaded when it is called."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return COMMANDS[cmd_name].load(cmd_name) if cmd_name in COMMANDS else None


class _PagedCommand(typer.core.TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        show_help(_help_page(self, ctx))

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


def _say_version(wanted: bool) -> None:
    if wanted:
        console.emit(f"textgen {__version__}\n")
        raise typer.Exit


@app.callback(
    epilog="""
    Train for ten minutes on your own text, then let it write:
    textgen train mytext.txt --out checkpoints/mine
    textgen sample checkpoints/mine --prompt "Once upon a time"
    """
)
def textgen(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Say which it is."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
) -> None:
    """Train a recurrent language model on your own text, on your own machine; then let it write,
    and let it say how probable a sentence is.
    """
    _show_group_help(ctx)


for _name, _command in COMMANDS.items():
    # It stands for the command on the help page, which imports none of them.
    app.command(_name, help=_command.summary, rich_help_panel=_command.panel)(lambda: None)


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    if _COMPLETING in os.environ:  # a shell asks what may come next
        command.main(arguments, "textgen")
    try:
        with command.make_context("textgen", list(arguments)) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:  # as --help, --version and an interrupted run end
        return end.exit_code
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The console script. Returns the exit code; whatever happens, there is no traceback."""
    # torch's threads wait for each other by spinning. Where another program has one of the
    # cores they spin in vain, and training can become many times slower. A short spin costs
    # little on a quiet machine. It is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        console.prepare_streams()
        code = _run(arguments)
        console.finish_output()
        return code
    except BaseException as error:
        return failures.report(error, arguments)
    finally:
        failures.exit_quietly()
