"""The options and arguments that several commands share."""

from typing import Annotated, Literal

import typer

from textgen.cli import parsing
from textgen.cli.fields import choice_option
from textgen.config import PRESETS, Device, LogBase, flag

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
        parser=parsing.whole_number("--threads", least=1),
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
        parser=parsing.choice("--preset", tuple(PRESETS)),
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
        parser=parsing.log_base("--log-base"),
        metavar="BASE",
        help="The base of the logarithms that are shown: e or a number above 1.",
        show_default="default: e",
    ),
]
