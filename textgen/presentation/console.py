"""All output for people: results to stdout, everything else to stderr.

rich lays out the text. It is written here, so that a full disk, a closed pipe and a terminal
without UTF-8 are each handled in one place.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text
from rich.theme import Theme

from textgen.errors import ResourceError

_THEME = Theme(
    {
        "heading": "bold",
        "label": "dim",
        "faint": "dim",
        "accent": "cyan",
        "good": "green",
        "warning": "yellow",
        "unknown": "bold yellow",
        "copied": "underline yellow",
        "error": "bold red",
    }
)
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def prepare_streams() -> None:
    """Make stdout and stderr print any text, whatever the locale is.

    What UTF-8 cannot encode (half a surrogate pair, from a file name in another encoding) is
    written as an escape, which is also valid inside a JSON string.

    Raises:
        ResourceError: stdout is closed.
    """
    if sys.stderr is None:  # closed by the shell: "2>&-"
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    if sys.stdout is None:
        raise ResourceError("cannot write", where="standard output", why="it is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def out_console() -> Console:
    """A console that lays out results for the current stdout; ``emit`` writes them."""
    return _console(sys.stdout)


def live_console() -> Console:
    """A console that writes to stderr itself, as a display that changes in place must."""
    return _console(sys.stderr, file=sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    """Whether this stream is a terminal that can move its cursor."""
    try:
        watched = stream.isatty()
    except ValueError:  # closed
        return False
    return watched and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def emit(text: str) -> None:
    """Write a result to stdout; on a terminal without delay.

    Raises:
        ResourceError: It cannot be written.
        BrokenPipeError: The reader of the pipe has ended.
    """
    try:
        sys.stdout.write(text)
        if sys.stdout.isatty():
            sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def finish_output() -> None:
    """Write what is still buffered; raises as ``emit`` does.

    Otherwise a full disk is noticed only when Python exits, too late for an exit code.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _unwritten(error) from error


def abandon_output() -> None:
    """Discard what stdout still buffers, so that the exit of Python does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def show(*renderables: RenderableType, widest: int | None = None) -> None:
    """Write results to stdout, laid out for it, in no more than ``widest`` columns."""
    console = out_console()
    console.width = min(console.width, widest or console.width)
    text = laid_out(console, *renderables)
    if not console.is_terminal:
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    emit(text)


def say(*renderables: RenderableType) -> None:
    """Write to stderr; that it cannot be written is no error."""
    console = _console(sys.stderr)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(laid_out(console, *renderables))
        sys.stderr.flush()


def note(message: str) -> None:
    """Write a note to stderr: neither result nor error."""
    in_lines = not is_terminal(sys.stderr)
    say(Text.assemble(("note: ", "accent"), (shown(message), "label"), no_wrap=in_lines))


def say_error(line: str) -> None:
    """Write the one line of a command that failed."""
    say(Text.assemble("textgen: ", ("error", "error"), f": {shown(line)}", no_wrap=True))


def say_plain(text: str) -> None:
    """Lines on stderr as they are, such as a traceback."""
    say(Text(shown(text, keep="\n\t"), no_wrap=True))


def laid_out(console: Console, *renderables: RenderableType) -> str:
    """The characters, escape codes included, that draw these on the console.

    A Text that is marked ``no_wrap`` keeps its lines as they are, however long.
    """
    with console.capture() as capture:
        for renderable in renderables:
            as_it_is = isinstance(renderable, Text) and bool(renderable.no_wrap)
            console.print(renderable, soft_wrap=as_it_is)
    return capture.get()


def shown(text: str, *, keep: str = "") -> str:
    r"""Text that cannot drive the terminal: control characters appear as escapes.

    keep: control characters to leave as they are.

    >>> shown("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


def escape(character: str) -> str:
    r"""The escape of a character in Python: ``\n``, ``\x1b``, ``\u202e``."""
    return character.encode("unicode_escape").decode()


def _console(stream: TextIO, file: TextIO | None = None) -> Console:
    """A console with the width and colours of a stream. Without ``file`` it only lays out.

    rich flushes its stream after every layout, and handles the errors of that in its own way.
    """
    watched = stream.isatty()
    # Without a terminal rich takes 80 columns; here COLUMNS counts everywhere.
    width = None if watched else shutil.get_terminal_size((80, 24)).columns
    return Console(
        file=file or io.StringIO(),
        force_terminal=True if watched else None,
        theme=_THEME,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _unwritten(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return BrokenPipeError(*error.args)  # the reader of the pipe has ended
    return ResourceError("cannot write", where="standard output", why=error.strerror or str(error))
