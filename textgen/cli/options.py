"""Command-line options: made from the fields of configurations, parsed, shared by commands.

Name, help, default and check of an option are stated once, in the field.
"""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.config import (
    PRESETS,
    Config,
    Device,
    LogBase,
    ScoringPrecision,
    closest,
    field_type,
    flag,
)
from textgen.errors import UsageError

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

_LONGEST_SHOWN = 40


Parser = Callable[[Any], Any]


def whole_number(option: str, *, least: int | None = None) -> Parser:
    """A parser of integers, not below ``least``."""

    def parse(value: Any) -> int:
        number: int = _parser(option, "a whole number", int)(value)
        if least is not None and number < least:
            raise _invalid(option, f"at least {least}", value)
        return number

    return parse


def log_base(value: Any) -> float:
    """The base of logarithms: ``e`` or a number above 1."""
    base = math.e if value == "e" else float(value)
    if not (math.isfinite(base) and base > 1):
        raise ValueError(base)
    return base


def choice(option: str, choices: Sequence[str]) -> Parser:
    """A parser of one of several words; its error suggests a similar one."""

    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise _invalid(option, f"one of {', '.join(choices)}", value, closest(str(value), choices))

    return parse


def _parser(option: str, wanted: str, convert: Parser) -> Parser:
    """A parser that reports a ValueError of ``convert`` as an error of the option."""

    def parse(value: Any) -> Any:
        try:
            return convert(value)
        except ValueError:
            raise _invalid(option, wanted, value) from None

    return parse


def typed_text(option: str, value: str) -> str:
    """Text for the model, decoded as UTF-8 whatever the locale is."""
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise UsageError(f"{option} is not UTF-8: {value!r}") from None


def _invalid(option: str, wanted: str, value: Any, meant: str | None = None) -> UsageError:
    typed = str(value)
    if len(typed) > _LONGEST_SHOWN:
        typed = typed[: _LONGEST_SHOWN - 1] + "…"
    fix = f"did you mean {meant}?" if meant else None
    return UsageError(f"{option} must be {wanted}, got {typed!r}", fix=fix)


def value_option(
    name: str,
    metavar: str,
    help: str,
    *,
    panel: str | None = None,
    default: str | None = None,
    parser: Parser | None = None,
) -> Any:
    """An option that takes a value. default: as the help shows it."""
    shown = f"default: {default}" if default else False
    return typer.Option(
        name, metavar=metavar, help=help, parser=parser, show_default=shown, rich_help_panel=panel
    )


def choice_option(
    name: str, choices: Any, help: str, *, panel: str | None = None, default: str | None = None
) -> Any:
    """An option that takes one word of a Literal type, or one key of a registry.

    default: as the help shows it; without it, the first word.
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


TYPED = "typed"
_SEVERAL = tuple[str, ...]  # the type of a field whose option may be given several times

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def command_options() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of its configurations, and ``--debug``.

    A parameter whose type is a configuration stands for the options of its fields, and receives
    the configuration made from them: ``config: SamplingConfig``. ``Annotated[ScoringConfig,
    "open_vocabulary"]`` has that option alone. A field that an earlier configuration has too is
    one option. A parameter ``typed`` receives the names of the fields whose options were typed.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        configs: dict[str, type[Config]] = {}
        fields: dict[str, inspect.Parameter] = {}
        parameters = [_parameter("ctx", typer.Context, inspect.Parameter.empty)]
        for name, each in own.items():
            config, *names = _annotated(each.annotation)
            if isinstance(config, type) and issubclass(config, Config):
                configs[name] = config
                new = {n: p for n, p in _field_parameters(config, names) if n not in fields}
                fields |= new
                parameters += new.values()
            elif name != TYPED:
                parameters.append(_parameter(name, each.annotation, each.default))
        parameters.append(_parameter("debug", DebugOption, False))

        @functools.wraps(command)
        def run(ctx: typer.Context, **values: Any) -> None:
            del values["debug"]  # main() reads it from the arguments
            given = {name: values.pop(name) for name in fields}
            typed = {name: value for name, value in given.items() if _was_typed(ctx, name)}
            for name, config in configs.items():
                values[name] = config.from_options(typed)
            if TYPED in own:
                values[TYPED] = frozenset(typed)
            command(**values)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def typed_options(typed: frozenset[str], *configs: Config) -> dict[str, Any]:
    """The values of the options that were typed, by field name.

    The library fills in its defaults, and a resumed run those it was started with.
    """
    return {
        name: getattr(config, name)
        for config in configs
        for name in config.fields()
        if name in typed
    }


def _annotated(annotation: Any) -> tuple[Any, ...]:
    """The type, and what it is annotated with."""
    return (getattr(annotation, "__origin__", annotation), *getattr(annotation, "__metadata__", ()))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _field_parameters(
    config: type[Config], names: Sequence[str]
) -> Iterable[tuple[str, inspect.Parameter]]:
    """The options of the named fields, or of all that have a help text.

    Their defaults are None here: the configuration has the real ones.
    """
    for field, spec in config.fields().items():
        if "help" not in spec.metadata or (names and field not in names):
            continue
        hint, name, metadata = field_type(spec), flag(field), spec.metadata
        is_switch = hint is bool
        option = typer.Option(
            f"{name}/--no-{name.removeprefix('--')}" if is_switch else name,
            parser=None if is_switch else metadata["parse"] or _field_parser(name, hint),
            metavar=metadata["metavar"] or _metavar(name, hint),
            help=metadata["help"],
            show_default=_remark(hint, spec.default, metadata["shown"]) or False,
            rich_help_panel=metadata["panel"],
        )
        if hint == _SEVERAL:
            option.parser = functools.partial(typed_text, name)
        kind: Any = bool if is_switch else list[str] if hint == _SEVERAL else str
        yield field, _parameter(field, Annotated[kind | None, option], None)


def _field_parser(name: str, hint: Any) -> Parser:
    if typing.get_origin(hint) is Literal:
        return choice(name, typing.get_args(hint))
    if hint is int:
        return whole_number(name)
    return _parser(name, "a number", float) if hint is float else str


def _metavar(name: str, hint: Any = None) -> str:
    """The name of an option's value in the help: ``--subword-model MODEL``, ``--steps N``."""
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


def _expanded(preset: str) -> str:
    """A preset as the options that it stands for."""
    return f"{preset} is " + " ".join(
        f"{flag(name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in PRESETS[preset].items()
        if value is not False
    )


ErrorHandling = Literal["strict", "replace"]
_MACHINE, _READING = "Machine", "Reading"

Corpora = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CORPUS]...",
        help="Text files (gzip too) or folders of them; - is stdin. Default: the bundled stories.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="The folder that train wrote.")
]
DeviceOption = Annotated[
    Device, choice_option("--device", Device, "The device to compute on.", panel=_MACHINE)
]
ThreadsOption = Annotated[
    int | None,
    value_option(
        "--threads",
        "N",
        "Number of CPU threads.",
        panel=_MACHINE,
        default="all cores",
        parser=whole_number("--threads", least=1),
    ),
]
EncodingOption = Annotated[
    str,
    value_option(
        "--encoding", "NAME", "Encoding of the text files.", panel=_READING, default="utf-8"
    ),
]
ErrorsOption = Annotated[
    ErrorHandling,
    choice_option(
        "--errors",
        ErrorHandling,
        "What to do with bytes that are not valid in the encoding; replace puts U+FFFD for them"
        " and reports how many.",
        panel=_READING,
    ),
]
ValidOption = Annotated[
    str | None,
    value_option(
        "--valid", "FILE", "Hold out this text instead of the end of the corpus.", panel=_READING
    ),
]
PresetOption = Annotated[
    str | None,
    value_option(
        "--preset",
        "NAME",
        "A set of options: " + "; ".join(map(_expanded, PRESETS)) + ".",
        panel="Model",
        parser=choice("--preset", tuple(PRESETS)),
    ),
]
LogBaseOption = Annotated[
    LogBase,
    value_option(
        "--log-base",
        "BASE",
        "Base of the logarithms that are shown: e or a number above 1.",
        default="e",
        parser=_parser("--log-base", "e or a number above 1", log_base),
    ),
]
PrecisionOption = Annotated[
    ScoringPrecision,
    choice_option(
        "--precision",
        ScoringPrecision,
        "Arithmetic of scoring; bf16 is less accurate.",
        panel=_MACHINE,
    ),
]
JobsOption = Annotated[
    int,
    value_option(
        "--jobs",
        "N",
        "Number of processes, each with its own copy of the model, and its own GPU if there are"
        " several.",
        panel=_MACHINE,
        default="1",
        parser=whole_number("--jobs", least=1),
    ),
]


class TextFiles:
    """The text files of a command that scores, and the notes on reading them.

    Attributes:
        read: Yields the sentences of a file.
    """

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
    """Raise UsageError if the model gives no true probabilities, which the option needs."""
    if not model.is_causal:
        raise UsageError(
            f"{option} needs probabilities",
            where=model.path,
            why="a bidirectional model gives pseudo-log-probabilities",
            fix="use --format table, tsv or json, or textgen pairs",
        )
