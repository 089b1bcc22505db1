"""What all pictures have in common on the command line: where they go, and as what."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli.fields import choice_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from textgen.presentation.pictures.file import PictureFile
    from textgen.presentation.pictures.rows import Row

Format = Literal["picture", "json", "tsv"]

Checkpoints = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT...", help="The folders that train wrote.", show_default=False
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Draw into this file, a .png or .svg, instead of the terminal.",
        show_default=False,
    ),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "The picture, or its numbers.")]
ReadOption = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="What to read; without it, the text held out of the training, where it still is,"
        " else the bundled stories.",
        show_default=False,
    ),
]


@contextmanager
def opened(out: str | None) -> "Iterator[PictureFile | None]":
    """The file to draw into: whether it can be written is known before any work is done."""
    if out is None:
        yield None
        return
    from textgen.presentation.pictures.file import PictureFile

    with PictureFile(out) as file:
        yield file


def deliver(
    file: "PictureFile | None",
    output: Format,
    *,
    figure: Callable[[], Any],
    terminal: "Callable[[int], RenderableType]",
    rows: "Callable[[], Iterable[Row]]",
) -> None:
    """Draw into the file, if there is one; else show the picture, or the numbers if asked."""
    from textgen.presentation import console
    from textgen.presentation.pictures import rows as numbers

    if file is not None:
        file.save(figure())
        console.note(f"drawn into {file.path}")
    if output != "picture":
        numbers.FORMATS[output](rows())
    elif file is None:
        console.show(terminal(console.out_console().width))
