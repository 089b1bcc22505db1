"""Options made from the fields of a configuration: name, help, default and check, one fact each."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer

from textgen.cli import parsing
from textgen.config import Config, field_type, flag

GIVEN = "given"
_SEVERAL = tuple[str, ...]  # the type of a field whose option may be given again and again

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def choice_option(
    name: str, choices: Any, help: str, *, panel: str | None = None, default: str | None = None
) -> Any:
    """An option that takes one word of a Literal type, or one key of a registry.

    default: what the help says of it; without it, the first word.
    """
    words = typing.get_args(choices) or tuple(choices)
    return typer.Option(
        name,
        parser=parsing.choice(name, words),
        metavar=_metavar(name),
        help=help,
        show_default=f"{', '.join(words)}; default: {default or words[0]}",
        rich_help_panel=panel,
    )


def command_options(
    *configs: type[Config], extra: Mapping[type[Config], tuple[str, ...]] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these configurations, and ``--debug``.

    Where the command has a parameter ``given``, it receives there a dict of the options that
    the person typed, and no others, by field name; so the defaults stay the library's, and a
    resumed run can tell what was asked for. They have been checked, one by one and together.

    extra: further configurations of which only some fields are options.
    """
    extra = extra or {}
    fields = {
        spec.name: (config, spec)
        for config in (*configs, *extra)
        for spec in dataclasses.fields(config)  # type: ignore[arg-type]
        if "help" in spec.metadata and (config in configs or spec.name in extra[config])
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(ctx: typer.Context, **values: Any) -> None:
            del values["debug"]  # main() has seen it
            if fields:
                typed = {name: values.pop(name) for name in fields}
                values[GIVEN] = {name: typed[name] for name in typed if _was_typed(ctx, name)}
                for config in (*configs, *extra):
                    config.from_options(values[GIVEN])
            command(**values)

        parameters = _parameters(command, fields)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _parameters(
    command: Callable[..., None], fields: Mapping[str, tuple[type[Config], Any]]
) -> list[inspect.Parameter]:
    """The command's own parameters, with those of the configurations in the place of ``given``."""
    parameters = [_parameter("ctx", typer.Context, inspect.Parameter.empty)]
    for own in inspect.signature(command).parameters.values():
        if own.name == GIVEN:
            parameters += [_field_parameter(config, spec) for config, spec in fields.values()]
        else:
            parameters.append(_parameter(own.name, own.annotation, own.default))
    parameters.append(_parameter("debug", DebugOption, False))
    return parameters


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _field_parameter(config: type[Config], spec: Any) -> inspect.Parameter:
    """The option of one field. Its default is None here: the configuration has the real one."""
    hint = field_type(config, spec.name)
    name = flag(spec.name)
    metadata = spec.metadata
    is_switch = hint is bool
    info = typer.Option(
        f"{name}/--no-{name.removeprefix('--')}" if is_switch else name,
        parser=None if is_switch else _parser(name, hint, metadata["parse"]),
        metavar=metadata["metavar"] or _metavar(name, hint),
        help=metadata["help"],
        show_default=_remark(hint, spec.default, metadata["shown"]) or False,
        rich_help_panel=metadata["panel"],
    )
    kind: Any = bool if is_switch else list[str] if hint == _SEVERAL else str
    return _parameter(spec.name, Annotated[kind | None, info], None)


def _parser(name: str, hint: Any, parse: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    if hint == _SEVERAL:
        return functools.partial(parsing.typed_text, name)
    if parse is not None or hint is str:
        return parsing.text
    if typing.get_origin(hint) is Literal:
        return parsing.choice(name, typing.get_args(hint))
    return parsing.whole_number(name) if hint is int else parsing.real_number(name)


def _metavar(name: str, hint: Any = None) -> str:
    """How the value of an option is called: ``--subword-model MODEL``, ``--steps N``."""
    kinds: dict[Any, str] = {int: "N", float: "X", str: "TEXT", _SEVERAL: "TEXT"}
    return kinds.get(hint) or name.rpartition("-")[2].upper()


def _remark(hint: Any, default: Any, shown: str | None) -> str:
    choices = list(typing.get_args(hint)) if typing.get_origin(hint) is Literal else []
    if shown is None and isinstance(default, float):
        shown = f"{default:g}"
    elif shown is None and default not in (None, False, ()):
        shown = str(default)
    parts = [", ".join(choices)] if choices else []
    return "; ".join(parts + ([f"default: {shown}"] if shown else []))


def _was_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
