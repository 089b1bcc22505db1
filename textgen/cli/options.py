"""Command-line options: made from configuration fields, parsed, and shared by commands.

Name, help, default and check of an option are stated once, in the field.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.config import closest
from textgen.errors import UsageError

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
from textgen.config import PRESETS, Config, Device, LogBase, field_type, flag

_LONGEST_SHOWN = 40


def whole_number(option: str, *, least: int | None = None) -> Callable[[Any], int]:
    """A parser of integers, not below ``least``."""

    def parse(value: Any) -> int:
        try:
            number = int(value)
        except ValueError:
            raise _not(option, "a whole number", value) from None
        if least is not None and number < least:
            raise _not(option, f"at least {least}", value)
        return number

    return parse


def real_number(option: str) -> Callable[[Any], float]:
    """A parser of numbers; whether nan or infinity will do is for the configuration to say."""

    def parse(value: Any) -> float:
        try:
            return float(value)
        except ValueError:
            raise _not(option, "a number", value) from None

    return parse


def log_base(option: str) -> Callable[[Any], float]:
    """A parser of the base of logarithms: ``e`` or a number above 1."""

    def parse(value: Any) -> float:
        try:
            base = math.e if value == "e" else float(value)
        except ValueError:
            base = math.nan
        if not (math.isfinite(base) and base > 1):
            raise _not(option, "e or a number above 1", value)
        return base

    return parse


def choice(option: str, choices: Sequence[str]) -> Callable[[Any], Any]:
    """A parser of one word out of a few, which suggests the one that was meant."""

    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise _not(option, f"one of {', '.join(choices)}", value, closest(str(value), choices))

    return parse


def text(value: Any) -> str:
    """What was typed, as it is: the configuration has its own way to read it."""
    return str(value)


def typed_text(option: str, value: str) -> str:
    """Text for the model, read as UTF-8 whatever the locale took it for."""
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise UsageError(f"{option} is not UTF-8: {value!r}") from None


def _not(option: str, wanted: str, value: Any, meant: str | None = None) -> UsageError:
    typed = str(value)
    if len(typed) > _LONGEST_SHOWN:
        typed = typed[: _LONGEST_SHOWN - 1] + "…"
    fix = f"did you mean {meant}?" if meant else None
    return UsageError(f"{option} must be {wanted}, got {typed!r}", fix=fix)


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
        parser=choice(name, words),
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
        return functools.partial(typed_text, name)
    if parse is not None or hint is str:
        return text
    if typing.get_origin(hint) is Literal:
        return choice(name, typing.get_args(hint))
    return whole_number(name) if hint is int else real_number(name)


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


ErrorHandling = Literal["strict", "replace"]
ScorePrecision = Literal["float32", "float64", "bf16"]


def _spelt(preset: str) -> str:
    """A preset as the options that it stands for."""
    return f"{preset} is " + " ".join(
        f"{flag(name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in PRESETS[preset].items()
        if value is not False
    )


Corpora = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CORPUS]...",
        help="Files or folders of text, gzip too, or - for stdin; without any, the bundled"
        " stories.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="The folder that train wrote.")
]
DeviceOption = Annotated[
    Device, choice_option("--device", Device, "Where to compute.", panel="Machine")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        parser=whole_number("--threads", least=1),
        metavar="N",
        help="Processor threads to use.",
        show_default="default: all cores",
        rich_help_panel="Machine",
    ),
]
EncodingOption = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="How the text files are encoded.",
        show_default="default: utf-8",
        rich_help_panel="Reading",
    ),
]
ErrorsOption = Annotated[
    ErrorHandling,
    choice_option(
        "--errors",
        ErrorHandling,
        "What to do with bytes that are not in the encoding; replace puts U+FFFD for them and"
        " says how many.",
        panel="Reading",
    ),
]
ValidOption = Annotated[
    str | None,
    typer.Option(
        "--valid",
        metavar="FILE",
        help="Hold out this text instead of the corpus's end.",
        show_default=False,
        rich_help_panel="Reading",
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        parser=choice("--preset", tuple(PRESETS)),
        metavar="NAME",
        help="Options that belong together: " + "; ".join(map(_spelt, PRESETS)) + ".",
        show_default=False,
        rich_help_panel="Model",
    ),
]
LogBaseOption = Annotated[
    LogBase,
    typer.Option(
        "--log-base",
        parser=log_base("--log-base"),
        metavar="BASE",
        help="The base of the logarithms that are shown: e or a number above 1.",
        show_default="default: e",
    ),
]
PrecisionOption = Annotated[
    ScorePrecision,
    choice_option(
        "--precision", ScorePrecision, "Arithmetic of scoring; bf16 is rough.", panel="Machine"
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        parser=whole_number("--jobs", least=1),
        metavar="N",
        help="Processes that share the work, each with a model; of GPUs each takes one.",
        show_default="default: 1",
        rich_help_panel="Machine",
    ),
]


def optional(name: str, metavar: str, help: str, *, panel: str | None = None) -> Any:
    """An option without a default."""
    return typer.Option(name, metavar=metavar, help=help, show_default=False, rich_help_panel=panel)


class TextFiles:
    """The text files of a command that scores, and what there is to note about them."""

    def __init__(self, encoding: str, errors: str) -> None:
        from textgen.data.text import Findings, sentences

        self._findings = Findings()
        self.read = functools.partial(
            sentences, encoding=encoding, errors=errors, findings=self._findings
        )

    def say_notes(self, model: "LanguageModel") -> None:
        """Write the notes on the files and on the model: last, so that an error stands alone."""
        from textgen.presentation import console

        for message in (*self._findings.notes(), *model.notes):
            console.note(message)


def refuse_pseudo(model: "LanguageModel", option: str) -> None:
    """Refuse an option that takes true probabilities, where a model has none."""
    if not model.is_causal:
        raise UsageError(
            f"{option} needs probabilities",
            where=model.path,
            why="what a model that reads both ways gives are pseudo-log-probabilities",
            fix="use --format table, tsv or json, or --pairs",
        )
