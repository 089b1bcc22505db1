"""Command-line options: made from the fields of configurations, parsed, shared by commands.

Name, help, default and check of an option are stated once, in the field.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.config import (
    PRESETS,
    Bounds,
    Config,
    Device,
    LogBase,
    ScoringPrecision,
    field_type,
    flag,
    shortened,
    suggestion,
)
from textgen.errors import UsageError, not_both
from textgen.presentation import console

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

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
        fix = suggestion(str(value), choices)
        raise _invalid(option, f"one of {', '.join(choices)}", value, fix)

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


def _invalid(option: str, wanted: str, value: Any, fix: str | None = None) -> UsageError:
    return UsageError(f"{option} must be {wanted}, got {shortened(str(value))}", fix=fix)


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


def number_option(
    name: str, help: str, *, default: object, least: int = 1, panel: str | None = None
) -> Any:
    """An option that takes a whole number. default: as the help shows it."""
    parser = whole_number(name, least=least)
    return value_option(name, "N", help, panel=panel, default=str(default), parser=parser)


def choice_option(name: str, choices: Any, help: str, *, panel: str | None = None) -> Any:
    """An option that takes one word of a Literal type, or key of a registry; else the first."""
    words = typing.get_args(choices) or tuple(choices)
    return typer.Option(
        name,
        parser=choice(name, words),
        metavar=_metavar(name),
        help=help,
        show_default=f"{', '.join(words)}; default: {words[0]}",
        rich_help_panel=panel,
    )


TYPED = "typed"
_OF_EVERY_COMMAND = (
    ("quiet", ("--quiet", "-q"), "Write only results, warnings and errors: no notes, no progress."),
    ("verbose", ("--verbose", "-v"), "Say more, such as which checkpoint is read."),
    ("debug", ("--debug",), "Show the traceback of an error."),
)
_SEVERAL = tuple[str, ...]  # the type of a field whose option may be given several times


def command_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its configurations, and those of every command.

    A parameter whose type is a configuration stands for the options of its fields, and receives
    the configuration made from them: ``config: SamplingConfig``. ``Annotated[ScoringConfig,
    "open_vocabulary"]`` has that option alone. A field that an earlier configuration has too is
    one option. A parameter ``typed`` receives the names of the fields whose options were typed.
    """
    own = inspect.signature(command).parameters
    configs: dict[str, type[Config]] = {}
    fields: dict[str, inspect.Parameter] = {}
    parameters: list[inspect.Parameter] = []
    for name, each in own.items():
        config = getattr(each.annotation, "__origin__", each.annotation)
        if isinstance(config, type) and issubclass(config, Config):
            configs[name] = config
            names = getattr(each.annotation, "__metadata__", config.fields())
            for field, spec in config.fields().items():
                if "help" in spec.metadata and field in names and field not in fields:
                    fields[field] = _field_parameter(field, spec)
                    parameters.append(fields[field])
        elif name != TYPED:
            parameters.append(each)
    parameters += [
        _parameter(name, Annotated[bool, typer.Option(*spellings, help=help)], False)
        for name, spellings, help in _OF_EVERY_COMMAND
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        del values["debug"]  # main() reads it from the arguments
        quiet, verbose = values.pop("quiet"), values.pop("verbose")
        if quiet and verbose:
            raise not_both("--quiet", "--verbose")
        console.set_verbosity(quiet=quiet, verbose=verbose)
        given = {name: values.pop(name) for name in fields}
        typed = {name: value for name, value in given.items() if value is not None}
        for name, config in configs.items():
            values[name] = config.from_options(typed)
        for parameter in parameters:
            if values.get(parameter.name) == "":
                _refuse_empty_path(parameter)
        if TYPED in own:
            values[TYPED] = frozenset(typed)
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


_PATHS = frozenset({"CHECKPOINT", "DIR", "FILE", "[FILE]", "LIST", "REFERENCES"})


def _refuse_empty_path(parameter: inspect.Parameter) -> None:
    """Raise UsageError if the parameter is a path: an empty one would be the current folder."""
    (info,) = parameter.annotation.__metadata__
    if info.metavar in _PATHS:
        is_option = isinstance(info, typer.models.OptionInfo)
        name = flag(parameter.name) if is_option else info.metavar.strip("[]")
        raise UsageError(f"{name} is empty", fix="name a file or a folder; . is the current one")


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


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _field_parameter(field: str, spec: "dataclasses.Field[Any]") -> inspect.Parameter:
    """The option of a field. None: not typed; the configuration has the real default."""
    hint, name, metadata = field_type(spec), flag(field), spec.metadata
    is_switch, is_list = hint is bool, hint == _SEVERAL
    option = typer.Option(
        f"{name}/--no-{name.removeprefix('--')}" if is_switch else name,
        parser=_field_parser(name, hint, metadata["parse"]),
        metavar=metadata["metavar"] or _metavar(name, hint),
        help=metadata["help"],
        show_default=_remark(hint, spec.default, metadata["shown"], metadata["bounds"]) or False,
        rich_help_panel=metadata["panel"],
    )
    kind: Any = bool if is_switch else list[str] if is_list else str
    return _parameter(field, Annotated[kind | None, option], None)


def _field_parser(name: str, hint: Any, parse: Parser | None) -> Parser | None:
    if hint is bool:
        return None
    if hint == _SEVERAL:  # each of the texts is parsed alone
        return functools.partial(typed_text, name)
    if parse is not None:
        return parse
    if typing.get_origin(hint) is Literal:
        return choice(name, typing.get_args(hint))
    if hint is int:
        return whole_number(name)
    return _parser(name, "a number", float) if hint is float else str


def _metavar(name: str, hint: Any = None) -> str:
    """The name of an option's value in the help: ``--subword-model MODEL``, ``--steps N``."""
    kinds: dict[Any, str] = {int: "N", float: "X", str: "TEXT", _SEVERAL: "TEXT"}
    return kinds.get(hint) or name.rpartition("-")[2].upper()


def _remark(hint: Any, default: Any, shown: str | None, bounds: Bounds | None) -> str:
    """The choices or the range, and the default, as the help shows them."""
    if shown is None and isinstance(default, float):
        shown = f"{default:g}"
    elif shown is None and default not in (None, False, ()):
        shown = str(default)
    choices = ", ".join(typing.get_args(hint)) if typing.get_origin(hint) is Literal else ""
    if bounds is not None and hint is float:
        choices = bounds.in_words()
    return "; ".join(filter(None, (choices, shown and f"default: {shown}")))


def _expanded(preset: str) -> str:
    """A preset as the options that it stands for."""
    return f"{preset} is " + " ".join(
        flag(f"no_{name}")
        if value is False
        else f"{flag(name)} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in PRESETS[preset].items()
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
    number_option("--threads", "Number of CPU threads.", default="all cores", panel=_MACHINE),
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
SkipBinaryOption = Annotated[
    bool,
    typer.Option(
        "--skip-binary",
        help="Leave out of a folder whatever is not text in the encoding, however much it is."
        " Otherwise more than a tenth is an error.",
        rich_help_panel=_READING,
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
    number_option(
        "--jobs",
        "Number of processes, each with its own copy of the model, and its own GPU if there are"
        " several.",
        default=1,
        panel=_MACHINE,
    ),
]


def say_notes(model: "LanguageModel") -> None:
    """Write the notes on a model that was loaded."""
    console.detail(f"reading {model.path}")
    for message in model.notes:
        console.note(message)


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
        for message in self._findings.notes():
            console.note(message)
        say_notes(model)


def refuse_pseudo(model: "LanguageModel", option: str) -> None:
    """Raise UsageError if the model gives no true probabilities, which the option needs."""
    if not model.is_causal:
        raise UsageError(
            f"{option} needs probabilities",
            where=model.path,
            why="a bidirectional model gives pseudo-log-probabilities",
            fix=(
                *(
                    ["use --format table, csv, tsv or json"]
                    if option.startswith("--format")
                    else []
                ),
                "use textgen pairs, or a causal model",
            ),
        )
