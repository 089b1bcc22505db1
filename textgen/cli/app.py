"""``textgen``: the commands tied together, their help pages, and how the program ends."""

import os
import sys
from typing import Annotated, Any

import typer

from textgen import __version__
from textgen.cli import compare, failures, info, plot, predict, sample, score, tokenize, train
from textgen.presentation import console
from textgen.presentation.help import HelpPage, HelpRow, show_help

COMMANDS = "Commands"
AROUND = "Around them"


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
        panels.setdefault(each.rich_help_panel or COMMANDS, []).append(row)
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


app = typer.Typer(
    cls=_PagedGroup,
    add_completion=False,
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
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


for _module, _panel in (
    (tokenize, COMMANDS),
    (train, COMMANDS),
    (sample, COMMANDS),
    (score, COMMANDS),
    (compare, AROUND),
    (predict, AROUND),
    (info, AROUND),
):
    _name = _module.__name__.rpartition(".")[2]
    app.command(_name, cls=_PagedCommand, epilog=_module.EXAMPLES, rich_help_panel=_panel)(
        getattr(_module, _name)
    )

_plots = typer.Typer(cls=_PagedGroup, invoke_without_command=True)


@_plots.callback(help=plot.HELP, epilog=plot.EXAMPLES)
def _plot(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


for _command in plot.COMMANDS:
    _examples_of = sys.modules[_command.__module__].EXAMPLES
    _plots.command(_command.__name__, cls=_PagedCommand, epilog=_examples_of)(_command)
app.add_typer(_plots, name="plot", rich_help_panel=AROUND)


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
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
